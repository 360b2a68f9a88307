"""Absolute positions of very long episodes: the rows of a table that is never made."""

import pytest
import torch

from fastrl.nn import memory_transformer
from fastrl.nn.memory_transformer import Transformer
from fastrl.nn.positions import PositionalEncoding


def test_rows_are_those_of_the_table():
    encoding = PositionalEncoding(16)
    table, index = encoding(500), torch.tensor([[0, 3, 499], [250, 1, 2]])
    assert torch.allclose(encoding.rows(index, 500), table[index], atol=1e-5)


def test_neighbouring_steps_differ_however_long_the_episode_may_be():
    rows = PositionalEncoding(16).rows(torch.arange(5), 2**31 - 1)
    assert torch.isfinite(rows).all() and (rows[1:] - rows[:-1]).abs().amax(1).min() > 0.1


@pytest.fixture
def both(monkeypatch):
    with_table = Transformer(2, 8, 2, 50, "absolute")
    monkeypatch.setattr(memory_transformer, "LONGEST_TABLE", 49)
    without = Transformer(2, 8, 2, 50, "absolute")
    without.load_state_dict(with_table.state_dict())
    assert with_table.position_table is not None and without.position_table is None
    return with_table, without


def test_a_transformer_without_the_table_gives_the_same(both):
    torch.manual_seed(0)
    x, memory, positions = (
        torch.randn(3, 8),
        torch.randn(3, 4, 2, 8),
        torch.tensor([[0, 1, 2, 3], [9, 10, 11, 12], [45, 46, 47, 48]]),
    )
    mask = torch.tensor([[True] * 4, [False, True, True, True], [True] * 4])
    (out, new), (same, _) = (each(x, memory, mask, positions) for each in both)
    assert torch.allclose(out, same, atol=1e-5) and new.shape == (3, 2, 8)
    normalized, again = (each.normalize(memory.transpose(1, 2), positions[:, None]) for each in both)
    assert torch.allclose(normalized, again, atol=1e-5)


def test_the_largest_limit_takes_no_memory():
    assert Transformer(1, 8, 2, 2**31 - 1, "absolute").position_table is None
