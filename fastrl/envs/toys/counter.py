"""Episodes that count their own steps, so that a lost or doubled row of a stream is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys.dynamics import MOST_STEPS, ToyDynamics
from fastrl.errors import SettingError


class Counter(ToyDynamics):
    """Count steps: observation and next reward are the number of steps made (0, 1, 2, …).

    Actions do nothing.

    An episode of length L returns L (L − 1) / 2. On the reset row the raw environment claims `reset_reward`.

    Args:
        seeds: one per column; nothing is drawn.
        length: steps of an episode, one number or one per column.
        end: "terminated" or "truncated".
        reset_reward: reward that the raw environment gives on a reset row.
        max_episode_steps: a time limit besides.
    """

    obs_size = 1
    action = ActionSpec.discrete(2)

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        length: int | Sequence[int] = 8,
        end: str = "terminated",
        reset_reward: float = 1e9,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        if end not in ("terminated", "truncated"):
            raise SettingError(f"end must be 'terminated' or 'truncated', got {end!r}")
        if isinstance(reset_reward, bool) or not isinstance(reset_reward, int | float):
            raise SettingError(f"reset_reward must be a number, got {reset_reward!r}")
        lengths = _whole_numbers(length)
        if (
            lengths is None
            or lengths.shape not in ((), (self.num_envs,))
            or lengths.min() < 1
            or lengths.max() > MOST_STEPS
        ):
            raise SettingError(
                f"length must be a number of steps, or one per environment ({self.num_envs}), got {length!r}"
            )
        self.length = np.broadcast_to(lengths, (self.num_envs,))
        self.end = end
        self.reset_reward = reset_reward
        steps = self.length if max_episode_steps is None else np.minimum(self.length, max_episode_steps)
        self.optimal_return = float(np.mean(steps * (steps - 1) / 2))

    def _begin(self, columns: np.ndarray) -> None:
        pass

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.elapsed - 1.0, (self.elapsed >= self.length) & (self.end == "terminated")

    def step(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward, terminated, truncated = super().step(actions, columns)
        if self.end == "truncated":
            truncated = truncated | ((self.elapsed >= self.length) & columns)
        return reward, terminated, truncated

    def observe(self) -> np.ndarray:
        return self.elapsed.astype(np.float32)[:, None]


def _whole_numbers(values: Any) -> np.ndarray | None:
    """As int64, or None where they are no whole numbers."""
    try:
        array = np.asarray(values)
        return array.astype(np.int64) if array.dtype.kind in "iu" else None
    except (ValueError, OverflowError):
        return None
