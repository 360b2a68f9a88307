"""Gymnasium's environments as a `VectorEnv`: single ones stepped here, vector environments of any autoreset
mode."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.actions import ActionMap
from fastrl.envs.autoreset import autoreset_mode
from fastrl.envs.base import VectorEnv, environment_seeds
from fastrl.envs.deadline import NoAnswer
from fastrl.envs.failures import WrongReturn
from fastrl.envs.final_info import _extract_final_observations
from fastrl.envs.observations import ObservationMap
from fastrl.envs.returned import misfit, reset_values, step_values, vector_step_values
from fastrl.envs.time_limit import longest_limit, time_limit
from fastrl.envs.timestep import Advance
from fastrl.envs.workers import PATIENCE, Workers
from fastrl.errors import SettingError


class GymnasiumEnv(VectorEnv):
    """Single Gymnasium environments, stepped one after the other in this process.

    Args:
        envs: N environments with equal spaces; they belong to this object, which closes them.
        name: name for messages; None: the id of the first.
        seed: gives each environment a seed of its own at the first reset.
        device: where tensors go.
        obs_keys, crop: see `ObservationMap`.
        num_actions: see `ActionMap`.
        scale_actions: see `VectorEnv`.
    """

    def __init__(
        self,
        envs: Sequence[gym.Env[Any, Any]],
        *,
        name: str | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        obs_keys: Sequence[str] | None = None,
        crop: int | None = None,
        num_actions: int | None = None,
        scale_actions: bool = True,
    ) -> None:
        first = envs[0]
        name = name or env_name(first)
        for index, env in enumerate(envs):
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                raise ValueError(f"environment {index} of {name} has other spaces than environment 0")
        self.envs = list(envs)
        self._observations = ObservationMap(first.observation_space, obs_keys=obs_keys, crop=crop, name=name)
        self._actions = ActionMap(first.action_space, num_actions=num_actions, name=name)
        self._seeded = False
        super().__init__(
            name=name,
            num_envs=len(envs),
            obs_shape=self._observations.shape,
            obs_dtype=self._observations.torch_dtype,
            action=self._actions.spec,
            max_episode_steps=longest_limit(envs),
            device=device,
            seeds=environment_seeds(seed, len(envs)),
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
        seeds: Sequence[int | None] = (
            [None] * self.num_envs if self._seeded or self.seeds is None else self.seeds
        )
        observations = []
        for index, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            try:
                observations.append(reset_values(env.reset(seed=seed))[0])
            except BaseException as error:
                self._fail(error, index)
        self._seeded = True
        if self.max_episode_steps is None:
            self.max_episode_steps = longest_limit(self.envs)
        return self._stack(observations)

    def _advance(self, actions: np.ndarray) -> Advance:
        observations: list[Any] = [None] * self.num_envs
        reward = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        batch = self._actions.batch(actions.copy())  # an environment may keep its action
        for index, env in enumerate(self.envs):
            try:
                if self._done[index]:
                    observations[index] = reset_values(env.reset())[0]
                else:
                    observations[index], reward[index], terminated[index], truncated[index], _ = step_values(
                        env.step(batch[index])
                    )
            except BaseException as error:
                self._fail(error, index)
        return Advance(self._stack(observations), reward, terminated, truncated)

    def _stack(self, observations: list[Any]) -> np.ndarray:
        """Observations of all environments [N, *obs_shape]; where they do not fit the space, the failure of
        the first one that does not."""
        try:
            with np.errstate(
                over="ignore"
            ):  # numbers too large for float32 are infinite then, and found as such
                batch = self._observations.stack(observations)
        except Exception as error:
            self._fail(*self._first_misfit(observations, error))
        if batch.shape[1:] != self.obs_shape:
            self._fail(*self._first_misfit(observations))
        return batch

    def _first_misfit(
        self, observations: list[Any], error: Exception | None = None
    ) -> tuple[BaseException, int | None]:
        for index, obs in enumerate(observations):
            wrong = misfit(self._observations, obs)
            if wrong is not None:
                return wrong, index
        return error or WrongReturn(f"its observations should have shape {list(self.obs_shape)}"), None

    def _close(self) -> None:
        for index, env in enumerate(self.envs):
            self._release(env.close, index)


class GymnasiumVectorEnv(VectorEnv):
    """A Gymnasium vector environment of any autoreset mode, which is read from its metadata, or found out
    (`fastrl.envs.autoreset`).

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
    ) -> None:
        name = name or env_name(env)
        self.env = env
        observation_space, action_space = single_spaces(env, name)
        self._observations = ObservationMap(observation_space, obs_keys=obs_keys, crop=crop, name=name)
        self._actions = ActionMap(action_space, num_actions=num_actions, name=name)
        self.autoreset_mode = autoreset_mode(env, name, self._observations, self._actions, mode)
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
            action=self._actions.spec,
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
        self._obs = self._batch(self._first_reset() if not self._seeded else self._reset_env())
        self._seeded, self._next_obs = True, None
        if self.max_episode_steps is None:
            self.max_episode_steps = time_limit(self.env)
        return self._obs.copy()

    def _first_reset(self) -> Any:
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

    def _reset_env(self, **arguments: Any) -> Any:
        if self.timeout is None or self.env is not getattr(self._workers, "env", None):
            return reset_values(self.env.reset(**arguments))[0]
        self.env.reset_async(**arguments)
        return reset_values(self.env.reset_wait(timeout=self.timeout))[0]

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

    def _batch(self, obs: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # numbers too large for float32 are infinite then, and found as such
            return np.array(
                self._observations.batch(obs)
            )  # a copy: the environment may write its next step into the same memory

    def _advance(self, actions: np.ndarray) -> Advance:
        if self.autoreset_mode == "next_step":
            obs, reward, terminated, truncated, _ = self._step_env(self._actions.batch(actions))
            return Advance(self._batch(obs), reward, terminated, truncated)
        if self._any_done:
            return self._reset_ended()
        obs, reward, terminated, truncated, infos = self._step_env(self._actions.batch(actions))
        self._obs = self._batch(obs)
        ended = terminated | truncated
        if self.autoreset_mode == "same_step" and ended.any():
            self._next_obs = self._obs.copy()
            self._put_final_observations(infos, ended)
        return Advance(self._obs.copy(), reward, terminated, truncated)

    def _reset_ended(self) -> Advance:
        """Reset rows for the columns that ended, held rows for the others; nothing is stepped."""
        if self.autoreset_mode == "disabled":
            fresh = self._batch(self._reset_env(options={"reset_mask": self._done.copy()}))
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
            self._obs[index] = self._observations.stack([final[index]])[0]

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


def env_name(env: Any) -> str:
    """The environment's id, or its class name."""
    spec = getattr(env, "spec", None)
    env_id = getattr(spec, "id", None)
    return env_id if isinstance(env_id, str) else type(getattr(env, "unwrapped", env)).__name__
