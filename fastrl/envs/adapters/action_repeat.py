"""Single Gymnasium environments whose actions are repeated."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from fastrl.envs.images import is_image


class ActionRepeat(gym.Wrapper[Any, Any, Any, Any]):
    """Each action is executed several times, as long as the episode goes on; rewards are summed.

    Of images the larger one of the last two is seen, pixel by pixel: what an old console draws on every other
    frame only is then in all of them.

    Args:
        env: the environment.
        repeats: how often each action is executed, ≥ 1.
        sticky: probability of each time that the action before is executed instead.
    """

    def __init__(self, env: gym.Env[Any, Any], repeats: int, sticky: float = 0.0) -> None:
        super().__init__(env)
        self.repeats, self.sticky = repeats, sticky
        space = env.observation_space
        self._larger = isinstance(space, gym.spaces.Box) and is_image(space.shape, space.dtype)
        self._draws = np.random.default_rng()
        self._previous: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """As the environment's; a seed is that of the repeated actions too."""
        if seed is not None:
            self._draws = np.random.default_rng(seed)
        self._previous = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Up to `repeats` steps of the environment."""
        total, before, step = 0.0, None, 0
        while True:
            if self._previous is None or not self.sticky or self._draws.random() >= self.sticky:
                self._previous = action
            obs, reward, terminated, truncated, info = self.env.step(self._previous)
            total += float(reward)
            step += 1
            if step == self.repeats or terminated or truncated:
                break
            before = np.array(obs) if self._larger else None  # the environment may draw into the same memory
        if before is not None:
            obs = np.maximum(obs, before)
        return obs, total, terminated, truncated, info
