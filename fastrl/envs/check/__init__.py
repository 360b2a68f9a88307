"""`check_env`: steps an environment with random actions and says in plain sentences what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from fastrl.envs.check.report import Finding, Report
from fastrl.errors import SettingError

__all__ = ["Finding", "Report", "check_env"]


def check_env(
    env: Any,
    *,
    num_envs: int = 2,
    steps: int = 1000,
    seed: int = 0,
    obs_keys: Sequence[str] | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Make and step an environment with random actions, and report what fits the trainers and what does not.

    Looked at are spaces and what is left out of them, dtypes, ranges and values outside their space, bounds
    of actions, rewards, what `reset` and `step` return, seeds, time limits and episodes that never end,
    autoreset modes, infos, and observations that are written in place.

    Args:
        env: what `make_vector_env` takes: an id, a factory, an environment or vector environment, or a
            `VectorEnv`. An object is stepped and left open.
        num_envs: environments that are made side by side, where they can be made.
        steps: random steps; after 40 seconds no more are made.
        seed: of episodes and actions.
        obs_keys, max_episode_steps, env_kwargs: as for `make_vector_env`.

    Returns:
        A `Report`: `ok`, `findings`, and text by `str`. Whatever the environment does, raises or returns, is
            a finding.

    Raises:
        SettingError: there is no such id, or a setting does not fit.
    """
    for name, value in (("num_envs", num_envs), ("steps", steps)):
        if value < 1:
            raise SettingError(f"{name} must be at least 1, got {value}")
    if seed < 0:
        raise SettingError(f"seed must be at least 0, got {seed}")
    from fastrl.envs.check.run import Check  # here, since it loads Gymnasium

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters of them is a finding
        return Check(
            env,
            num_envs=num_envs,
            steps=steps,
            seed=seed,
            obs_keys=obs_keys,
            max_episode_steps=max_episode_steps,
            env_kwargs=env_kwargs,
        ).run()
