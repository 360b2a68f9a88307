"""When a vector environment resets an environment whose episode has ended: what it tells, and what stepping shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.check.report import Report, said
from fastrl.envs.final_info import _extract_final_observations

ENDS = 8  # ends of episodes that are looked at


def check_autoreset(
    env: gym.vector.VectorEnv[Any, Any, Any], draw: Callable[[], np.ndarray], steps: int, seed: int, report: Report
) -> None:
    """Compare the mode in the metadata with what the environment does.

    Args:
        env: a vector environment.
        draw: random actions for all its environments.
        steps: at most so many steps.
        seed: of the first reset.
        report: where findings go.
    """
    mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
    told = None if mode is None else str(getattr(mode, "value", mode)).lower().replace("_", "")
    found = _found(env, draw, steps, seed, report)
    words = {"nextstep": "NEXT_STEP", "samestep": "SAME_STEP", "disabled": "DISABLED"}
    if told is None:
        shown = f"stepping shows {words[found]}" if found else "stepping does not show it either"
        report.warn("autoreset", f"metadata['autoreset_mode'] is not there; {shown}: set it to one of gymnasium.vector.AutoresetMode")
    elif found is not None and found != told:
        report.warn("autoreset", f"metadata['autoreset_mode'] tells {words.get(told, mode)}, stepping shows {words[found]}")
    else:
        report.note("autoreset", f"{words.get(told, mode)}{'' if found else ', and no episode ended to see it'}")


def _found(env: gym.vector.VectorEnv[Any, Any, Any], draw: Callable[[], np.ndarray], steps: int, seed: int, report: Report) -> str | None:
    """ "nextstep", "samestep", "disabled", or None where it does not show."""
    env.reset(seed=seed)
    ended, ends = np.zeros(env.num_envs, bool), 0
    after: list[float] = []  # rewards of the steps that follow an end
    other = False  # whether any other reward is not 0
    for _ in range(steps):
        try:
            returned: Any = env.step(draw())
            _, reward, terminated, truncated, infos = returned
        except (Exception, SystemExit) as error:
            if not ended.any():
                report.error("step", f"step raised {said(error)}")
                return None
            return "disabled"
        reward, done = np.asarray(reward, np.float64), np.asarray(terminated, bool) | np.asarray(truncated, bool)
        if not isinstance(infos, Mapping | Sequence):
            report.error("infos", f"infos are a {type(infos).__name__}, neither a dict of arrays nor a list of dicts")
            return None
        if done.any() and any(final is not None for final in _extract_final_observations(infos, env.num_envs)):
            return "samestep"
        after += reward[ended].tolist()
        other = other or bool(reward[~ended].any())
        ended, ends = done, ends + int(done.sum())
        if len(after) >= ENDS:
            break
    if not after or not (other or any(after)):
        return None
    return "samestep" if any(after) else "nextstep"
