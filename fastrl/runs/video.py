"""Episodes as video files: an actor in one environment that Gymnasium draws."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError
from fastrl.runs.evaluation import Actor, step_bound

VIEW_OPTIONS = ("crop", "num_actions")  # options of `make_vector_env`, not of the environment


def require_video(env_id: Any) -> None:
    """Raise SettingError unless episodes of `env_id` can be recorded here; called before a run begins."""
    if importlib.util.find_spec("moviepy") is None:
        raise SettingError("capture_video needs the package moviepy; run `pip install 'fastrl[video]'`")
    if not isinstance(env_id, str) or env_id.removeprefix("gymnasium:") not in gym.registry:
        raise SettingError(
            f"capture_video needs an environment that Gymnasium can draw; {env_id!r} is not one of its ids"
        )


def make_recorded_env(
    env_id: Any, *, seed: int, folder: Path, name: str, options: Mapping[str, Any]
) -> gym.Env[Any, Any]:
    """One Gymnasium environment whose episodes are written to `folder`, as files that begin with `name`.

    Args:
        env_id: an id or a factory of Gymnasium environments.
        seed: of the environment and its action space.
        options: `max_episode_steps` and `env_kwargs`, as for `make_vector_env`.
    """
    kwargs = options["env_kwargs"] or {}
    drawn = {"render_mode": "rgb_array", **{k: v for k, v in kwargs.items() if k not in VIEW_OPTIONS}}
    env = make_gymnasium_env(env_id, max_episode_steps=options["max_episode_steps"], options=drawn)
    env.action_space.seed(seed)
    env.reset(seed=seed)  # before a recorder would take it for an episode
    return gym.wrappers.RecordVideo(env, str(folder), name_prefix=name, episode_trigger=lambda _: True)


def record_episode(
    actor: Actor, env_id: Any, *, seed: int, folder: Path, name: str, options: Mapping[str, Any]
) -> None:
    """Record one episode with the deterministic policy.

    Args:
        actor: for one environment, which has seen nothing yet.
        env_id, seed, folder, name: see `make_recorded_env`.
        options: `obs_keys`, `action_mask_key`, `max_episode_steps` and `env_kwargs`, as for
            `make_vector_env`.
    """
    env = make_recorded_env(env_id, seed=seed, folder=folder, name=name, options=options)
    view = {k: v for k, v in (options["env_kwargs"] or {}).items() if k in VIEW_OPTIONS}
    limits = {key: options[key] for key in ("obs_keys", "action_mask_key", "max_episode_steps")}
    # as a vector environment of one, so that the actor sees what it was trained on; closing it closes `env`
    with make_vector_env(env, 1, seed=seed, env_kwargs=view, **limits) as stream:
        obs = stream.reset()
        over, steps, bound = False, 0, step_bound(stream.max_episode_steps, None)
        while not over and (bound is None or steps < bound):
            steps += 1
            timestep = stream.step(actor.act(obs, deterministic=True))
            actor.observe(timestep)
            obs = timestep.obs
            over = bool(torch.any(timestep.terminated | timestep.truncated))
