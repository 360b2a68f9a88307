"""See a symbol and name it; see a point and go there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys.dynamics import LARGEST_SIZE, ToyDynamics, require_size


class Identity(ToyDynamics):
    """See a symbol, name it: reward 1 when the action is the symbol shown, else 0; a new symbol every step.

    Optimum: the episode's length. Guessing: length / num_symbols.

    Args:
        seeds: one per column.
        num_symbols: symbols, one-hot in the observation, and actions.
        max_episode_steps: length of every episode (truncated).
    """

    _state = ("elapsed", "symbol")

    def __init__(self, seeds: Sequence[int], *, num_symbols: int = 4, max_episode_steps: int = 16) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        require_size("num_symbols", num_symbols, LARGEST_SIZE)
        self.obs_size = num_symbols
        self.action = ActionSpec.discrete(num_symbols)
        self.optimal_return = float(max_episode_steps)
        self.symbol = np.zeros(self.num_envs, np.int64)

    def _begin(self, columns: np.ndarray) -> None:
        drawn = (self.random.uniform(columns) * self.obs_size).astype(np.int64)
        self.symbol = np.where(columns, drawn, self.symbol)

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reward = (actions == self.symbol).astype(np.float64)
        self._begin(columns)
        return reward, np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        return np.eye(self.obs_size, dtype=np.float32)[self.symbol]


class IdentityContinuous(ToyDynamics):
    """See a point x in [−1, 1]^A, go there: reward −Σ (a − x)², a new point every step. Optimum: 0.

    Args:
        seeds: one per column.
        dim: A.
        max_episode_steps: length of every episode (truncated).
    """

    _state = ("elapsed", "point")

    def __init__(self, seeds: Sequence[int], *, dim: int = 1, max_episode_steps: int = 16) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        require_size("dim", dim, LARGEST_SIZE)
        self.obs_size = dim
        self.action = ActionSpec("continuous", (dim,), (), -torch.ones(dim), torch.ones(dim))
        self.optimal_return = 0.0
        self.point = np.zeros((self.num_envs, dim), np.float32)

    def _begin(self, columns: np.ndarray) -> None:
        for i in range(self.obs_size):
            self.point[columns, i] = (2.0 * self.random.uniform(columns) - 1.0)[columns]

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reward = -np.square(actions.astype(np.float64) - self.point).sum(axis=1)
        self._begin(columns)
        return reward, np.zeros(self.num_envs, bool)

    def observe(self) -> np.ndarray:
        return self.point.copy()
