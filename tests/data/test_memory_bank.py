"""The bank: what learning reads of the past."""

import torch

from fastrl.data.memory_bank import MemoryBank


def flags(*values):
    return torch.tensor([bool(value) for value in values])


def test_the_bank_keeps_real_steps_only_and_carries_the_last_ones_over():
    """One number per token: the step's name. The second row is no transition, and leaves nothing."""
    bank = MemoryBank(num_layers=1, num_envs=1, num_steps=5, memory_length=3, dim=1)
    for token, valid in ((1.0, 1), (99.0, 0), (2.0, 1), (3.0, 1), (4.0, 1)):
        bank.write(torch.full((1, 1, 1), token), torch.tensor([int(token)]))
        bank.advance(flags(valid))
    tokens, positions = bank.recent()
    assert tokens.flatten().tolist() == [2.0, 3.0, 4.0] and positions.tolist() == [[2, 3, 4]]
    bank.start()
    window = bank.window(torch.tensor([0]), bank.cursor, torch.tensor([2]))
    assert bank.tokens[0, 0, window.index[0]].flatten().tolist() == [2.0, 3.0, 4.0]
    assert window.mask.tolist() == [[False, True, True]]  # two steps into its episode


def test_a_bank_takes_as_many_slots_as_there_are_steps():
    bank = MemoryBank(num_layers=2, num_envs=3, num_steps=5, memory_length=4, dim=8)
    assert bank.tokens.shape == (2, 3, 4 + 5, 8)  # and not the longest episode's
