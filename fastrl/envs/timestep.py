"""What steps of environments return, and the episodes that they make up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Timestep(NamedTuple):
    """What one step of N environments returned. The tensors are new: no later step writes into them.

    Args:
        obs: float32 or uint8 [N, *obs_shape], observation after the step and before any reset.
        reward: float32 [N]; 0 where not valid.
        terminated: bool [N], the episode ended by its own rules.
        truncated: bool [N], the episode was cut, by a time limit for example.
        valid: bool [N], False on a row that is no transition (the one that resets an environment).
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor

    @property
    def transitions(self) -> int:
        """Number of rows that are transitions."""
        return (
            int(np.count_nonzero(self.valid.numpy()))
            if self.valid.device.type == "cpu"
            else int(self.valid.sum())
        )


class Episode(NamedTuple):
    """A finished episode: which environment, the sum of its rewards over valid rows, and their number."""

    env_index: int
    episode_return: float
    length: int


class Advance(NamedTuple):
    """What a subclass of `VectorEnv` returns from one step: arrays that the caller may keep and write into.

    Args:
        obs: [N, *obs_shape] in the environment's `obs_dtype`.
        reward: float [N]; anything on rows that are no transition.
        terminated, truncated: bool [N].
        held: bool [N] or None, columns that were not stepped at all though their episode goes on.
        score: float [N] or None, reward for the episode statistics where it differs from the reward to learn
            from.
        over: bool [N] or None, ends of the episodes to report where they differ from the ends to learn from.
    """

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    held: np.ndarray | None = None
    score: np.ndarray | None = None
    over: np.ndarray | None = None
