"""Documented helpers: single Gymnasium environments to step by hand, and selection along an axis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from torch import Tensor

from fastrl import ops
from fastrl.envs.adapters.time_limit import time_limit
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError
from fastrl.runs.video import make_recorded_env


class SingleEnvironments:
    """Gymnasium environments like those of training, one at a time, with actions in their own units.

    Args:
        env_id: an id or a factory; None where there is an environment object, which cannot be made again.
        options: `max_episode_steps` and `env_kwargs`, as for `make_vector_env`.
    """

    def __init__(self, env_id: Any, options: Mapping[str, Any]) -> None:
        self.env_id = env_id
        self.options = options
        self._kept: gym.Env[Any, Any] | None = None

    def make(self, seed: int, record: tuple[Path, str] | None = None) -> gym.Env[Any, Any]:
        """One seeded environment with episode statistics.

        `record` is the folder of its videos and what their names begin with.

        Raises:
            SettingError: it cannot be made again, or not with these options.
        """
        if self.env_id is None:
            raise SettingError(
                "env_id is an environment object, which cannot be made again; give an id or a factory"
            )
        if record is not None:
            folder, name = record
            env = make_recorded_env(self.env_id, seed=seed, folder=folder, name=name, options=self.options)
        else:
            env = make_gymnasium_env(
                self.env_id,
                max_episode_steps=self.options["max_episode_steps"],
                options=self.options["env_kwargs"],
            )
            env.action_space.seed(seed)
            env.reset(seed=seed)
        return gym.wrappers.RecordEpisodeStatistics(env)

    def kept(self, seed: int) -> gym.Env[Any, Any]:
        """The one that is made once and then kept, reset with `seed`."""
        if self._kept is None:
            self._kept = self.make(seed)
        self._kept.reset(seed=seed)
        return self._kept

    def close(self) -> None:
        """Close the one that is kept."""
        env, self._kept = self._kept, None
        close_env(env)


def close_env(env: gym.Env[Any, Any] | None) -> None:
    """Close an environment if there is one; an error on the way out is not hidden."""
    if env is not None:
        env.close()


def resolve_max_episode_steps(env: gym.Env[Any, Any], configured: int | None) -> int:
    """The longest episode of a Gymnasium environment in steps, as configured or as the environment tells.

    Raises:
        SettingError: nobody tells.
    """
    limit = time_limit(env) if configured is None else configured
    if limit is None:
        raise SettingError(
            f"max_episode_steps must be given, since {env} does not tell its limit; or set endless"
        )
    return limit


def batched_index_select(input_tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Every sample selects for itself along one axis: see `fastrl.ops.batched_index_select`.

    Args:
        input_tensor: [B, ...].
        dim: the axis to select from, not the first.
        index: [B, W] int64.

    Returns:
        As input_tensor, with W entries along `dim`.
    """
    return ops.batched_index_select(input_tensor, dim, index)
