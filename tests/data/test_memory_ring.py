"""The ring and the clock: what acting reads of the past."""

import pytest
import torch

from fastrl.data.memory_bank import MemoryBank
from fastrl.data.memory_ring import EpisodeClock, MemoryRing
from fastrl.errors import SettingError
from fastrl.nn.memory_transformer import Transformer

CPU = torch.device("cpu")


def flags(*values):
    return torch.tensor([bool(value) for value in values])


def test_the_clock_starts_again_after_the_row_that_shows_the_last_observation():
    clock = EpisodeClock(2, limit=3, device=CPU)
    seen = [clock.position.tolist()]
    for valid, done in (
        ((1, 1), (0, 0)),
        ((1, 1), (1, 0)),
        ((0, 1), (0, 1)),
        ((1, 0), (0, 0)),
        ((1, 1), (0, 0)),
    ):
        clock.advance(flags(*valid), flags(*done))
        seen.append(clock.position.tolist())
    # the first environment ends after two steps, the second after three; a row after an end shows the last
    # observation, at step 2 and 3
    assert seen == [[0, 0], [1, 1], [2, 2], [0, 3], [1, 0], [2, 1]]


def test_a_row_that_was_not_stepped_stays_where_it_is():
    clock = EpisodeClock(1, limit=None, device=CPU)
    for valid in (1, 0, 0, 1):
        clock.advance(flags(valid), flags(0))
    assert clock.position.item() == 2


def test_an_episode_beyond_the_limit_is_an_error_and_no_silent_overwrite():
    clock = EpisodeClock(2, limit=2, device=CPU)
    clock.advance(flags(1, 1), flags(0, 0))
    with pytest.raises(
        SettingError, match="max_episode_steps is 2, but environment 1 is in a longer episode"
    ):
        clock.advance(flags(1, 1), flags(1, 0))


@pytest.mark.parametrize("encoding", ["absolute", "learned", "relative", "none"])
@pytest.mark.parametrize("heads", [1, 2])
def test_refilling_the_ring_gives_what_writing_gave(encoding, heads):
    torch.manual_seed(0)
    transformer = Transformer(2, 8, heads, 20, encoding)
    memory = MemoryRing(transformer, 2, 3, CPU)
    bank = MemoryBank(num_layers=2, num_envs=2, num_steps=12, memory_length=3, dim=8)
    with torch.no_grad():
        for step in range(11):
            tokens = transformer.stored(torch.randn(2, 2, 8), memory.clock.position)
            done = flags(step == 4, step == 8)
            valid = flags(step not in (5, 8), step != 9)  # a reset row, a held row; a reset row
            memory.write(tokens, valid)
            bank.write(tokens, memory.clock.position)
            bank.advance(valid)
            memory.clock.advance(valid, done)
        written = [(layer.keys.clone(), layer.values.clone()) for layer in memory.banks]
        memory.refill(*bank.recent())
    seen = memory.window().mask
    assert seen.tolist() == [[True] * 3, [True, False, False]]
    for (keys, values), layer in zip(written, memory.banks, strict=True):
        torch.testing.assert_close(layer.keys[seen], keys[seen])
        torch.testing.assert_close(layer.values[seen], values[seen])


def test_a_ring_of_nothing():
    transformer = Transformer(1, 4, 1, 20, "none")
    memory = MemoryRing(transformer, 2, 0, CPU)
    memory.write(torch.randn(1, 2, 4), flags(1, 0))
    memory.refill(torch.zeros(1, 2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    assert memory.window().index.shape == (2, 0)
