"""An environment as a user of the library writes one, and ways to make it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Corridor(gym.Env):
    """Ten steps, each rewarded with the sum of the weights."""

    observation_space = gym.spaces.Box(0.0, 1.0, (3,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, weights: Any = (1.0,), table: Any = None) -> None:
        self.weights, self.table, self.position = weights, table, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.position += 1
        obs = np.full(3, 0.1 * self.position, np.float32)
        return obs, float(sum(self.weights)), False, self.position >= 10, {}


def two_corridors(weights: Any = (1.0,)) -> gym.vector.VectorEnv:
    """Two of them as a vector environment that is stepped as a whole."""
    return gym.wrappers.vector.RecordEpisodeStatistics(
        gym.vector.SyncVectorEnv([lambda: Corridor(weights)] * 2)
    )
