"""Every run has a row for what it did last, whatever the interval; no cell is NaN; and rows do not depend on
where a run was stopped."""

from __future__ import annotations

import csv
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrl.envs.base import VectorEnv
from fastrl.runs.trainer import Trainer

Rows = list[dict[str, str]]


def rows_of(run: Path) -> Rows:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(rows: Rows) -> Rows:
    """What is not measured with a clock; a column that came late is empty or missing before."""
    return [
        {name: cell for name, cell in row.items() if cell and not name.startswith("time/")} for row in rows
    ]


def change_steps(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Any], Any]) -> None:
    """`change(number of the step, timestep)` makes what every environment returns."""
    step, count = VectorEnv.step, 0

    def changed(env: VectorEnv, actions: Any) -> Any:
        nonlocal count
        count += 1
        return change(count, step(env, actions))

    monkeypatch.setattr(VectorEnv, "step", changed)


def test_what_came_after_the_last_row_is_logged_and_no_cell_is_nan(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_steps(
        monkeypatch, lambda count, timestep: timestep._replace(reward=timestep.reward * 0.0)
    )  # all returns are one number
    trainer = trainer_of(algorithm, log_interval=10_000)
    trainer.train(total_steps=64, out_dir=str(tmp_path))
    [row] = rows_of(tmp_path)
    assert int(row["env_steps"]) == trainer.env_steps >= 64
    assert any(
        name.startswith(("loss/", "kl/", "PolicyModel", "ValueModel", "Opt")) or "Model/" in name
        for name in row
    )
    assert not [name for name, cell in row.items() if cell and math.isnan(float(cell))]


def test_a_run_that_ends_before_its_first_update_has_a_row(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change_steps(
        monkeypatch, lambda count, timestep: (count == 3 and os.kill(os.getpid(), signal.SIGTERM)) or timestep
    )
    trainer = trainer_of(algorithm)
    trainer.train(total_steps=64, out_dir=str(tmp_path))
    assert trainer.interrupted == "SIGTERM" and trainer.updates == 0
    assert int(rows_of(tmp_path)[-1]["env_steps"]) == trainer.env_steps > 0


def test_rows_of_a_run_that_was_stopped_between_two_are_those_of_one_that_was_not(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"log_interval": 50} | (
        {"save_replay": True} if algorithm in ("mpo", "sac") else {}
    )
    trainer_of(algorithm, **changes).train(total_steps=96, out_dir=str(tmp_path / "whole"))
    trainer_of(algorithm, **changes).train(total_steps=64, out_dir=str(tmp_path / "parts"))
    again = trainer_of(algorithm, **changes)
    again.load(tmp_path / "parts")
    again.train(total_steps=96, out_dir=str(tmp_path / "parts"))
    assert without_times(rows_of(tmp_path / "parts")) == without_times(rows_of(tmp_path / "whole"))


def test_the_file_is_there_before_a_checkpoint_is(
    trainer_of: Callable[..., Any], algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, there = Trainer.save, []
    monkeypatch.setattr(
        Trainer,
        "save",
        lambda trainer, path: (there.append((tmp_path / "metrics.csv").exists()), save(trainer, path))[1],
    )
    with trainer_of(algorithm) as trainer:
        trainer.run(32, tmp_path)
    assert len(there) > 1 and all(there)
    assert rows_of(tmp_path) and all(row["env_steps"] for row in rows_of(tmp_path))
