"""What is looked at in every step of environments, and the errors that name environment, step and seed."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.deadline import within
from fastrl.envs.episode_statistics import EpisodeStatistics
from fastrl.envs.failures import (
    EnvironmentFailure,
    ObservationFault,
    WrongReturn,
    cause_of,
    is_of_the_process,
)
from fastrl.envs.finite import all_finite, first_fault
from fastrl.errors import NonFiniteError, SettingError


class LookedAtEnvs(ABC):
    """The part of `VectorEnv` that checks what environments return, and says what went wrong in them."""

    name: str
    num_envs: int
    obs_shape: tuple[int, ...]
    action: ActionSpec
    seeds: list[int] | None
    timeout: float | None
    broken: bool
    _numbers: np.dtype[np.generic]
    _is_bytes: bool
    _steps: int
    _done: np.ndarray
    _episodes: EpisodeStatistics

    def failure(self, error: BaseException, env_index: int | None = None) -> EnvironmentFailure:
        """The error to raise when an environment raised `error`; env_index None: not known which."""
        self.broken = True
        if isinstance(error, ObservationFault) and env_index is None:
            env_index = error.env_index
        which = "an environment" if env_index is None else f"environment {env_index}"
        return EnvironmentFailure(
            f"{which} of {self.name} failed at step {self._steps} ({self._seed_of(env_index)}): "
            f"{cause_of(error)}"
        )

    def _fail(self, error: BaseException, env_index: int | None = None) -> NoReturn:
        """Raise what is to be said of an error that came out of an environment."""
        self.broken = True
        if env_index is None:
            if isinstance(error, EnvironmentFailure | NonFiniteError | SettingError):
                raise error
            env_index, error = self._blame(error)
        if is_of_the_process(error):
            raise error
        failure = self.failure(error, env_index)
        # an environment that is made of another `VectorEnv` has been looked at there
        raise (NonFiniteError(str(failure)) if isinstance(error, NonFiniteError) else failure) from error

    def _blame(self, error: BaseException) -> tuple[int | None, BaseException]:
        """Which environment an error came from, None where it cannot be told, and the error to speak of."""
        return None, error

    def _release(self, close: Callable[[], object], env_index: int | None = None) -> None:
        """Call `close`, of one environment or of all; what it raises, or that it hangs, is a warning."""
        try:
            _ = close() if self.timeout is None else within(self.timeout, close)
        except BaseException as error:
            if is_of_the_process(error):
                raise
            which = "the environments" if env_index is None else f"environment {env_index}"
            warnings.warn(
                f"{which} of {self.name} could not be closed: {cause_of(error)}", RuntimeWarning, stacklevel=4
            )

    def _seed_of(self, env_index: int | None) -> str:
        if self.seeds is None:
            return "seed unknown"
        return f"seeds {self.seeds[:4]}..." if env_index is None else f"seed {self.seeds[env_index]}"

    def _declared(self, obs: np.ndarray) -> np.ndarray:
        """The observations in the declared dtype, if they have the declared shape."""
        # torch would spread a smaller one over the rows
        if not isinstance(obs, np.ndarray) or obs.shape != (self.num_envs, *self.obs_shape):
            expected, got = (
                list(self.obs_shape),
                list(obs.shape[1:]) if isinstance(obs, np.ndarray) else type(obs).__name__,
            )
            raise self.failure(WrongReturn(f"its observations should have shape {expected}, one has {got}"))
        if obs.dtype == self._numbers:
            return obs
        if self._numbers == np.uint8 or obs.dtype.kind not in "biuf":
            raise self.failure(
                WrongReturn(f"its observations should be {self._numbers}, they are {obs.dtype}")
            )
        return obs.astype(self._numbers)

    def _require_allowed(self, obs: np.ndarray, goes_on: np.ndarray) -> None:
        """Raise where the mask of an environment in which an action comes next forbids all of a branch."""
        forbids = self.action.forbids_all(obs) & goes_on
        if forbids.any():
            which = "every action" if self.action.kind == "discrete" else "every choice of a branch"
            fault = ObservationFault(f"its mask (action_mask_key) forbids {which}", int(forbids.argmax()))
            raise self.failure(fault)

    def _require_finite(
        self, obs: np.ndarray, reward: np.ndarray | None = None, score: np.ndarray | None = None
    ) -> None:
        """Raise NonFiniteError where a number is not finite; rewards of invalid rows are 0 by now."""
        if self._is_bytes or all_finite(obs):
            if reward is None or (all_finite(reward) and (score is None or all_finite(score))):
                return
            name, values = "reward", score if all_finite(reward) and score is not None else reward
        else:
            name, values = "observation", obs
        self.broken = True
        env_index, what = first_fault(values, name)
        begins = reward is None or self._done[env_index]
        episode_step = (
            "the first observation of an episode"
            if begins
            else f"step {self._episodes.lengths[env_index] + 1} of its episode"
        )
        where = f"environment {env_index} of {self.name} ({self._seed_of(env_index)})"
        raise NonFiniteError(
            f"{where} returned a non-finite {name} at step {self._steps}, {episode_step}: {what}"
        )
