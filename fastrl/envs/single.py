"""One environment of `make_vector_env` as a Gymnasium environment, for loops written for Gymnasium."""

from __future__ import annotations

from collections import deque
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.base import VectorEnv
from fastrl.envs.bounds import inward_float32
from fastrl.envs.families import make_environments
from fastrl.envs.timestep import Episode
from fastrl.envs.vector_settings import VectorSettings


class SingleEnv(gym.Env[np.ndarray, Any]):
    """A single environment with Gymnasium's interface, of whatever family.

    Observations are those of the `VectorEnv`, without its first axis; rewards are not masked, since there are
    no reset rows. Actions are in the environment's own units, and continuous ones are clipped to its bounds.

    Args:
        env_id: anything `make_vector_env` takes and can make more than once: an id or a factory.
        options: keyword arguments of the environment, beside `max_episode_steps` and `obs_keys`, which go to
            `make_vector_env`.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        env_id: Any,
        *,
        seed: int = 0,
        obs_keys: Any = None,
        action_mask_key: str | None = None,
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        self._env_id = env_id
        self._settings: dict[str, Any] = {
            "obs_keys": obs_keys,
            "action_mask_key": action_mask_key,
            "max_episode_steps": max_episode_steps,
            "env_kwargs": options,
        }
        self._env = self._make(seed)
        self._max_episode_steps = (
            self._env.max_episode_steps
        )  # named as in TimeLimit, where others look for it
        self._finished: deque[Episode] = deque(
            maxlen=16
        )  # not more: who does not ask for them shall not collect them
        self.observation_space, self.action_space = spaces_of(
            self._env.obs_shape, self._env.action, self._env.obs_dtype, self._env.obs_bounds
        )

    def _make(self, seed: int) -> VectorEnv:
        settings = VectorSettings(seed=seed, scale_actions=False, **self._settings)
        return make_environments(self._env_id, settings)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; a seed makes the environment anew, since simulators may take it only then."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.close()
            self._env = self._make(seed)
        return self._env.start_episodes()[0].numpy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step once; after an end, `reset` comes next."""
        step = self._env.step(np.asarray(action)[None])
        self._finished.extend(self._env.pop_episodes())
        return (
            step.obs[0].numpy(),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {},
        )

    def pop_episodes(self) -> list[Episode]:
        """Episodes finished since the last call, the last 16 at most; whole games (see `EnvPoolEnv`)."""
        finished = list(self._finished)
        self._finished.clear()
        return finished

    def unfinished_episode(self) -> tuple[float, int]:
        """Return and steps so far of the episode going on now."""
        returns, lengths = self._env.unfinished_episodes()
        return float(returns[0]), int(lengths[0])

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def spaces_of(
    obs_shape: tuple[int, ...],
    action: ActionSpec,
    obs_dtype: torch.dtype = torch.float32,
    obs_bounds: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Gymnasium's spaces for the observations and actions of one environment.

    Without `obs_bounds` images have 0 and 255, others none.

    Bounds of actions are those of the spec, as float32 rounded inwards.
    """
    dtype: Any = np.uint8 if obs_dtype == torch.uint8 else np.float32
    low, high = obs_bounds or ((0, 255) if dtype is np.uint8 else (-np.inf, np.inf))
    observation: gym.Space[Any] = gym.spaces.Box(low, high, obs_shape, dtype)
    if action.kind == "discrete":
        return observation, gym.spaces.Discrete(action.num_actions)
    if action.kind == "multi_discrete":
        return observation, gym.spaces.MultiDiscrete(np.array(action.nvec))
    assert action.low is not None and action.high is not None
    lowest, highest = inward_float32(action.low.numpy(), action.high.numpy())
    return observation, gym.spaces.Box(lowest, highest, action.shape, np.float32)
