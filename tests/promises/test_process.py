"""A trainer leaves the process as it found it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch has two threads, as no trainer of these tests does."""
    before = torch.get_num_threads()
    gc.collect()  # trainers that earlier tests dropped
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def state() -> dict[str, Any]:
    """What of the process a trainer might change."""
    return {
        "threads": torch.get_num_threads(),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "folder": os.getcwd(),
    }


def test_close_puts_back_what_was_found(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
    two_threads: None,
) -> None:
    before = state()
    with trainer_of(algorithm, env_id="CartPole-v1", max_episode_steps=20) as trainer:
        assert torch.get_num_threads() == 1
        trainer.train(total_steps=32, out_dir=str(tmp_path))
    assert state() == before


def test_a_constructor_that_fails_changes_nothing(
    algorithm: str, trainer_of: Callable[..., Any], two_threads: None
) -> None:
    with pytest.raises(ValueError, match="Unknown-v0") as failure:
        trainer_of(algorithm, env_id="Unknown-v0")
    assert torch.get_num_threads() == 2  # while the error, and with it the trainer, is kept
    del failure


def test_of_two_trainers_the_last_to_close_puts_back_what_the_first_found(
    trainer_of: Callable[..., Any], two_threads: None
) -> None:
    first, second = trainer_of("vmpo", threads=1), trainer_of("vmpo", threads=3)
    assert torch.get_num_threads() == 3
    first.close()
    assert torch.get_num_threads() == 3
    second.close()
    second.close()
    assert torch.get_num_threads() == 2


def test_a_trainer_that_is_dropped_puts_it_back_too(
    trainer_of: Callable[..., Any], two_threads: None
) -> None:
    trainer = trainer_of("vmpo")
    assert torch.get_num_threads() == 1
    del trainer
    gc.collect()
    assert torch.get_num_threads() == 2


def test_threads_that_the_user_sets_meanwhile_stay(trainer_of: Callable[..., Any], two_threads: None) -> None:
    with trainer_of("vmpo"):
        torch.set_num_threads(3)
    assert torch.get_num_threads() == 3
