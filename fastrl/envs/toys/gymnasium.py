"""The toy environments as Gymnasium environments, over the same dynamics as `fastrl.envs.toys`.

`ToyVectorGym` is a Gymnasium vector environment of any autoreset mode, to try adapters on. Single
environments: `SingleEnv(env_id)`, or `gymnasium.make("fastrl.envs.toys.gymnasium:ProofofMemory-v0")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from fastrl.envs.single import spaces_of
from fastrl.envs.toys import TOYS, make_dynamics


class ToyVectorGym(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N toy environments as a Gymnasium vector environment.

    Args:
        env_id: a key of `fastrl.envs.toys.TOYS`.
        num_envs: N.
        autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
        options: options of the dynamics.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": autoreset_mode}
        self._mode = autoreset_mode
        self._env_id, self._options = env_id, options
        self._dynamics = make_dynamics(env_id, range(num_envs), options)
        self.single_observation_space, self.single_action_space = spaces_of(
            self._dynamics.obs_shape or (self._dynamics.obs_size,),
            self._dynamics.action,
            self._dynamics.obs_dtype,
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._done = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset all environments, or those of `options["reset_mask"]`; a seed restarts all random streams."""
        if seed is not None:
            seeds = (
                range(seed, seed + self.num_envs)
                if isinstance(seed, int)
                else [int(each or 0) for each in seed]
            )
            self._dynamics = make_dynamics(self._env_id, seeds, self._options)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self._dynamics.start(mask)
        self._done = self._done & ~mask
        return self._dynamics.observe(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step; resets happen as the autoreset mode says."""
        if self._mode == AutoresetMode.DISABLED and self._done.any():
            raise RuntimeError("an environment whose episode has ended must be reset before it is stepped")
        infos: dict[str, Any] = {}
        reward, terminated, truncated = self._dynamics.step(actions, ~self._done)
        if self._mode == AutoresetMode.NEXT_STEP and self._done.any():
            self._dynamics.start(self._done)
            reward[self._done] = self._dynamics.reset_reward
        self._done = terminated | truncated
        if self._mode == AutoresetMode.SAME_STEP and self._done.any():
            last = self._dynamics.observe()
            infos["final_obs"] = np.array(
                [last[i] if ended else None for i, ended in enumerate(self._done)] + [None], object
            )[:-1]
            infos["_final_obs"] = self._done
            self._dynamics.start(self._done)
            self._done = np.zeros(self.num_envs, bool)
        return self._dynamics.observe(), reward, terminated, truncated, infos


def _register() -> None:
    for env_id in TOYS:
        if env_id not in gym.registry:
            gym.register(env_id, entry_point="fastrl.envs.single:SingleEnv", kwargs={"env_id": env_id})


_register()
