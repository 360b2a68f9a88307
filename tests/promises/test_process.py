"""A trainer changes nothing of the process but while it works, and then puts back what it found."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learners import modules_of, play, values_of

from fastrl.runs import allocator
from fastrl.runs.seeding import rng_state, seed_everything


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch has two threads, as no trainer of these tests does."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def state() -> dict[str, Any]:
    """What of the process a trainer might change; of the allocator what was set last."""
    rng = rng_state()
    return {
        "torch": rng["torch"].tolist(),
        "numpy": (rng["numpy"]["state"]["key"].tolist(), rng["numpy"]["state"]["pos"]),
        "python": rng["python"],
        "threads": torch.get_num_threads(),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "allocator": allocator._latest,
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "folder": os.getcwd(),
    }


@pytest.fixture
def before(trainer_of: Callable[..., Any], two_threads: None) -> dict[str, Any]:
    """The process, after a first trainer: the allocator's thresholds are known only once they were set."""
    with trainer_of("vmpo"):
        pass
    return state()


def test_only_a_session_changes_the_process(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Path, before: dict[str, Any]
) -> None:
    with trainer_of(algorithm, env_id="LinearQuadratic-v0") as trainer:
        assert state() == before
        with trainer.session(), trainer.session():
            inside = state()
            assert inside["threads"] == 1
            assert all(inside[name] != before[name] for name in ("torch", "numpy", "python"))
        assert state() == before
        trainer.train(total_steps=32, out_dir=str(tmp_path / "run"))
        trainer.evaluate(2)
        trainer.act(np.zeros(trainer.env.obs_shape, np.float32), deterministic=True)
        trainer.load(trainer.save(tmp_path / "saved"))
        assert state() == before
    trainer.close()
    assert state() == before


def test_the_seed_alone_decides(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    ends = []
    for disturbed in (1, 2):
        seed_everything(disturbed)
        with trainer_of(algorithm, env_id="LinearQuadratic-v0", seed=5) as trainer:
            seed_everything(disturbed)
            play(trainer)
            random.random(), np.random.rand(), torch.rand(1)
            play(trainer)
            ends.append(values_of(modules_of(trainer)))
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_generators_are_saved_and_loaded_in_a_session_and_outside(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm) as trainer:
        play(trainer)
        outside = trainer.state_dict()["rng"]
        with trainer.session():
            inside = trainer.state_dict()["rng"]
            following = torch.rand(3)
        assert torch.equal(outside["torch"], inside["torch"]) and outside["python"] == inside["python"]
        saved = trainer.state_dict() | {"rng": outside}
        trainer.load_state_dict(saved)
        with trainer.session():
            assert torch.equal(torch.rand(3), following)
            trainer.load_state_dict(saved)
            assert torch.equal(torch.rand(3), following)


def test_a_constructor_that_fails_changes_nothing(
    algorithm: str, trainer_of: Callable[..., Any], before: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="Unknown-v0") as failure:
        trainer_of(algorithm, env_id="Unknown-v0")
    assert state() == before  # while the error, and with it the trainer, is kept
    del failure


def test_sessions_of_two_trainers_lie_in_each_other(
    trainer_of: Callable[..., Any], before: dict[str, Any]
) -> None:
    first, second = trainer_of("vmpo", threads=1), trainer_of("vmpo", threads=3, seed=9)
    with first.session():
        of_first = state()
        with second.session():
            assert torch.get_num_threads() == 3
            assert state()["torch"] != of_first["torch"]
            torch.rand(1)
        assert state() == of_first
    assert state() == before


def test_sessions_that_overlap_put_back_what_the_first_one_found(
    trainer_of: Callable[..., Any], before: dict[str, Any]
) -> None:
    """As those of two threads do: the first ends while the second goes on."""
    with trainer_of("vmpo", threads=1) as first, trainer_of("vmpo", threads=3, seed=9) as second:
        first.session().__enter__()
        of_first = state()
        second.session().__enter__()
        torch.rand(1)
        of_second = state()
        first.session().__exit__(None, None, None)
        assert state() == of_second
        second.session().__exit__(None, None, None)
        assert state() == before
        with first.session():
            assert state() == of_first
    assert state() == before


def test_a_session_that_an_error_leaves_puts_everything_back(
    trainer_of: Callable[..., Any], before: dict[str, Any]
) -> None:
    with trainer_of("vmpo") as trainer:
        with pytest.raises(ZeroDivisionError), trainer.session():
            torch.rand(1)
            1 / 0  # noqa: B018
        assert state() == before


def test_threads_that_the_user_sets_meanwhile_stay(trainer_of: Callable[..., Any], two_threads: None) -> None:
    with trainer_of("vmpo") as trainer, trainer.session():
        torch.set_num_threads(3)
    assert torch.get_num_threads() == 3


def test_an_evaluation_has_the_trainer_s_threads(
    algorithm: str, trainer_of: Callable[..., Any], two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trainer_of(algorithm) as trainer:
        threads, actor = [], trainer.actor
        monkeypatch.setattr(
            trainer, "actor", lambda count: threads.append(torch.get_num_threads()) or actor(count)
        )
        trainer.evaluate(1)
    assert threads == [1] and torch.get_num_threads() == 2
