"""What published settings do to an environment on its way to the policy, as one value of settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from fastrl.errors import SettingError
from fastrl.machine import require_whole

MOST_FRAMES = 64  # of a stack, or repetitions of an action
SMALLEST_SIDE, LARGEST_SIDE = 8, 2048  # pixels of a resized image


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Settings by their names in `RunConfig`; None leaves what the environment does by itself.

    In order: `wrapper`, innermost; `sticky_actions` and `frame_skip` on the way in; `grey_scale`, `resize`
    and `frame_stack` on the way out. `sign_rewards` concerns what is learned from only.

    Raises:
        SettingError: a value has the wrong type or is out of its range.
    """

    wrapper: Sequence[str] | None = None
    sticky_actions: float | None = None
    frame_skip: int | None = None
    grey_scale: bool | None = None
    resize: int | None = None
    frame_stack: int | None = None
    sign_rewards: bool = False

    def __post_init__(self) -> None:
        for name, least, most in (
            ("frame_skip", 1, MOST_FRAMES),
            ("frame_stack", 1, MOST_FRAMES),
            ("resize", SMALLEST_SIDE, LARGEST_SIDE),
        ):
            value = getattr(self, name)
            require_whole(name, value, least)
            if value is not None and value > most:
                raise SettingError(f"{name} must be at most {most}, got {value}")
        sticky = self.sticky_actions
        if sticky is not None and not (
            isinstance(sticky, int | float) and math.isfinite(sticky) and 0 <= sticky < 1
        ):
            raise SettingError(f"sticky_actions must be a probability in [0, 1), got {sticky!r}")
        for name in ("grey_scale", "sign_rewards"):
            if getattr(self, name) not in (None, True, False):
                raise SettingError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if isinstance(self.wrapper, str):
            object.__setattr__(self, "wrapper", (self.wrapper,))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The settings, in order."""
        return tuple(setting.name for setting in fields(cls))

    @property
    def given(self) -> tuple[str, ...]:
        """Those that ask for something."""
        return tuple(name for name in self.names() if getattr(self, name) not in (None, False, (), []))

    def without(self, *names: str) -> Preprocessing:
        """The same, with these left out."""
        defaults: dict[str, Any] = {setting.name: setting.default for setting in fields(self)}
        return replace(self, **{name: defaults[name] for name in names})

    def refuse(self, names: Sequence[str], why: str) -> None:
        """Raise SettingError, naming the first of `names` that is given; `why` ends the sentence."""
        for name in names:
            if name in self.given and not (name == "frame_skip" and self.frame_skip == 1):
                raise SettingError(f"{name} {why}")
