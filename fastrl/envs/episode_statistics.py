"""Returns and lengths of the episodes of N environments, summed as they go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrl.envs.saved import saved_array, saved_episodes
from fastrl.envs.timestep import Episode


class EpisodeStatistics:
    """Sums over the present episodes, and the episodes that have finished.

    Args:
        num_envs: N.

    Attributes:
        returns, lengths: float64 and int64 [N], rewards and steps so far of the episodes going on now.
        finished: those that have ended since `pop`, oldest first.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.finished: list[Episode] = []
        self.begin()

    def begin(self) -> None:
        """An episode begins in every environment; unfinished ones are forgotten."""
        self.returns = np.zeros(self.num_envs, np.float64)
        self.lengths = np.zeros(self.num_envs, np.int64)

    def count(self, score: np.ndarray, valid: np.ndarray, over: np.ndarray) -> None:
        """One step: rewards [N], 0 where `valid` [N] is False, and where an episode is over (bool [N])."""
        self.returns += score
        self.lengths += valid
        if np.count_nonzero(over):
            for i in over.nonzero()[0].tolist():
                self.finished.append(Episode(i, float(self.returns[i]), int(self.lengths[i])))
            self.returns[over] = 0.0
            self.lengths[over] = 0

    def pop(self) -> list[Episode]:
        """Episodes that finished since the last call."""
        finished, self.finished = self.finished, []
        return finished

    def state_dict(self) -> dict[str, Any]:
        """Plain values and arrays."""
        finished = [list(episode) for episode in self.finished]
        return {"returns": self.returns.copy(), "lengths": self.lengths.copy(), "finished": finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; ValueError if it is none, and nothing has changed then."""
        returns, lengths = (
            saved_array(state, name, like)
            for name, like in (("returns", self.returns), ("lengths", self.lengths))
        )
        finished = [Episode(*episode) for episode in saved_episodes(state, self.num_envs)]
        self.returns, self.lengths, self.finished = returns, lengths, finished
