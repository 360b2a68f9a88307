"""Proof of memory: what is shown at the start decides where to go at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys.dynamics import ToyDynamics


class ProofofMemory(ToyDynamics):
    """Two goals at −1 and +1, shown for the first two steps only: remember the good one, and walk to it.

    Observation [left goal, position, right goal]: the goals are +1 (good) and −1 (bad) in random order, and
    read 0 after two steps. The position starts at one of −0.4, −0.2, 0, 0.2, 0.4. Action 0 goes left and 1
    right by 0.2, but nothing moves in the first two steps, whose reward is 0. From then on a step costs 0.1,
    and the one that reaches an end gives +1.6 or −1.6 instead and terminates. An episode is truncated after
    16 steps.

    Optimum 1.20; without memory no policy has more than −0.28 (walk to the nearer end).
    """

    obs_size = 3
    action = ActionSpec.discrete(2)
    memoryless_return = -0.28
    frozen_steps = 2
    _state = ("elapsed", "cell", "right_goal")

    def __init__(self, seeds: Sequence[int], *, max_episode_steps: int = 16) -> None:
        super().__init__(seeds, max_episode_steps=max_episode_steps)
        self.optimal_return = (
            1.2 if max_episode_steps >= 9 else None
        )  # nine steps reach the far end from the worst start
        self.cell = np.zeros(
            self.num_envs, np.int64
        )  # position in steps of 0.2: exact, unlike a sum of floats
        self.right_goal = np.ones(self.num_envs, np.int64)

    def _begin(self, columns: np.ndarray) -> None:
        self.cell = np.where(columns, (self.random.uniform(columns) * 5).astype(np.int64) - 2, self.cell)
        self.right_goal = np.where(
            columns, np.where(self.random.uniform(columns) < 0.5, 1, -1), self.right_goal
        )

    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        free = (self.elapsed > self.frozen_steps) & columns
        self.cell = self.cell + np.where(free, 2 * actions - 1, 0)
        at_end = free & (np.abs(self.cell) == 5)
        reward = np.where(at_end, 1.6 * np.sign(self.cell) * self.right_goal, np.where(free, -0.1, 0.0))
        return reward, at_end

    def observe(self) -> np.ndarray:
        shown = np.where(self.elapsed < self.frozen_steps, self.right_goal, 0)
        return np.stack([-shown, self.cell / 5, shown], axis=1).astype(np.float32)
