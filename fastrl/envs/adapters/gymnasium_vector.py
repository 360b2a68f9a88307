"""Gymnasium's vector environments of any autoreset mode as a `VectorEnv`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.autoreset import autoreset_mode
from fastrl.envs.adapters.final_info import _extract_final_observations
from fastrl.envs.adapters.time_limit import time_limit
from fastrl.envs.adapters.workers import PATIENCE, Workers
from fastrl.envs.base import VectorEnv, environment_seeds
from fastrl.envs.deadline import NoAnswer
from fastrl.envs.failures import WrongReturn
from fastrl.envs.masks import observations_with_mask
from fastrl.envs.observations import ObservationMap
from fastrl.envs.own import env_name
from fastrl.envs.returned import reset_values, vector_step_values
from fastrl.envs.timestep import Advance
from fastrl.errors import SettingError


class GymnasiumVectorEnv(VectorEnv):
    """A Gymnasium vector environment of any autoreset mode.

    The mode is read from its metadata, or found out (`fastrl.envs.adapters.autoreset`).

    NEXT_STEP is passed on as it is. SAME_STEP and DISABLED have no step on which an environment is reset, and
    all columns are stepped
    together, so one is made: after an episode has ended anywhere, the next call does not step the
    environments at all. The ended columns
    get their reset row, every other column a held row: same observation, reward 0, `valid` False. All
    transitions are exact; the price is one call without a transition after each step with an end in it (up to
    half of the calls with many environments and short episodes), and advantage traces that are cut, with a
    bootstrap, at held rows. Prefer NEXT_STEP where the environment offers it.

    Args:
        env: the vector environment; it belongs to this object, which closes it.
        mode: "next_step", "same_step" or "disabled", of an environment that does not tell it; None: see
            `autoreset_mode`.
        seed: seed of the first reset.
        device: where tensors go.
        obs_keys, crop: see `ObservationMap`.
        action_mask_key: see `observations_with_mask`.
        num_actions: see `ActionMap`.
        scale_actions: see `VectorEnv`.

    Raises:
        SettingError: the mode is neither told nor found, or the spaces of one environment are not told.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        *,
        mode: Any = None,
        name: str | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        obs_keys: Sequence[str] | None = None,
        crop: int | None = None,
        num_actions: int | None = None,
        scale_actions: bool = True,
        action_mask_key: str | None = None,
    ) -> None:
        name = name or env_name(env)
        self.env = env
        observation_space, action_space = single_spaces(env, name)
        self._actions: ActionMap = ActionMap(action_space, num_actions=num_actions, name=name)
        view: dict[str, Any] = {"obs_keys": obs_keys, "crop": crop, "name": name}
        self._observations, self._info_mask, action = observations_with_mask(
            observation_space, self._actions.spec, action_mask_key, **view
        )
        plain = ObservationMap(observation_space, **view) if self._info_mask else self._observations
        self.autoreset_mode = autoreset_mode(env, name, plain, self._actions, mode)
        self._seeded = hasattr(env, "all_env_ids")  # an EnvPool object takes its seed when it is made
        self._workers = Workers.of(env)
        self._obs = np.empty(0)  # last observations, where held rows need them
        self._next_obs: np.ndarray | None = (
            None  # SAME_STEP: first observations of the episodes that the last step began
        )
        super().__init__(
            name=name,
            num_envs=env.num_envs,
            obs_shape=self._observations.shape,
            obs_dtype=self._observations.torch_dtype,
            action=action,
            max_episode_steps=time_limit(env),
            device=device,
            seeds=environment_seeds(seed, env.num_envs),
            scale_actions=scale_actions,
        )

    @property
    def obs_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """As the environment's space says."""
        return self._observations.bounds()

    def obs_place(self, column: int) -> str:
        """By the space's own names."""
        return self._observations.place(column)

    def _reset_all(self) -> np.ndarray:
        self._obs = self._batch(*(self._first_reset() if not self._seeded else self._reset_env()))
        self._seeded, self._next_obs = True, None
        if self.max_episode_steps is None:
            self.max_episode_steps = time_limit(self.env)
        return self._obs.copy()

    def _first_reset(self) -> tuple[Any, Any]:
        assert self.seeds is not None
        try:
            return self._reset_env(seed=list(self.seeds))
        except WrongReturn:
            raise
        except (
            TypeError,
            ValueError,
            AssertionError,
            gym.error.Error,
        ):  # some vector environments take one number only
            if self._workers is not None:  # Gymnasium's own takes them: one of its environments has failed
                raise
            return self._reset_env(seed=self.seeds[0])

    def _reset_env(self, **arguments: Any) -> tuple[Any, Any]:
        if self.timeout is None or self.env is not getattr(self._workers, "env", None):
            return reset_values(self.env.reset(**arguments))
        self.env.reset_async(**arguments)
        return reset_values(self.env.reset_wait(timeout=self.timeout))

    def _step_env(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Any]:
        if self.timeout is None or self.env is not getattr(self._workers, "env", None):
            return vector_step_values(self.env.step(actions), self.num_envs)
        self.env.step_async(actions)  # apart, so that who has not answered when the time is up can be told
        return vector_step_values(self.env.step_wait(timeout=self.timeout), self.num_envs)

    def _blame(self, error: BaseException) -> tuple[int | None, BaseException]:
        if self._workers is None:
            return None, error
        if isinstance(error, NoAnswer | multiprocessing.TimeoutError):
            direct = self.env is self._workers.env
            return (self._workers.silent() if direct else None), NoAnswer(
                f"no answer within {self.timeout:g} s (env_timeout)"
            )
        return self._workers.blame(error)

    def _batch(self, obs: Any, infos: Any) -> np.ndarray:
        if self._info_mask is not None:
            obs = self._info_mask.attach_all(obs, infos, self.num_envs)
        with np.errstate(over="ignore"):  # numbers too large for float32 are infinite then, and found as such
            return np.array(
                self._observations.batch(obs)
            )  # a copy: the environment may write its next step into the same memory

    def _advance(self, actions: np.ndarray) -> Advance:
        if self.autoreset_mode == "next_step":
            obs, reward, terminated, truncated, infos = self._step_env(self._actions.batch(actions))
            return Advance(self._batch(obs, infos), reward, terminated, truncated)
        if self._any_done:
            return self._reset_ended()
        obs, reward, terminated, truncated, infos = self._step_env(self._actions.batch(actions))
        self._obs = self._batch(obs, infos)
        ended = terminated | truncated
        if self.autoreset_mode == "same_step" and ended.any():
            self._next_obs = self._obs.copy()
            self._put_final_observations(infos, ended)
        return Advance(self._obs.copy(), reward, terminated, truncated)

    def _reset_ended(self) -> Advance:
        """Reset rows for the columns that ended, held rows for the others; nothing is stepped."""
        if self.autoreset_mode == "disabled":
            fresh = self._batch(*self._reset_env(options={"reset_mask": self._done.copy()}))
        else:
            assert self._next_obs is not None
            fresh = self._next_obs
        self._obs = self._obs.copy()
        self._obs[self._done] = fresh[self._done]
        none = np.zeros(self.num_envs, bool)
        return Advance(self._obs.copy(), np.zeros(self.num_envs), none, none.copy(), held=~self._done)

    def _put_final_observations(self, infos: dict[str, Any], ended: np.ndarray) -> None:
        final = _extract_final_observations(infos or {}, self.num_envs)
        for index in np.flatnonzero(ended).tolist():
            if final[index] is None:
                missing = KeyError("SAME_STEP autoreset, but no final_obs in infos for an episode that ended")
                raise self.failure(missing, index)
            last = final[index] if self._info_mask is None else self._info_mask.attach_any(final[index])
            self._obs[index] = self._observations.stack([last])[0]

    def _close(self) -> None:
        if self._workers is not None:
            self._workers.end(PATIENCE if self.timeout is None else self.timeout)
        self._release(self.env.close)


def single_spaces(env: Any, name: str) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Spaces of observations and actions of one environment of a vector environment.

    Some (SuperSuit's) have no `single_observation_space`: their `observation_space` is that of one
    environment, which a reset confirms.

    Raises:
        SettingError: they are not told.
    """
    observation, action = (getattr(env, f"single_{what}_space", None) for what in ("observation", "action"))
    if isinstance(observation, gym.Space) and isinstance(action, gym.Space):
        return observation, action
    space = env.observation_space
    leaf = ObservationMap(space, name=name).leaves[0]
    value: Any = env.reset(seed=0)[0]
    for key in leaf.path:
        value = value[key]
    if np.shape(value) != (env.num_envs, *leaf.shape):
        raise SettingError(
            f"{name} has no single_observation_space and single_action_space, the spaces of one "
            "environment; give it both"
        )
    return space, env.action_space
