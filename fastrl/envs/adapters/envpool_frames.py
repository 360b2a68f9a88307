"""Settings of preprocessing as options of EnvPool's Atari, which does most of it natively."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastrl.envs.preprocessing import Preprocessing
from fastrl.errors import SettingError

STACK = "stack_num"  # the option that tells an environment with frames
OPTIONS = {
    "frame_stack": (STACK,),
    "frame_skip": ("frame_skip",),
    "grey_scale": ("gray_scale",),
    "resize": ("img_height", "img_width"),
    "sticky_actions": ("repeat_action_probability",),
}


def native_options(
    env_id: str, settings: Preprocessing, env_kwargs: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], Preprocessing]:
    """(options for EnvPool, settings that are left), for one of its environments.

    Args:
        env_id: EnvPool's id.
        settings: as the user gave them.
        env_kwargs: options that the user gave.
        defaults: the environment's options, see `envpool_options.description`.

    Raises:
        SettingError: it cannot do one of them, or one is given twice; the message names it.
    """
    where = f"EnvPool's {env_id}"
    settings.refuse(("wrapper",), f"is for Gymnasium's environments, and {where} is none")
    if STACK not in defaults:
        why = f"is for Gymnasium's environments one by one; {where} steps all of them together"
        settings.refuse(("frame_skip",), why)
        return {}, settings
    options: dict[str, Any] = {}
    for name, natives in OPTIONS.items():
        value = getattr(settings, name)
        if value is None:
            continue
        for native in natives:
            if native not in defaults:
                raise SettingError(f"{name}: {where} has no option for it")
            if native in env_kwargs:
                raise SettingError(f"{name} and the option {native} in env_kwargs are the same; give one")
            options[native] = value
    return options, settings.without(*OPTIONS)
