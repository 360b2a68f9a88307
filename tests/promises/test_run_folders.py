"""A run folder belongs to one process at a time, leads nowhere else, and can be continued whenever its run
was killed."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastrl.errors import CheckpointError, RunFolderError, SettingError
from fastrl.runs.checkpoint import load_checkpoint
from fastrl.runs.run_folder import open_run
from fastrl.runs.run_lock import RunLock
from fastrl.runs.state_codec import encode_state

Make = Callable[..., Any]


class Killed(BaseException):
    """Ends a run without a word, as a signal that cannot be caught would."""


def train(trainer: Any, folder: Path, steps: int) -> None:
    trainer.train(total_steps=steps, out_dir=str(folder))


def die_at_round(trainer: Any, rounds: int) -> None:
    """Kill the process, so to speak, when it begins to collect for the so-and-so-many-th time."""
    collect, left = trainer.collect, iter(range(rounds - 1))

    def collect_or_die() -> bool:
        if next(left, None) is None:
            trainer.save = lambda path: pytest.fail("a killed process saves nothing")
            raise Killed
        return bool(collect())

    trainer.collect = collect_or_die


def rows(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without what a clock measured."""
    with (folder / "metrics.csv").open() as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("time/")}
            for row in csv.DictReader(file)
        ]


def learned(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """The agent of a run's newest checkpoint."""
    return encode_state(load_checkpoint(folder / "checkpoints")["learner"])


def assert_same_run(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    (values, tensors), (other_values, other_tensors) = learned(one), learned(other)
    assert values == other_values
    for name, tensor in tensors.items():
        assert tensor.equal(other_tensors[name]), name


def test_a_folder_in_use_is_refused_untouched(
    algorithm: str, trainer_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins = types.SimpleNamespace(
        init=lambda **_: pytest.fail("the run is tracked before the folder is its own")
    )
    monkeypatch.setitem(sys.modules, "wandb", begins)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with RunLock(tmp_path):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        with (
            trainer_of(algorithm) as trainer,
            pytest.raises(RunFolderError, match="is in use by another thread of this process"),
        ):
            trainer.track = "wandb"
            train(trainer, tmp_path, 64)
    finally:
        done.set()
        holder.join()
    assert trainer.env_steps == 0 and list(tmp_path.iterdir()) == []


def test_links_out_of_the_folder_are_not_followed(algorithm: str, trainer_of: Make, tmp_path: Path) -> None:
    run, mine = tmp_path / "run", tmp_path / "mine"
    run.mkdir()
    mine.mkdir()
    (run / "checkpoints").symlink_to(mine)
    with trainer_of(algorithm) as trainer:
        with pytest.raises(RunFolderError, match="checkpoints cannot be used as a folder: it is a link"):
            train(trainer, run, 64)
        with pytest.raises(CheckpointError, match="checkpoints cannot be used as a folder: it is a link"):
            trainer.load(run)
    assert list(mine.iterdir()) == []


def test_a_run_that_is_killed_before_its_second_checkpoint_goes_on(
    algorithm: str, trainer_of: Make, tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    with trainer_of(algorithm) as trainer:
        train(trainer, whole, 64)
    with trainer_of(algorithm) as trainer, pytest.raises(Killed):
        die_at_round(trainer, 2)
        train(trainer, run, 64)
    assert [folder.name for folder in (run / "checkpoints").glob("step-*")] == ["step-000000000000-0001"]
    with trainer_of(algorithm) as trainer:
        trainer.load(run)
        train(trainer, run, 64)
    assert_same_run(whole, run)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_that_is_removed_during_training_is_a_run_again(
    algorithm: str, trainer_of: Make, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with trainer_of(algorithm) as trainer:
        estimate, calls = trainer.estimate, iter([True])

        def remove_once() -> None:
            if next(calls, False):
                shutil.rmtree(run)
            estimate()

        trainer.estimate = remove_once
        train(trainer, run, 64)
    assert open_run(run).algorithm == algorithm
    assert (
        len(list((run / "checkpoints").glob("step-*"))) == 1
    )  # what ends at a checkpoint is not saved twice
    assert trainer.unwritten == (
        [] if algorithm in ("mpo", "sac") else ["events.out.tfevents.*", "metrics.csv"]
    )  # its first row comes later
    assert not trainer.unwritten or "cannot be written" in (run / "notes.txt").read_text()
    with trainer_of(algorithm) as trainer:
        trainer.load(run)
        assert trainer.env_steps >= 64


def exact_config(algorithm: str) -> dict[str, Any]:
    """An environment that cannot save its state, and a checkpoint every 32 steps."""
    changes: dict[str, Any] = {
        "env_id": "CartPole-v1",
        "exact_resume": True,
        "save_interval": 32,
        "total_steps": 128,
    }
    return changes | ({"env_id": "Pendulum-v1", "save_replay": True} if algorithm in ("mpo", "sac") else {})


def test_with_exact_resume_stopping_and_killing_change_nothing(
    algorithm: str, trainer_of: Make, tmp_path: Path
) -> None:
    changes = exact_config(algorithm)
    for name in ("whole", "stopped", "killed"):
        with trainer_of(algorithm, **changes) as trainer:
            if name == "killed":
                die_at_round(trainer, 48 if algorithm in ("mpo", "sac") else 3)
                with pytest.raises(Killed):
                    train(trainer, tmp_path / name, 128)
            else:
                train(trainer, tmp_path / name, 64 if name == "stopped" else 128)
    for name in ("stopped", "killed"):
        with trainer_of(algorithm, **changes) as trainer:
            trainer.load(tmp_path / name)
            assert 32 <= trainer.env_steps < 128
            train(trainer, tmp_path / name, 128)
        assert_same_run(tmp_path / "whole", tmp_path / name)


def test_exact_resume_needs_environments_that_can_be_made_again(trainer_of: Make, tmp_path: Path) -> None:
    with trainer_of("vmpo", exact_resume=True) as trainer:
        trainer.can_make_envs = False
        with pytest.raises(SettingError, match="exact_resume needs environments that can be made again"):
            train(trainer, tmp_path / "run", 64)
    assert not os.path.lexists(tmp_path / "run")
    with pytest.raises(SettingError, match="exact_resume needs save_replay"):
        trainer_of("mpo", exact_resume=True).config.check()
