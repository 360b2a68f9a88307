"""Random generators: seeded together, and carried over a checkpoint."""

import random

import numpy as np
import pytest
import torch

from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
from fastrl.runs.seeding import rng_state, seed_everything, set_rng_state


def draw():
    # gauss() and standard_normal() keep half a pair: state beyond the words of the generator
    return torch.randn(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random()


@pytest.fixture(autouse=True)
def restore():
    before = rng_state()
    yield
    set_rng_state(before)


def test_the_same_seed_gives_the_same_numbers():
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    second = draw()
    assert all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32, "5", 1.5])
def test_seeds_outside_the_range(seed):
    with pytest.raises(ValueError, match="seed_everything: seed must be a whole number in"):
        seed_everything(seed)


def test_generators_go_on_after_a_checkpoint(tmp_path):
    seed_everything(1)
    draw()
    random.gauss(0, 1)
    np.random.standard_normal()
    state = load_checkpoint(save_checkpoint(tmp_path, rng_state(), step=0))
    expected = draw()
    seed_everything(99)
    set_rng_state(state)
    assert draw() == expected


def test_states_of_missing_gpus_are_passed_over(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    state = rng_state() | {"cuda": [torch.zeros(16, dtype=torch.uint8)]}
    expected = draw()
    set_rng_state(state)
    assert draw() == expected
