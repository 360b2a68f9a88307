"""An episode on film."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch

from fastrl.envs import make_vector_env
from fastrl.errors import SettingError
from fastrl.runs.evaluation import Actor, step_bound

OF_THE_STREAM = ("crop", "num_actions")  # options of `make_vector_env`, not of the environment


def require_video(env_id: Any) -> None:
    """Raises SettingError unless episodes of `env_id` can be recorded here: said before anything has
    begun."""
    if importlib.util.find_spec("moviepy") is None:
        raise SettingError("capture_video needs the package moviepy; run `pip install 'fastrl[video]'`")
    if not isinstance(env_id, str) or env_id.removeprefix("gymnasium:") not in gym.registry:
        raise SettingError(
            f"capture_video needs an environment that Gymnasium can draw; {env_id!r} is not one of its ids"
        )


def record_episode(actor: Actor, env: gym.Env, seed: int, *, options: Mapping[str, Any]) -> None:
    """Play one episode in an environment that records, as a vector environment of one, so that the player
    sees what it was trained on."""
    seen = {name: value for name, value in (options["env_kwargs"] or {}).items() if name in OF_THE_STREAM}
    limits = {name: options[name] for name in ("obs_keys", "max_episode_steps")}
    with make_vector_env(env, 1, seed=seed, env_kwargs=seen, **limits) as stream:
        obs = stream.reset()
        over, steps, bound = False, 0, step_bound(stream.max_episode_steps, None)
        while not over and (bound is None or steps < bound):
            steps += 1
            timestep = stream.step(actor.act(obs, deterministic=True))
            actor.observe(timestep)
            obs = timestep.obs
            over = bool(torch.any(timestep.terminated | timestep.truncated))
