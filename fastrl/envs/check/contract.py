"""`reset` and `step` of a single Gymnasium environment, and where they leave Gymnasium's interface.

What training refuses is refused here by the same functions; what it only puts up with is said besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from fastrl.envs.check.report import Report, said
from fastrl.envs.failures import WrongReturn
from fastrl.envs.returned import describe, reset_values, step_values


class Stepped(NamedTuple):
    """What `step` returned: the reward and the flags as plain values."""

    obs: Any
    reward: float
    terminated: bool
    truncated: bool
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
            obs, info = reset_values(self.env.reset(seed=seed) if seed is not None else self.env.reset())
        except WrongReturn as wrong:
            self._report.error("reset", str(wrong))
            return None
        except (Exception, SystemExit) as error:
            advice = ""
            if isinstance(error, TypeError) and "seed" in str(error):
                advice = "; it must take a seed: def reset(self, *, seed=None, options=None)"
            self._report.error("reset", f"reset raised {said(error)}{advice}")
            return None
        self._see_info("reset", info)
        return obs, info

    def step(self, action: Any) -> Stepped | None:
        """What a step returned, or None with an error."""
        try:
            returned: Any = self.env.step(action)
            stepped = Stepped(*step_values(returned))
        except WrongReturn as wrong:
            self._report.error("step", str(wrong))
            return None
        except (Exception, SystemExit) as error:
            self._report.error(
                "step", f"step({_short(action)}) raised {said(error)}, {self._report.steps} steps in"
            )
            return None
        self._see_info("step", stepped.info)
        _, reward, *flags, _ = returned
        if isinstance(reward, np.ndarray) and reward.ndim:
            self._report.note(
                "rewards", f"a reward is {describe(reward)}, it should be a number: return float(reward)"
            )
        for name, flag in zip(("terminated", "truncated"), flags, strict=True):
            if not isinstance(flag, bool | np.bool_):
                self._report.note("step", f"{name} is of type {type(flag).__name__}, it should be a bool")
        return stepped

    def _see_info(self, call: str, info: Any) -> None:
        if not isinstance(info, Mapping):
            self._report.warn(
                "infos", f"{call} returned an info that is {describe(info)}, it should be a dict"
            )


def _short(action: Any) -> str:
    text = " ".join(str(action).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
