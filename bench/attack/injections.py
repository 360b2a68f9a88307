"""NaN and infinity from the environment, at every place of every algorithm: named, never learned from, never
saved."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from small_runs import ALGORITHMS, train, trainer_of

from fastrl.errors import CheckpointError, NonFiniteError
from fastrl.runs.checkpoint import load_checkpoint

PLACES = ("reward", "obs", "last_reward", "last_obs", "trunc_obs", "reset_obs")
VALUES = (float("nan"), float("inf"), -float("inf"))


class Injecting(gym.Env[np.ndarray, Any]):
    """Random numbers, one of which is `value` at step `at` of `place`; episodes of ten steps."""

    def __init__(self, place: str, value: float, at: int, continuous: bool) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (2,)) if continuous else gym.spaces.Discrete(3)
        self.place, self.value, self.at, self.steps, self.length = place, value, at, 0, 0

    def _obs(self, bad: bool = False) -> np.ndarray:
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        if bad:
            obs[1] = self.value
        return obs

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.length = 0
        return self._obs(self.place == "reset_obs" and self.steps >= self.at), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps, self.length = self.steps + 1, self.length + 1
        bad = self.steps == self.at
        reward = self.value if bad and self.place.endswith("reward") else float(self.np_random.uniform(-1, 1))
        terminated = self.length >= 10 or (bad and self.place.startswith("last"))
        obs = self._obs(bad and self.place in ("obs", "last_obs", "trunc_obs"))
        return obs, reward, terminated, bad and self.place == "trunc_obs", {}


def run(calls: int, seed: int) -> dict[str, int]:
    """Counts of `calls` injections: `named`, and `other_errors`, `ran_on` and `bad_checkpoints`, which must
    be 0."""
    rng, counts = (
        random.Random(seed),
        Counter(injections=0, named=0, other_errors=0, ran_on=0, bad_checkpoints=0),
    )
    everything = itertools.cycle(itertools.product(PLACES, VALUES, (False, True), ALGORITHMS))
    for place, value, continuous, algorithm in itertools.islice(everything, calls):
        at = rng.randint(20, 60)
        with tempfile.TemporaryDirectory() as name:
            counts["injections"] += 1
            counts[_outcome(algorithm, lambda: Injecting(place, value, at, continuous), Path(name))] += 1  # noqa: B023
            counts["bad_checkpoints"] += any(
                not bool(tensor.isfinite().all()) for tensor in _saved(Path(name))
            )
    return dict(counts)


def _outcome(algorithm: str, factory: Any, folder: Path) -> str:
    trainer = trainer_of(algorithm, env_id=factory, max_episode_steps=10, save_interval=16)
    try:
        train(trainer, 400, folder)
    except NonFiniteError as error:
        return "named" if "step" in str(error) else "other_errors"
    except Exception:
        return "other_errors"
    finally:
        trainer.close()
    return "ran_on"


def _saved(folder: Path) -> Iterator[torch.Tensor]:
    try:
        state = load_checkpoint(folder / "checkpoints")
    except CheckpointError:
        return
    yield from _tensors(state)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
