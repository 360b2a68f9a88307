"""Single Gymnasium environments as settings want them: time limit, wrappers, repeated actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from fastrl.envs.adapters.action_repeat import ActionRepeat
from fastrl.envs.adapters.time_limit import limited
from fastrl.envs.construction import constructing
from fastrl.envs.modules import find_wrapper, present_folder
from fastrl.envs.own import env_name
from fastrl.envs.preprocessing import Preprocessing
from fastrl.errors import SettingError

DONE_HERE = ("wrapper", "frame_skip")  # and sticky actions with the latter


class Preparation:
    """Makes single environments ready, each in the same way.

    Args:
        settings: as the user gave them.
        max_episode_steps: another time limit, in actions of the policy.

    Attributes:
        left: the settings that are for all environments at once, see `fastrl.envs.pipeline`.

    Raises:
        SettingError: a wrapper cannot be found.
    """

    def __init__(self, settings: Preprocessing, max_episode_steps: int | None) -> None:
        self._repeats, self._sticky = settings.frame_skip or 1, settings.sticky_actions or 0.0
        self._limit = None if max_episode_steps is None else max_episode_steps * self._repeats
        self._wrappers: list[tuple[str, Callable[..., Any]]] = [
            (name, find_wrapper(name)) for name in settings.wrapper or ()
        ]
        done = DONE_HERE if self._repeats == 1 else (*DONE_HERE, "sticky_actions")
        self.left = settings.without(*done)

    def __call__(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """The environment, ready.

        Raises:
            SettingError: a wrapper fails, or the time limit cannot be set.
        """
        env = limited(env, self._limit)
        with present_folder():
            for name, wrapper in self._wrappers:
                env = _wrapped(env, name, wrapper)
        return env if self._repeats == 1 else ActionRepeat(env, self._repeats, self._sticky)


def _wrapped(env: gym.Env[Any, Any], name: str, wrapper: Callable[..., Any]) -> gym.Env[Any, Any]:
    inside = env_name(env)
    try:
        with constructing(f"{name} around {inside}"):
            made = wrapper(env)
    except SettingError as error:
        raise SettingError(str(error).replace("env_id", "wrapper", 1)) from error
    if not isinstance(made, gym.Env):
        raise SettingError(
            f"wrapper: {name} made {type(made).__name__} of {inside}, no Gymnasium environment"
        )
    return made
