"""`make_vector_env`: the one way from an id, an object or a factory to a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fastrl.envs.base import VectorEnv
from fastrl.errors import SettingError, nearest


def make_vector_env(
    env: Any,
    num_envs: int = 1,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    num_threads: int | None = None,
    obs_keys: Sequence[str] | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> VectorEnv:
    from fastrl.envs.envpool import EnvPoolEnv, dm_control_id, envpool_ids

    if isinstance(env, VectorEnv):
        return env
    options: dict[str, Any] = {"seed": seed, "device": device, "obs_keys": obs_keys, "max_episode_steps": max_episode_steps, "env_kwargs": env_kwargs}
    name = dm_control_id(env) if env.startswith("dm_control/") else env
    if name in envpool_ids():
        return EnvPoolEnv(name, num_envs, num_threads=num_threads, **options)
    raise SettingError(f"env_id: there is no environment {env!r}{nearest(env, envpool_ids())}")
