"""When a vector environment resets ended environments: what it tells, and what stepping shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.autoreset import found_mode, told_mode
from fastrl.envs.check.report import Report
from fastrl.envs.observations import ObservationMap


def check_autoreset(
    env: gym.vector.VectorEnv[Any, Any, Any],
    name: str,
    observations: ObservationMap,
    actions: ActionMap,
    given: Any,
    report: Report,
) -> None:
    """Compare the mode in the metadata with what the environment does, as training finds it out.

    Args:
        env: a vector environment.
        name: for messages.
        observations, actions: of one environment.
        given: the mode that the user says, or None.
        report: where findings go.
    """
    told = told_mode(env, name, given)
    found, why = found_mode(env, observations, actions)
    known = "is given" if given is not None else "metadata['autoreset_mode'] tells"
    if told is not None and found is None:
        report.note("autoreset", f"{told.upper()}; {why}, so it was not seen")
    elif told is not None and told != found:
        report.warn("autoreset", f"{known} {told.upper()}, stepping shows {str(found).upper()}")
    elif told is not None:
        report.note("autoreset", told.upper())
    elif found is not None:
        advice = "set it to one of gymnasium.vector.AutoresetMode"
        report.warn(
            "autoreset", f"metadata['autoreset_mode'] is not there; stepping shows {found.upper()}: {advice}"
        )
    else:
        report.error(
            "autoreset",
            f"metadata['autoreset_mode'] is not there, and {why}: give next_step, same_step or disabled",
        )


def check_infos(env: gym.vector.VectorEnv[Any, Any, Any], actions: Any, seed: int, report: Report) -> None:
    """One step, for the form of its infos.

    Args:
        env: a vector environment.
        actions: for all its environments, as it takes them.
        seed: of the reset.
        report: where findings go.
    """
    env.reset(seed=seed)
    infos: Any = env.step(actions)[4]
    if not isinstance(infos, Mapping | Sequence):
        report.error(
            "infos", f"infos are a {type(infos).__name__}, neither a dict of arrays nor a list of dicts"
        )
