"""Single Gymnasium environments, stepped one after the other, as a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.time_limit import longest_limit
from fastrl.envs.base import VectorEnv, environment_seeds
from fastrl.envs.failures import WrongReturn
from fastrl.envs.masks import observations_with_mask
from fastrl.envs.own import env_name
from fastrl.envs.returned import misfit, reset_values, step_values
from fastrl.envs.timestep import Advance


class GymnasiumEnv(VectorEnv):
    """Single Gymnasium environments, stepped one after the other in this process.

    Args:
        envs: N environments with equal spaces; they belong to this object, which closes them.
        name: name for messages; None: the id of the first.
        seed: gives each environment a seed of its own at the first reset.
        device: where tensors go.
        obs_keys, crop: see `ObservationMap`.
        action_mask_key: see `observations_with_mask`.
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
        action_mask_key: str | None = None,
    ) -> None:
        first = envs[0]
        name = name or env_name(first)
        for index, env in enumerate(envs):
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                raise ValueError(f"environment {index} of {name} has other spaces than environment 0")
        self.envs = list(envs)
        self._actions: ActionMap = ActionMap(first.action_space, num_actions=num_actions, name=name)
        view: dict[str, Any] = {"obs_keys": obs_keys, "crop": crop, "name": name}
        self._observations, self._info_mask, action = observations_with_mask(
            first.observation_space, self._actions.spec, action_mask_key, **view
        )
        self._seeded = False
        super().__init__(
            name=name,
            num_envs=len(envs),
            obs_shape=self._observations.shape,
            obs_dtype=self._observations.torch_dtype,
            action=action,
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
                observations.append(self._seen(*reset_values(env.reset(seed=seed))))
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
                    observations[index] = self._seen(*reset_values(env.reset()))
                else:
                    obs, reward[index], terminated[index], truncated[index], info = step_values(
                        env.step(batch[index])
                    )
                    observations[index] = self._seen(obs, info)
            except BaseException as error:
                self._fail(error, index)
        return Advance(self._stack(observations), reward, terminated, truncated)

    def _seen(self, obs: Any, info: Any) -> Any:
        return obs if self._info_mask is None else self._info_mask.attach(obs, info)

    def _stack(self, observations: list[Any]) -> np.ndarray:
        """Observations of all environments [N, *obs_shape]; the first that does not fit is a failure."""
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
