"""A linear system with a quadratic cost, whose best policy is known at every discount."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys.dynamics import ToyDynamics
from fastrl.errors import SettingError

LARGEST_NOISE = 1e6


class LinearQuadratic(ToyDynamics):
    """Keep a point at the origin cheaply: s' = 0.9 s + 0.5 a + w, reward −(s² + 0.1 a²).

    The disturbance w is uniform within ±`noise`.

    An episode starts at s uniform in [−1, 1] and is truncated, never terminated. The best action is
    −`gain(gamma)` · s whatever w does, among policies of any kind, as long as it is within the bounds ±2 of
    its own units.

    Args:
        seeds: one per column.
        noise: largest disturbance of a step.
        max_episode_steps: length of every episode (truncated).
    """

    obs_size = 1
    keep, move, state_cost, action_cost = 0.9, 0.5, 1.0, 0.1
    _state = ("elapsed", "point")

    def __init__(self, seeds: Sequence[int], *, noise: float = 0.1, max_episode_steps: int = 16) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise <= LARGEST_NOISE:
            raise SettingError(f"noise must be a number from 0 to {LARGEST_NOISE:g}, got {noise!r}")
        self.noise = float(noise)
        self.action = ActionSpec("continuous", (1,), (), torch.tensor([-2.0]), torch.tensor([2.0]))
        self.point = np.zeros(self.num_envs)

    @classmethod
    def value_curvature(cls, gamma: float) -> float:
        """P of the best policy's value −P s² + constant: the fixed point of the scalar Riccati equation."""
        curvature = 0.0
        for _ in range(1_000):
            cross = gamma * cls.keep * cls.move * curvature
            curved = cls.action_cost + gamma * cls.move**2 * curvature
            curvature = cls.state_cost + gamma * cls.keep**2 * curvature - cross**2 / curved
        return curvature

    @classmethod
    def gain(cls, gamma: float) -> float:
        """K of the best policy a = −K s at discount `gamma` without time limit."""
        curvature = cls.value_curvature(gamma)
        return gamma * cls.keep * cls.move * curvature / (cls.action_cost + gamma * cls.move**2 * curvature)

    def _begin(self, columns: np.ndarray) -> None:
        self.point = np.where(columns, 2.0 * self.random.uniform(columns) - 1.0, self.point)

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        action = actions.astype(np.float64)[:, 0]
        reward = -(self.state_cost * self.point**2 + self.action_cost * action**2)
        disturbance = self.noise * (2.0 * self.random.uniform(columns) - 1.0)
        self.point = np.where(columns, self.keep * self.point + self.move * action + disturbance, self.point)
        return reward, np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        return self.point.astype(np.float32)[:, None]
