"""Single environments with a user's wrappers as a `VectorEnv` that still reports whole games."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.adapters.gymnasium import GymnasiumEnv
from fastrl.envs.adapters.objects import require_one
from fastrl.envs.families import family_of
from fastrl.envs.returned import step_values
from fastrl.envs.single import SingleEnv
from fastrl.envs.timestep import Episode
from fastrl.envs.vector_settings import split_options
from fastrl.errors import SettingError

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


class CountedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """A Gymnasium environment that counts its own episodes, beneath whatever is wrapped around it."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._return, self._length = 0.0, 0
        self._finished: list[Episode] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; an unfinished one is forgotten."""
        self._return, self._length = 0.0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step and count."""
        obs, reward, terminated, truncated, info = step_values(self.env.step(action))
        self._return, self._length = self._return + reward, self._length + 1
        if terminated or truncated:
            self._finished.append(Episode(0, self._return, self._length))
            self._return, self._length = 0.0, 0
        return obs, reward, terminated, truncated, info

    def pop_episodes(self) -> list[Episode]:
        """Episodes that finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def unfinished_episode(self) -> tuple[float, int]:
        """Return and steps so far of the episode going on now."""
        return self._return, self._length


class WrappedEnvs(GymnasiumEnv):
    """N environments, each with the same wrappers.

    Episodes are those of the environments inside: an environment that a wrapper ends early, once per life for
    example, is reported once per game, and rewards are summed before any wrapper changes them.

    Args:
        bases: N environments that count their episodes.
        wrappers: functions env -> env, the first one innermost.
        settings: the other arguments of `GymnasiumEnv`.

    Raises:
        SettingError: a wrapper does not return an environment.
    """

    def __init__(
        self, bases: Sequence[SingleEnv | CountedEnv], wrappers: Sequence[Wrapper], **settings: Any
    ) -> None:
        self._bases = list(bases)
        super().__init__([_wrap(base, wrappers) for base in bases], **settings)

    def _count(self, score: np.ndarray, valid: np.ndarray, over: np.ndarray) -> None:
        for index, base in enumerate(self._bases):
            self._episodes.finished += [episode._replace(env_index=index) for episode in base.pop_episodes()]
            self._episodes.returns[index], self._episodes.lengths[index] = base.unfinished_episode()


def make_wrapped_envs(
    env_id: Any,
    num_envs: int,
    wrappers: Sequence[Wrapper],
    *,
    seed: int,
    device: torch.device | str = "cpu",
    obs_keys: Sequence[str] | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    video: str | None = None,
    scale_actions: bool = True,
) -> WrappedEnvs:
    """Environments inside wrappers: Gymnasium's own object where the id is Gymnasium's, else a `SingleEnv`.

    Args:
        env_id: an id, a factory of Gymnasium environments, or a Gymnasium environment (then N is 1).
        wrappers: functions env -> env, the first one innermost; may be none.
        video: a folder in which every episode of the first environment is stored as a video; the environments
            are Gymnasium's then.
        others: as in `make_vector_env`. Wrappers see actions in the environment's own units, whatever
            `scale_actions` is.

    Raises:
        SettingError: no such environment, or a setting that does not fit.
    """
    placement: dict[str, Any] = {
        "name": env_id if isinstance(env_id, str) else None,
        "seed": seed,
        "device": device,
        "scale_actions": scale_actions,
    }
    if isinstance(env_id, gym.Env):
        require_one(num_envs)
    family = family_of(env_id)
    if family.source != "gymnasium" and video is None:
        make = {"obs_keys": obs_keys, "max_episode_steps": max_episode_steps, **(env_kwargs or {})}
        return WrappedEnvs([SingleEnv(env_id, **make) for _ in range(num_envs)], wrappers, **placement)
    options, maps = split_options(env_kwargs)
    if video is not None:
        options["render_mode"] = "rgb_array"
    envs = [family.make_single(env_id, options, max_episode_steps) for _ in range(num_envs)]
    if video is not None:
        envs[0] = gym.wrappers.RecordVideo(envs[0], video, episode_trigger=lambda _: True)
    return WrappedEnvs([CountedEnv(env) for env in envs], wrappers, obs_keys=obs_keys, **maps, **placement)


def _wrap(env: gym.Env[Any, Any], wrappers: Sequence[Wrapper]) -> gym.Env[Any, Any]:
    for wrapper in wrappers:
        name = getattr(wrapper, "__name__", repr(wrapper))
        env = wrapper(env)
        if not isinstance(env, gym.Env):
            raise SettingError(
                f"wrappers: {name} must return a Gymnasium environment, it returned {type(env).__name__}"
            )
    return env
