"""Earlier names of settings, which work for one more release: as keyword arguments, in files and as flags.

A name counts as an earlier one for a configuration class that has the new name and not the earlier one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fastrl.errors import SettingError


@dataclass(frozen=True)
class Renamed:
    """The new name of a setting, and the function from an earlier value to the new one.

    ValueError and TypeError say that there is no such value.
    """

    name: str
    convert: Callable[[Any], Any] = lambda value: value
    note: str = ""  # what has become of the value, for the warning


def _is_given(value: Any) -> bool:
    """Whether an earlier `number or none` setting is on."""
    if value is None or value in ("none", "None"):
        return False
    float(value)
    return True


_HALF = "; twice as much, where values are not clipped, since the value loss has a half in front"

RENAMED: dict[str, Renamed] = {
    "rollout_steps": Renamed("num_steps"),
    "num_epochs": Renamed("update_epochs"),
    "num_mini_batches": Renamed("num_minibatches"),
    "dae_mini_batches": Renamed("dae_minibatches"),
    "lr": Renamed("learning_rate"),
    "init_lr": Renamed("learning_rate"),
    "final_lr": Renamed("final_learning_rate"),
    "clip_range": Renamed("clip_coef"),
    "value_clip_range": Renamed("clip_vloss", _is_given),
    "clip_grad_norm": Renamed("max_grad_norm"),
    "entropy_coef": Renamed("ent_coef"),
    "init_ent_coef": Renamed("ent_coef"),
    "value_coef": Renamed("vf_coef", float, _HALF),  # its factor depends on clipping: `earlier_vf_coef`
    "norm_adv": Renamed("normalize_advantages"),
    "shared_body": Renamed("shared_encoder"),
    "initial_log_std": Renamed("log_std_init"),
    "init_std": Renamed("log_std_init", lambda value: math.log(float(value)), "; its logarithm"),
}


def find_renamed(name: str, known: Collection[str]) -> Renamed | None:
    """What an earlier name has become among the `known` settings.

    None if it is known itself, or never was a name of one of them.
    """
    renamed = None if name in known else RENAMED.get(name)
    return renamed if renamed is not None and renamed.name in known else None


def with_new_names(
    settings: Mapping[str, Any],
    known: Collection[str],
    *,
    spelled: Callable[[str], str] = str,
    category: type[Warning] = DeprecationWarning,
    stacklevel: int = 2,
) -> dict[str, Any]:
    """Settings by their new names, with a warning for each earlier one.

    Args:
        settings: values by name, earlier names among them.
        known: the names that settings have now.
        spelled: how the user spells a name, for messages.
        category: of the warnings.
        stacklevel: of the warnings, see `warnings.warn`; 2 is the line that calls this function.

    Raises: SettingError if a setting is given under both names, or the value of an earlier one has no
        meaning under the new one.
    """
    result: dict[str, Any] = {}
    spelling: dict[str, str] = {}  # by new name, the name it was given by
    for name, value in settings.items():
        renamed = find_renamed(name, known)
        new = name if renamed is None else renamed.name
        if new in result:
            raise SettingError(
                f"{spelled(spelling[new])} and {spelled(name)} are one setting, {spelled(new)}; give it once"
            )
        result[new], spelling[new] = value if renamed is None else converted(name, value), name
        if renamed is not None:
            warn_of(name, spelled=spelled, category=category, stacklevel=stacklevel + 1)
    if (vf_coef := earlier_vf_coef(settings, known, clipped=bool(result.get("clip_vloss")))) is not None:
        result["vf_coef"] = vf_coef
    return result


def earlier_vf_coef(settings: Mapping[str, Any], known: Collection[str], *, clipped: bool) -> float | None:
    """The vf_coef that gives the value loss of the earlier names; None where they say nothing of it.

    The loss has a half in front now, whether values are clipped or not. It had it only where they were, and
    its factor was 0.5 by default.

    Args:
        settings: values by name, earlier names among them.
        known: the names that settings have now.
        clipped: whether the change of values is clipped.
    """
    if "value_coef" in settings and find_renamed("value_coef", known):
        return float(settings["value_coef"]) * (1.0 if clipped else 2.0)
    if clipped and "value_clip_range" in settings and "vf_coef" in known and "vf_coef" not in settings:
        return 0.5
    return None


def converted(name: str, value: Any) -> Any:
    """The value of an earlier setting as the new one has it; SettingError if it has no meaning there."""
    try:
        return RENAMED[name].convert(value)
    except (TypeError, ValueError):
        raise SettingError(f"{name}, now {RENAMED[name].name}, cannot be {value!r}") from None


def warn_of(
    name: str,
    *,
    spelled: Callable[[str], str] = str,
    category: type[Warning] = DeprecationWarning,
    stacklevel: int = 2,
) -> None:
    """Warn that a setting has another name now."""
    renamed = RENAMED[name]
    message = f"{spelled(name)} is now {spelled(renamed.name)}; the earlier name goes in the next release"
    warnings.warn(message + renamed.note, category, stacklevel=stacklevel)


def value_clip_message(number: Any, clip_coef: float) -> str | None:
    """A message about an earlier value_clip_range that differs from clip_coef; None if nothing changes.

    clip_coef bounds values now.
    """
    if not _is_given(number) or float(number) == float(clip_coef):
        return None
    width = f"{float(number):g}"
    return f"values are clipped with clip_coef = {clip_coef:g} too, not with value_clip_range = {width}"
