"""An evaluation of every algorithm leaves episodes that do not end, says so, and has the bound that the user
gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrl.runs import evaluation


def test_episodes_without_a_meant_limit_are_left_and_said(
    algorithm: str, trainer_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LONGEST_EPISODE", 30)
    options = {
        "env_id": "Counter-v0",
        "env_kwargs": {"length": 2**40},
        "max_episode_steps": 2**31 - 1,
        "eval_episodes": 2,
    }
    trainer = trainer_of(algorithm, **options)
    with pytest.warns(
        UserWarning, match="2 of 2 episodes of Counter-v0 were left after 30 steps .* eval_max_steps"
    ):
        metrics = trainer.evaluate(2, seed=1)
    assert metrics["eval/length_mean"] == 30.0 and metrics["eval/cut_episodes"] == 2.0
    assert metrics["eval/return_mean"] == 30 * 29 / 2


def test_the_user_sets_the_bound(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    trainer = trainer_of(algorithm, eval_max_steps=5)
    with pytest.warns(UserWarning, match="were left after 5 steps"):
        trainer.train(total_steps=32, out_dir=str(tmp_path / "run"))
    header, row = (tmp_path / "run" / "eval.csv").read_text().splitlines()[:2]
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(values["eval/length_mean"]) == 5.0 and float(values["eval/cut_episodes"]) == 2.0
    assert "eval_max_steps = 5" in (tmp_path / "run" / "config.toml").read_text()
