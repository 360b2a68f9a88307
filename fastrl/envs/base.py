"""What every environment looks like to a trainer: `VectorEnv`, stepped with tensors, returning `Timestep`.

The stream is NEXT_STEP: a row on which an episode ends carries its true last observation; the following row
of that environment is no transition: its action is ignored, its observation is the first one of the next
episode, `valid` is False, the reward is 0 and both end flags are False.

What leaves the environments is looked at once (`LookedAtEnvs`): wrong shapes and numbers that are not finite
are errors that name environment, step and seed.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from fastrl.envs.action_scale import scale_of
from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.deadline import within
from fastrl.envs.episode_statistics import EpisodeStatistics
from fastrl.envs.failures import EnvironmentFailure as EnvironmentFailure
from fastrl.envs.failures import WrongReturn
from fastrl.envs.first_look import FirstLook
from fastrl.envs.looked_at import LookedAtEnvs
from fastrl.envs.saved import saved_array, saved_count
from fastrl.envs.timestep import Advance, Episode, Timestep
from fastrl.errors import SettingError

if TYPE_CHECKING:
    from fastrl.envs.actions import ActionMap


class VectorEnv(LookedAtEnvs):
    """N environments stepped together, with episode statistics over valid rows.

    A subclass gives `_reset_all` and `_advance`; checks, masking of reset rows, statistics and tensors are
    done here, once.

    Args:
        name: id or class name, used in messages.
        num_envs: N.
        obs_shape, obs_dtype: shape of one observation; torch.float32, or torch.uint8 for images.
        action: what one action is, in the environment's own units: what `_advance` gets.
        max_episode_steps: time limit in steps, or None when there is none or it is not known (of some
            environments, before a reset).
        device: where observations, rewards and flags go.
        num_threads: threads that step the environments.
        seeds: seed of each environment, for messages.
        scale_actions: policies act in [−1, 1], which `step` maps to the bounds of continuous actions (see
            `ActionScale`); False: actions are in the environment's own units for policies too.

    Attributes:
        action: what one action is for policies: what `step` takes.
        own_action: what one action is in the environment's own units.
        timeout: seconds that one `reset` or `step` of all environments may take, see `fastrl.envs.deadline`;
            None: no limit.
        broken: an environment has failed: what the environments hold is in the middle of a step and must not
            be saved.
    """

    # numbering, dtype and shape of the environment's own actions; None: int64 from 0, or floats [A]
    _actions: ActionMap  # of adapters; others take the actions as they are

    def __init__(
        self,
        *,
        name: str,
        num_envs: int,
        obs_shape: tuple[int, ...],
        obs_dtype: torch.dtype,
        action: ActionSpec,
        max_episode_steps: int | None,
        device: torch.device | str,
        num_threads: int = 1,
        seeds: list[int] | None = None,
        scale_actions: bool = True,
    ) -> None:
        if num_envs < 1:
            raise SettingError(f"num_envs must be at least 1, got {num_envs}")
        self.name = name
        self.num_envs = num_envs
        self.obs_shape = obs_shape
        self.obs_dtype = obs_dtype
        self._numbers = np.dtype(np.uint8 if obs_dtype == torch.uint8 else np.float32)
        self.scale_actions = scale_actions
        scale = scale_of(action, name) if scale_actions else None
        self._scale = None if scale is None or scale.changes_nothing else scale
        self.own_action, self.action = (
            action,
            action if scale is None else action.with_bounds(scale.low, scale.high),
        )
        self.max_episode_steps = max_episode_steps
        self.device = torch.device(device)
        self.num_threads = num_threads
        self.seeds = seeds
        self.timeout: float | None = None
        self.broken = False
        self._is_bytes = obs_dtype == torch.uint8
        self._on_cpu = self.device.type == "cpu"
        self._steps = 0  # calls of step since the last reset
        self._started = False
        self._closed = False
        self._first_look: FirstLook | None = None
        self._done = np.zeros(num_envs, bool)  # environments that the next step resets
        self._any_done = False
        self._episodes = EpisodeStatistics(num_envs)

    # -------------------------------------------------------------------------------- for subclasses

    @abstractmethod
    def _reset_all(self) -> np.ndarray:
        """Start an episode in every environment; observations [N, *obs_shape]."""

    @abstractmethod
    def _advance(self, actions: np.ndarray) -> Advance:
        """Step once. Environments in `self._done` are reset instead, whatever their action.

        Args:
            actions: as `own_action` describes them: int64, or floats in the dtype of its bounds (float32
                where nothing was scaled), inside them.
        """

    def _close(self) -> None:  # noqa: B027  # most environments hold nothing
        """Release what the environments hold."""

    # ---------------------------------------------------------------------------------- for trainers

    @property
    def reference_returns(self) -> Mapping[str, float]:
        """Known returns by name, averaged over starts, for learning curves: an optimum, a bound."""
        return {}

    @property
    def obs_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest observation, [*obs_shape] each, in their dtype; infinite where not known."""
        if self.obs_dtype == torch.uint8:
            return np.zeros(self.obs_shape, np.uint8), np.full(self.obs_shape, 255, np.uint8)
        return np.full(self.obs_shape, -np.inf, np.float32), np.full(self.obs_shape, np.inf, np.float32)

    def scaled_bounds(self) -> dict[str, list[float]] | None:
        """ "low" and "high" that −1 and 1 stand for, lists [A], infinite without a bound; or None."""
        if self._scale is None:
            return None
        assert self.own_action.low is not None and self.own_action.high is not None
        return {"low": self.own_action.low.tolist(), "high": self.own_action.high.tolist()}

    @property
    def own_spaces(self) -> tuple[Any, Any] | None:
        """Gymnasium's spaces of one environment's own observations and actions; None where there are none."""
        return None

    def obs_place(self, column: int) -> str:
        """Where a number of the flattened observation comes from in the environment's own; for messages."""
        return f"the observation at {[int(i) for i in np.unravel_index(column, self.obs_shape)]}"

    def look_at_first_steps(self, *, scales_observations: bool = False, scales_rewards: bool = False) -> None:
        """Watch the next steps for what does not fit the spaces, and warn of each thing once.

        Args:
            scales_observations, scales_rewards: whether they are normalised before anything learns from them.
        """
        if self._first_look is None:
            scaled = {"scales_observations": scales_observations, "scales_rewards": scales_rewards}
            self._first_look = FirstLook(self.obs_bounds, self.obs_place, **scaled)

    def end_first_look(self) -> None:
        """Say now what was found; nothing where nobody asked, or where it has been said."""
        look, self._first_look = self._first_look, None
        for sentence in [] if look is None else look.sentences():
            warnings.warn(f"{self.name}: {sentence}", stacklevel=3)

    def reset(self) -> Tensor:
        """Start a new episode in every environment; unfinished ones are forgotten.

        Returns:
            Observations [N, *obs_shape].

        Raises:
            EnvironmentFailure: an environment raised, did not answer in time, or returned something else.
            NonFiniteError: an observation is not finite.
        """
        self._require_open()
        self._steps = 0
        grad = torch.is_grad_enabled()
        try:
            obs = self._reset_all() if self.timeout is None else within(self.timeout, self._reset_all)
        except BaseException as error:
            self._fail(error)
        torch.set_grad_enabled(grad)
        obs = self._declared(obs)
        self._require_finite(obs)
        if self.action.masked:
            self._require_allowed(obs, np.ones(self.num_envs, bool))
        self.broken = False
        self._episodes.begin()
        self._done, self._any_done = np.zeros(self.num_envs, bool), False
        self._started = True
        return self._tensor(obs)

    def start_episodes(self) -> Tensor:
        """Like `reset`, but the stream's next reset row where the last step ended every episode.

        So a game of several episodes, one for each life, goes on, and counts as one; `reset` forgets it.

        Returns:
            Observations [N, *obs_shape].
        """
        if not (self._started and self._done.all()):
            return self.reset()
        dtype = np.float32 if self.action.kind == "continuous" else np.int64
        return self.step(np.zeros((self.num_envs, *self.action.shape), dtype)).obs

    def step(self, actions: Tensor | np.ndarray) -> Timestep:
        """Step every environment once; one whose episode ended in the last step is reset instead.

        Args:
            actions: discrete int64 [N], multi-discrete int64 [N, branches], continuous float32 [N, A].
                Continuous ones are clipped to the bounds of `action` here: to [−1, 1] where the environment
                has finite bounds, unless `scale_actions` is off.

        Raises:
            ValueError: the actions are not of that shape and type, or out of range.
            EnvironmentFailure: an environment raised, did not answer in time, or returned something else.
            NonFiniteError: an observation, or the reward of a transition, is not finite.
        """
        if not self._started:
            self._require_open()
            raise RuntimeError(f"{self.name}: call reset() before step()")
        checked = self.action.check(actions, self.num_envs)
        grad = torch.is_grad_enabled()
        if self._scale is not None:
            checked = self._scale.to_environment(checked)
        try:
            advance = (
                self._advance(checked)
                if self.timeout is None
                else within(self.timeout, self._advance, checked)
            )
        except BaseException as error:
            self._fail(error)
        if torch.is_grad_enabled() is not grad:  # an environment with a network of its own
            torch.set_grad_enabled(grad)
        obs, reward, terminated, truncated, held, score, over = advance
        obs = self._declared(obs)
        if not reward.shape == terminated.shape == truncated.shape == self._done.shape:
            shapes = [list(column.shape) for column in (reward, terminated, truncated)]
            raise self.failure(
                WrongReturn(f"rewards and flags should have shape {[self.num_envs]}, they have {shapes}")
            )
        valid = ~self._done
        if held is not None:
            valid &= ~held
        if self._any_done or held is not None:
            invalid = ~valid
            reward[invalid] = 0.0  # written, not multiplied: an environment may well give NaN or 1e9 there
            if score is not None:
                score[invalid] = 0.0
            terminated, truncated = terminated & valid, truncated & valid
        self._require_finite(obs, reward, score)
        if self._first_look is not None and self._first_look.see(obs, reward):
            self.end_first_look()
        self._steps += 1
        done = terminated | truncated
        if self.action.masked:
            self._require_allowed(obs, ~done)
        self._count(reward if score is None else score, valid, done if over is None else over)
        self._done, self._any_done = done, bool(np.count_nonzero(done))
        if reward.dtype != np.float32:
            reward = reward.astype(np.float32)
        tensors = [torch.from_numpy(array) for array in (obs, reward, terminated, truncated, valid)]
        return Timestep(*(tensors if self._on_cpu else [tensor.to(self.device) for tensor in tensors]))

    def many_steps(self) -> AbstractContextManager[None]:
        """A context for a loop over `step` that waits for each result: faster where it can be."""
        return nullcontext()

    def unfinished_episodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return so far (float64 [N]) and steps so far (int64 [N]) of the episodes going on now; copies."""
        return self._episodes.returns.copy(), self._episodes.lengths.copy()

    def pop_episodes(self) -> list[Episode]:
        """Episodes that finished since the last call, oldest first."""
        return self._episodes.pop()

    def state_dict(self) -> dict[str, Any] | None:
        """Everything needed to go on bit for bit, as plain values and arrays; None: it cannot be saved."""
        return None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; the next call is `step`."""
        raise RuntimeError(f"{self.name} cannot restore its state")

    def close(self) -> None:
        """Release the environments; further calls of `close` do nothing."""
        if not self._closed:
            self.end_first_look()
            self._closed, self._started = True, False
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, num_envs={self.num_envs}, obs={list(self.obs_shape)}, "
            f"action={self.action.kind})"
        )

    # ---------------------------------------------------------------------------------------- inside

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self.name}: the environments are closed")

    def _count(self, score: np.ndarray, valid: np.ndarray, over: np.ndarray) -> None:
        self._episodes.count(score, valid, over)

    def _statistics_state(self) -> dict[str, Any]:
        return {
            "started": self._started,
            "steps": self._steps,
            "done": self._done.copy(),
        } | self._episodes.state_dict()

    def _load_statistics(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `_statistics_state`; ValueError if it is none, and nothing has changed then."""
        started, steps, done = (
            state.get("started"),
            saved_count(state, "steps"),
            saved_array(state, "done", self._done),
        )
        if not isinstance(started, bool):
            raise ValueError("the environments' 'started' must be True or False")
        self._episodes.load_state_dict(state)  # the last thing that can fail
        self._started, self._steps, self._done, self._any_done = started, steps, done, bool(done.any())

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._on_cpu else tensor.to(self.device)


def environment_seeds(seed: int, num_envs: int) -> list[int]:
    """A seed for each environment, 0 to 2^31 − 1, independent between environments and between `seed`s.

    (Counting up from `seed` would give two runs with neighbouring seeds almost the same environments.)
    """
    if seed < 0:
        raise SettingError(f"seed must be at least 0, got {seed}")
    words = np.random.SeedSequence(seed).generate_state(num_envs, np.uint32)
    return [int(word) for word in words >> np.uint32(1)]
