"""`RoboschoolEnv`: old Roboschool ids, made as the MuJoCo environments that took their place."""

from __future__ import annotations

import warnings
from typing import Any

from fastrl.envs.toolkit.gym_env import GymEnv
from fastrl.errors import SettingError

SUCCESSORS = {
    f"Roboschool{name}-v1": f"{name}-v5"
    for name in (
        "Ant",
        "HalfCheetah",
        "Hopper",
        "Humanoid",
        "InvertedDoublePendulum",
        "InvertedPendulum",
        "Reacher",
        "Walker2d",
    )
}


class RoboschoolEnv(GymEnv):
    """An environment by its Roboschool id, made as the maintained MuJoCo environment that took its place.

    Roboschool is no longer maintained and does not install. `RoboschoolHalfCheetah-v1`, for example, is
    `HalfCheetah-v5` here: the same task, with other states and rewards, so returns cannot be compared with
    Roboschool's. A warning says which environment it is, and `env_name` is its id. The ids of the successors
    are taken as well.

    Args:
        args, kwargs: those of `GymEnv`.

    Raises:
        SettingError: the id has no successor; the message names those that have one.
    """

    @staticmethod
    def _resolve(env_name: Any) -> Any:
        if env_name in SUCCESSORS.values():
            return env_name
        successor = SUCCESSORS.get(env_name)
        if successor is None:
            raise SettingError(
                f"env_name: {env_name!r} has no maintained successor; those that have one are "
                f"{', '.join(SUCCESSORS)}"
            )
        warnings.warn(
            f"{env_name} is no longer maintained: {successor} is used, whose states and rewards are other "
            "ones",
            stacklevel=3,
        )
        return successor
