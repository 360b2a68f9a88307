"""EnvPool's ids, and its names of dm_control's tasks."""

from __future__ import annotations

import re

from fastrl.errors import SettingError, nearest

# ids whose environments end the whole process, and why
CRASHING = {
    env_id: "EnvPool's game of several players ends the process at once"
    for env_id in ("Cig-v1", "MultiDuel-v1")
}
DM_CONTROL = "dm_control/"


def envpool_ids() -> list[str]:
    """All ids EnvPool has, without those that would end the process; none when it is not installed."""
    try:
        import envpool
    except ImportError:
        return []
    return [env_id for env_id in envpool.list_all_envs() if env_id not in CRASHING]


def dm_control_id(name: str) -> str | None:
    """EnvPool's id of `dm_control/<domain>-<task>` or `dm_control/<domain>/<task>`; None: no such task.

    Hyphens, underscores and case do not matter, a version is ignored: `dm_control/ball_in_cup-catch-v0` is
    `BallInCupCatch-v1`.
    """
    task = re.sub(r"-v\d+$", "", name.removeprefix(DM_CONTROL))
    wanted = re.sub(r"[-_/]", "", task).lower() + "-v1"
    return next((env_id for env_id in envpool_ids() if env_id.lower() == wanted), None)


def envpool_id(env_id: str) -> str | None:
    """EnvPool's name of an id, or None when it does not have it.

    Raises:
        SettingError: the id is of dm_control, and neither EnvPool nor Gymnasium has it.
    """
    if not env_id.startswith(DM_CONTROL):
        return env_id if env_id in CRASHING or env_id in envpool_ids() else None
    found = dm_control_id(env_id)
    if found is None and not _gymnasium_has(env_id):
        task = "".join(
            word[:1].upper() + word[1:] for word in re.split("[-_/]", env_id.removeprefix(DM_CONTROL))
        )
        raise SettingError(
            f"env_id: there is no dm_control task for {env_id!r} in EnvPool"
            f"{nearest(f'{task}-v1', envpool_ids())}"
        )
    return found


def _gymnasium_has(env_id: str) -> bool:
    import gymnasium as gym

    return env_id in gym.registry
