"""An environment that fails ends the run of every trainer with its name, step and seed, and what was learned
before is kept."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import EnvironmentFailure
from fastrl.errors import NonFiniteError
from fastrl.runs.checkpoint import load_checkpoint

NUMBER = itertools.count()  # of environments made


class Failing(gym.Env[np.ndarray, np.ndarray]):
    """Episodes of ten steps; the environment made as number `index` does `what` at its step `at`.

    The twentieth step is the vector environment's twenty-first, number 20: there is a reset row before it.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, what: str = "nothing", value: float = 0.0, index: int = 1, at: int = 20) -> None:
        self.what = what if next(NUMBER) == index else "nothing"
        self.value, self.at, self.steps, self.episode_steps = value, at, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode_steps = 0
        return self._observation(self.what == "first observation" and self.steps >= self.at), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps, self.episode_steps = self.steps + 1, self.episode_steps + 1
        what = self.what if self.steps == self.at else "nothing"
        if what == "exit":
            raise SystemExit(3)
        if what == "signal":  # a process that gets the same signal as the trainer
            os.kill(os.getpid(), signal.SIGTERM)
            raise KeyboardInterrupt
        obs = self._observation(what in ("cut observation", "observation"))
        reward = self.value if what == "reward" else float(action[0] > 0)
        over = self.episode_steps == 10
        return obs, reward, over and what != "cut observation", over, {}

    def _observation(self, bad: bool) -> np.ndarray:
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        obs[1] = self.value if bad else obs[1]
        return obs


gym.register("Failing-v0", entry_point=Failing, disable_env_checker=True)


@pytest.fixture
def failing(
    monkeypatch: pytest.MonkeyPatch, trainer_of: Callable[..., Any], algorithm: str
) -> Callable[..., Any]:
    """`failing(**options of Failing)`: a trainer of the algorithm in such environments, normalising where it
    can."""

    def make(**options: Any) -> Any:
        monkeypatch.setitem(globals(), "NUMBER", itertools.count())
        settings: dict[str, Any] = (
            {} if algorithm in ("mpo", "sac") else {"normalize_observation": True, "normalize_reward": True}
        )
        if algorithm == "ppo-trxl":
            settings["max_episode_steps"] = 10
        return trainer_of(algorithm, env_id="Failing-v0", env_kwargs=options, **settings)

    return make


def numbers_of(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from numbers_of(part)
    elif isinstance(state, float | torch.Tensor | np.ndarray):
        yield torch.as_tensor(state)


def train(trainer: Any, config: Any, folder: Path) -> None:
    trainer.train(total_steps=64, out_dir=str(folder))


@pytest.mark.parametrize(
    ("what", "value", "step"),
    [
        ("reward", np.inf, 20),
        ("cut observation", np.nan, 20),
        ("first observation", -np.inf, 21),
    ],
)
def test_a_number_that_is_not_finite_is_named_and_nothing_of_it_is_saved(
    what: str,
    value: float,
    step: int,
    algorithm: str,
    failing: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    with failing(what=what, value=value) as trainer:
        name = what.split()[-1]
        expected = (
            rf"environment 1 of Failing-v0 \(seed {trainer.env.seeds[1]}\) returned a non-finite {name} at "
            rf"step {step}, .* in update \d"
        )
        with pytest.raises(NonFiniteError, match=expected) as caught:
            train(trainer, config_of(algorithm), tmp_path)
        assert "what was learned before is kept in" in str(caught.value) and trainer.updates > 0
        saved = load_checkpoint(tmp_path / "checkpoints")
        assert all(bool(torch.isfinite(number.double()).all()) for number in numbers_of(saved))
        assert saved["updates"] == trainer.updates and saved["env_steps"] == trainer.env_steps


def test_an_environment_that_exits_is_named_and_what_was_learned_is_kept(
    algorithm: str, failing: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    with failing(what="exit") as trainer:
        with pytest.raises(
            EnvironmentFailure,
            match=r"environment 1 of Failing-v0 failed at step 20 \(seed \d+\): SystemExit: 3; .* is kept in",
        ):
            train(trainer, config_of(algorithm), tmp_path)
        assert load_checkpoint(tmp_path / "checkpoints")["updates"] == trainer.updates > 0
    with failing() as again:
        again.load(tmp_path)
        assert again.updates == trainer.updates
        train(again, config_of(algorithm), tmp_path)
        assert again.env_steps >= 64 and again.updates > trainer.updates


def test_environments_that_fail_of_a_request_to_stop_end_the_run_with_a_checkpoint(
    algorithm: str, failing: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    with failing(what="signal") as trainer:
        train(trainer, config_of(algorithm), tmp_path)
        assert trainer.interrupted == "SIGTERM"
        assert load_checkpoint(tmp_path / "checkpoints")["env_steps"] == trainer.env_steps > 32


def test_what_fails_in_an_evaluation_is_said_of_it(algorithm: str, failing: Callable[..., Any]) -> None:
    with failing(what="observation", value=np.nan, index=3, at=5) as trainer:
        with pytest.raises(
            NonFiniteError,
            match=r"environment 1 of .* non-finite observation at step 4, .* during an evaluation",
        ):
            trainer.evaluate(6, seed=1)
    with (
        failing(what="exit", index=2, at=5) as trainer,
        pytest.raises(EnvironmentFailure, match="environment 0 of .* during an evaluation"),
    ):
        trainer.evaluate(6, seed=1)


def test_the_time_limit_reaches_the_environments(trainer_of: Callable[..., Any], algorithm: str) -> None:
    with trainer_of(algorithm, env_timeout=3) as trainer:
        assert trainer.env.timeout == 3.0
        with trainer.make_env(2, 1) as others:
            assert others.timeout == 3.0
