"""Small environments with known answers, for tests and first runs: identity, counter, proof of memory.

The dynamics are written once, for N columns of numpy arrays. `fastrl.envs.toy_vector` steps them for
trainers, and `fastrl.envs.toy_gymnasium` offers them as Gymnasium environments. All state, random streams
included, can be saved and restored exactly.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.saved import saved_array
from fastrl.errors import SettingError, nearest

LARGEST_SIZE = 2**16  # symbols, dimensions: an observation has as many numbers
MOST_STEPS = 2**53  # they are rewards too
LARGEST_NOISE = 1e6
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
        elapsed: int64 [N], steps of the present episodes.
        optimal_return: return of the best policy, averaged over starts; None where it is not known.
        memoryless_return: return of the best policy that sees the present observation only, where that is
            less.
    """

    obs_size: int
    action: ActionSpec
    optimal_return: float | None = None
    memoryless_return: float | None = None
    reset_reward: float = (
        0.0  # what the raw environment claims on a reset row; a stream that lets it through is broken
    )
    _state: tuple[str, ...] = ("elapsed",)

    def __init__(self, seeds: Sequence[int], *, max_episode_steps: int | None = None) -> None:
        if max_episode_steps is not None:
            _require_whole("max_episode_steps", max_episode_steps, MOST_STEPS)
        self.num_envs = len(seeds)
        self.max_episode_steps = max_episode_steps
        self.random = ColumnRandom(seeds)
        self.elapsed = np.zeros(self.num_envs, np.int64)

    def start(self, columns: np.ndarray) -> None:
        """Begin an episode where `columns` (bool [N]) is True."""
        self.elapsed[columns] = 0
        self._begin(columns)

    def step(self, actions: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step where `columns` is True; the others stand still with reward 0. Returns (reward, terminated,
        truncated), each [N]."""
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
        """Change the state where `columns` is True; `elapsed` has been counted up. Returns (reward,
        terminated)."""

    @abstractmethod
    def observe(self) -> np.ndarray:
        """Observations, float32 [N, obs_size], a new array."""

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
        _require_whole("num_symbols", num_symbols, LARGEST_SIZE)
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
        _require_whole("dim", dim, LARGEST_SIZE)
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


class LinearQuadratic(ToyDynamics):
    """Keep a point at the origin cheaply: s' = 0.9 s + 0.5 a + w, reward −(s² + 0.1 a²), w uniform within
    ±`noise`.

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
        """P of the best policy's value −P s² + constant without time limit: the fixed point of the scalar
        Riccati equation."""
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


class Counter(ToyDynamics):
    """Count steps: the observation is the number of steps made, and so is the reward of the next one (0, 1,
    2, …); actions do nothing.

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


class ProofofMemory(ToyDynamics):
    """Two goals at −1 and +1, one good and one bad, shown for the first two steps and never again: remember
    which, and walk to it.

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


TOYS: dict[str, type[ToyDynamics]] = {
    "Identity-v0": Identity,
    "IdentityContinuous-v0": IdentityContinuous,
    "LinearQuadratic-v0": LinearQuadratic,
    "Counter-v0": Counter,
    "ProofofMemory-v0": ProofofMemory,
}


def _require_whole(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= most:
        least = (
            "at least 1"
            if isinstance(value, int | np.integer) and value < 1
            else f"a whole number from 1 to {most:,}"
        )
        raise SettingError(f"{name} must be {least}, got {value!r}")


def _whole_numbers(values: Any) -> np.ndarray | None:
    """As int64, or None where they are no whole numbers."""
    try:
        array = np.asarray(values)
        return array.astype(np.int64) if array.dtype.kind in "iu" else None
    except (ValueError, OverflowError):
        return None


def make_dynamics(env_id: str, seeds: Sequence[int], options: Mapping[str, Any]) -> ToyDynamics:
    """Dynamics of a toy environment; a SettingError for an option it does not have."""
    known = [name for name in inspect.signature(TOYS[env_id]).parameters if name != "seeds"]
    for key in options:
        if key not in known:
            raise SettingError(f"env_kwargs: {env_id} has no option {key!r}{nearest(key, known)}")
    return TOYS[env_id](seeds, **options)
