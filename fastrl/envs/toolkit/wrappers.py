"""Gymnasium's wrappers in any installed version, and one normalised environment made with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.make import make_gymnasium_env


def _transform_observation(env: gym.Env[Any, Any], fn: Callable[[Any], Any]) -> gym.Env[Any, Any]:
    """`TransformObservation` with the environment's own space, which newer versions ask for."""
    wrapper: Any = gym.wrappers.TransformObservation
    if "observation_space" in inspect.signature(wrapper.__init__).parameters:
        return wrapper(env, fn, env.observation_space)
    return wrapper(env, fn)


def _transform_reward(env: gym.Env[Any, Any], fn: Callable[[Any], Any]) -> gym.Env[Any, Any]:
    """`TransformReward`; some versions name the function `func`, some `f`."""
    wrapper: Any = gym.wrappers.TransformReward
    return wrapper(env, fn)


def _find_wrapper(env: Any, wrapper_type: type[Any]) -> Any:
    """The first wrapper of that type, from the outside in; None when there is none."""
    while env is not None:
        if isinstance(env, wrapper_type):
            return env
        env = getattr(env, "env", None)
    return None


def _make_env(
    env_id: str,
    *,
    seed: int | None = None,
    gamma: float = 0.99,
    normalize_observation: bool = True,
    clip_observation: float | None = 10.0,
    normalize_reward: bool = True,
    clip_reward: float | None = 10.0,
) -> gym.Env[Any, Any]:
    """One Gymnasium environment: seeded, flattened, counted, observations and rewards normalised.

    Statistics are recorded inside the normalisation: `info["episode"]["r"]` is the sum of the environment's
    own rewards. Actions are in the environment's own units (see `fastrl.envs.ActionScale`).

    Args:
        env_id: a Gymnasium id; or, as a single environment, one that EnvPool or fastrl has,
            `dm_control/<domain>/<task>` among them.
        seed: seeds the environment and its action space; None leaves them unseeded.
        gamma: per-step discount of the return whose running variance scales the rewards.
        normalize_observation, normalize_reward: whether to normalise by running statistics.
        clip_observation, clip_reward: bounds of the normalised values; None does not clip.

    Raises:
        SettingError: there is no such environment, or a package it needs is missing.
    """
    env = make_gymnasium_env(env_id)
    if not isinstance(env.observation_space, gym.spaces.Box) or len(env.observation_space.shape) != 1:
        env = gym.wrappers.FlattenObservation(env)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    if normalize_observation:
        env = gym.wrappers.NormalizeObservation(env)
        if clip_observation is not None:
            bound = clip_observation
            env = _transform_observation(env, lambda obs: np.clip(obs, -bound, bound))
    if normalize_reward:
        env = gym.wrappers.NormalizeReward(env, gamma=gamma)
        if clip_reward is not None:
            limit = clip_reward
            env = _transform_reward(env, lambda reward: float(np.clip(reward, -limit, limit)))
    if seed is not None:
        env.action_space.seed(seed)
        env.observation_space.seed(seed)
        env.reset(seed=seed)
    return env
