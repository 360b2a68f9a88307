"""An evaluation of every algorithm leaves episodes that do not end, says so, and has the bound that the user
gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from fastrl.runs import evaluation


class Endless(gym.Env[np.ndarray, np.ndarray]):
    """Rewards 0, 1, 2, … without an end."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.zeros(1, np.float32), float(self.steps - 1), False, False, {}


def test_episodes_without_a_meant_limit_are_left_and_said(
    algorithm: str, trainer_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "LONGEST_EPISODE", 30)
    options = {
        "env_id": Endless,
        "max_episode_steps": 2**31 - 1,
        "eval_episodes": 2,
    }
    trainer = trainer_of(algorithm, **options)
    with pytest.warns(
        UserWarning, match="2 of 2 episodes of Endless were left after 30 steps .* eval_max_steps"
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


def test_a_time_limit_holds_in_training_and_in_evaluation(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm, env_id=Endless, max_episode_steps=7) as trainer:
        while trainer.episodes < 2:
            trainer.collect()
        assert {length for _, length in trainer.recent} == {7}
        metrics = trainer.evaluate(2, seed=1)
    assert metrics["eval/length_mean"] == 7.0 and "eval/cut_episodes" not in metrics
