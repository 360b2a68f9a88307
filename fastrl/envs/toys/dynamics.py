"""What the toy environments share: N columns of numpy arrays, random streams, and their saved state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.saved import saved_array
from fastrl.errors import SettingError

LARGEST_SIZE = 2**16  # symbols, dimensions: an observation has as many numbers
MOST_STEPS = 2**53  # they are rewards too
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class ColumnRandom:
    """One random stream per column, as a function of (seed, number of the draw).

    What a column draws depends on nothing but its seed and how much it has drawn: not on its neighbours, nor
    on when they are reset. The numbers are SplitMix64's.

    Args:
        seeds: one per column.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.drawn = np.zeros(len(seeds), np.int64)
        self._keys = _mix(np.array([seed % 2**64 for seed in seeds], np.uint64) + _GOLDEN)

    def uniform(self, columns: np.ndarray) -> np.ndarray:
        """A number in [0, 1) for each column where `columns` (bool [N]) is True, and 0 elsewhere."""
        self.drawn += columns
        words = _mix(self._keys + self.drawn.astype(np.uint64) * _GOLDEN)
        return np.where(columns, (words >> np.uint64(11)) * 2.0**-53, 0.0)


def _mix(words: np.ndarray) -> np.ndarray:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class ToyDynamics(ABC):
    """Dynamics of N independent columns.

    Args:
        seeds: one per column.
        max_episode_steps: steps after which an episode is truncated; None for no limit.

    Attributes:
        obs_shape, obs_dtype: of one observation; vectors of `obs_size` float32 numbers unless a toy says
            otherwise.
        elapsed: int64 [N], steps of the present episodes.
        optimal_return: return of the best policy, averaged over starts; None where it is not known.
        memoryless_return: return of the best policy that sees the present observation only, where that is
            less.
    """

    obs_size: int
    obs_shape: tuple[int, ...] = ()
    obs_dtype: torch.dtype = torch.float32
    action: ActionSpec
    optimal_return: float | None = None
    memoryless_return: float | None = None
    reset_reward: float = (
        0.0  # what the raw environment claims on a reset row; a stream that lets it through is broken
    )
    _state: tuple[str, ...] = ("elapsed",)

    def __init__(self, seeds: Sequence[int], *, max_episode_steps: int | None = None) -> None:
        if max_episode_steps is not None:
            require_size("max_episode_steps", max_episode_steps, MOST_STEPS)
        self.num_envs = len(seeds)
        self.max_episode_steps = max_episode_steps
        self.random = ColumnRandom(seeds)
        self.elapsed = np.zeros(self.num_envs, np.int64)

    def start(self, columns: np.ndarray) -> None:
        """Begin an episode where `columns` (bool [N]) is True."""
        self.elapsed[columns] = 0
        self._begin(columns)

    def step(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step where `columns` is True; the others stand still with reward 0.

        Returns (reward, terminated, truncated), each [N].
        """
        self.elapsed += columns
        reward, terminated = self._move(actions, columns)
        terminated = terminated & columns
        if self.max_episode_steps is None:
            truncated = np.zeros(self.num_envs, bool)
        else:
            truncated = (self.elapsed >= self.max_episode_steps) & columns & ~terminated
        return np.where(columns, reward, 0.0), terminated, truncated

    @abstractmethod
    def _begin(self, columns: np.ndarray) -> None: ...

    @abstractmethod
    def _move(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Change the state where `columns` is True, `elapsed` being counted up: (reward, terminated)."""

    @abstractmethod
    def observe(self) -> np.ndarray:
        """Observations [N, *obs_shape], a new array."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Every array of the state."""
        return {name: getattr(self, name).copy() for name in self._state} | {
            "drawn": self.random.drawn.copy()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`.

        Raises:
            ValueError: an array is missing or has another shape, dtype or range.
        """
        arrays = {name: getattr(self, name) for name in self._state} | {"drawn": self.random.drawn}
        counts = ("elapsed", "drawn")
        given = {
            name: saved_array(state, name, mine, signed=name not in counts) for name, mine in arrays.items()
        }
        for name, saved in given.items():
            arrays[name][...] = saved
        try:
            self.observe()
        except IndexError as error:  # a symbol or a cell that there is not
            raise ValueError(f"the environments' state is out of range: {error}") from None


def require_size(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        least = (
            "at least 1"
            if isinstance(value, int | np.integer) and value < 1
            else f"a whole number from 1 to {most:,}"
        )
        raise SettingError(f"{name} must be {least}, got {value!r}")
