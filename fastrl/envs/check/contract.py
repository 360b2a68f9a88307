"""`reset` and `step` of a single Gymnasium environment, with findings for whatever they do otherwise than Gymnasium's interface says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from fastrl.envs.check.report import Report, said

COUNTS = {0: "no", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


class Stepped(NamedTuple):
    """What `step` returns."""

    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: Any


class Contract:
    """The environment, and what it returns where that has the form it should have.

    Args:
        env: the environment.
        report: where findings go.
    """

    def __init__(self, env: gym.Env[Any, Any], report: Report) -> None:
        self.env, self._report = env, report

    def reset(self, seed: int | None = None) -> tuple[Any, Any] | None:
        """(observation, info), or None with an error."""
        try:
            returned: Any = self.env.reset(seed=seed) if seed is not None else self.env.reset()
        except (Exception, SystemExit) as error:
            advice = ""
            if isinstance(error, TypeError) and "seed" in str(error):
                advice = "; it must take a seed: def reset(self, *, seed=None, options=None)"
            self._report.error("reset", f"reset raised {said(error)}{advice}")
            return None
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
            self._report.error(
                "reset", f"reset returned {_form(returned)}; it must return a tuple of two, (observation, info), info a dict"
            )
            return None
        return returned

    def step(self, action: Any) -> Stepped | None:
        """What a step returned, or None with an error."""
        try:
            returned: Any = self.env.step(action)
        except (Exception, SystemExit) as error:
            self._report.error("step", f"step({_short(action)}) raised {said(error)}, {self._report.steps} steps in")
            return None
        if not isinstance(returned, tuple) or len(returned) != 5:
            old = " (old Gym)" if isinstance(returned, tuple) and len(returned) == 4 else ""
            wanted = "it must return five values: observation, reward, terminated, truncated, info"
            self._report.error("step", f"step returned {_form(returned)}{old}; {wanted}")
            return None
        stepped = Stepped(*returned)
        if not isinstance(stepped.info, Mapping):
            self._report.error("infos", f"step returned an info that is {_form(stepped.info)}, it must be a dict")
        return stepped if all(self._flag(name, getattr(stepped, name)) for name in ("terminated", "truncated")) else None

    def _flag(self, name: str, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return True
        if np.ndim(value) == 0 and isinstance(value, int | np.integer | np.ndarray) and value in (0, 1):
            self._report.note("step", f"{name} is of type {type(value).__name__}, it should be a bool")
            return True
        self._report.error("step", f"{name} is {_form(value)}, it must be a bool")
        return False


def _form(value: Any) -> str:
    """A value's kind in words: `four values`, `an array [4]`, `None`."""
    if isinstance(value, tuple):
        return f"{COUNTS.get(len(value), len(value))} value{'s' if len(value) != 1 else ''}"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)}, {value.dtype}"
    if value is None or isinstance(value, int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"


def _short(action: Any) -> str:
    text = " ".join(str(action).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
