"""Environments that are already made, and factories, as a `VectorEnv` or a single Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium as gym

from fastrl.envs.adapters.gymnasium import GymnasiumEnv
from fastrl.envs.adapters.gymnasium_vector import GymnasiumVectorEnv
from fastrl.envs.adapters.time_limit import check_limit, limited, time_limit
from fastrl.envs.base import VectorEnv
from fastrl.envs.construction import build, build_many
from fastrl.envs.own import env_name
from fastrl.envs.vector_settings import VectorSettings, split_options
from fastrl.errors import SettingError


def as_it_is(env: VectorEnv, settings: VectorSettings) -> VectorEnv:
    """The environment itself.

    Raises:
        SettingError: a setting asks for something else than what it is.
    """
    _check_count(settings.num_envs, env.num_envs, env.name)
    check_limit(settings.max_episode_steps, env.max_episode_steps, env.name)
    if settings.env_kwargs:
        raise SettingError(
            f"env_kwargs: {', '.join(settings.env_kwargs)} cannot be given to a VectorEnv that is already "
            f"made ({env.name})"
        )
    if settings.obs_keys is not None:
        raise SettingError(f"obs_keys cannot be given to a VectorEnv that is already made ({env.name})")
    if not env.action.masked:
        settings.refuse_mask(env.name)
    if env.scale_actions and not settings.scale_actions and env.action.kind == "continuous":
        raise SettingError(
            f"scale_actions must be given where a VectorEnv is made; {env.name} is already made, and scales "
            "its actions"
        )
    return env


def from_single(env: gym.Env[Any, Any], settings: VectorSettings) -> VectorEnv:
    """One Gymnasium environment."""
    mode, maps = _made_already(settings)
    if mode is not None:
        raise SettingError(f"autoreset_mode is for vector environments; {env_name(env)} is a single one")
    require_one(settings.num_envs)
    return GymnasiumEnv(
        [limited(env, settings.max_episode_steps)], **settings.view, **maps, **_placement(settings)
    )


def from_vector(env: gym.vector.VectorEnv[Any, Any, Any], settings: VectorSettings) -> VectorEnv:
    """A Gymnasium vector environment; the environments of a `SyncVectorEnv` are stepped directly."""
    mode, maps = _made_already(settings)
    arguments = {**settings.view, **maps, **_placement(settings)}
    _check_count(settings.num_envs, env.num_envs, env_name(env))
    if type(env) is gym.vector.SyncVectorEnv:
        return GymnasiumEnv([limited(each, settings.max_episode_steps) for each in env.envs], **arguments)
    check_limit(settings.max_episode_steps, time_limit(env), env_name(env))
    return GymnasiumVectorEnv(env, mode=mode, **arguments)


def from_factory(factory: Any, settings: VectorSettings) -> VectorEnv:
    """What a factory makes: N Gymnasium environments, or one vector environment.

    Raises:
        SettingError: it is none, it raised, or it returned something else.
    """
    if not callable(factory):
        raise SettingError(
            f"env must be an id, a Gymnasium environment or a factory, got {type(factory).__name__}"
        )
    mode, given = settings.mode_and_options()
    options, maps = split_options(given)
    make: Callable[[], Any] = partial(build, factory, options)
    first = make()
    left = settings.with_options(maps | ({} if mode is None else {"autoreset_mode": mode}))
    if isinstance(first, VectorEnv):
        return as_it_is(first, left)
    if isinstance(first, gym.vector.VectorEnv):
        return from_vector(first, left)
    if not isinstance(first, gym.Env):
        raise SettingError(
            f"env must be a factory of Gymnasium environments; it returned {type(first).__name__}"
        )
    if mode is not None:
        raise SettingError("autoreset_mode is for vector environments; the factory makes single ones")
    envs = [first, *build_many(make, settings.num_envs - 1, "the factory")]
    if len({id(one) for one in envs}) < settings.num_envs:
        raise SettingError(
            "env must be a factory that makes a new environment at every call; it returned the same one twice"
        )
    limit = settings.max_episode_steps
    return GymnasiumEnv(
        [limited(each, limit) for each in envs], **settings.view, **maps, **_placement(settings)
    )


def single_of_factory(
    factory: Callable[..., Any], options: Mapping[str, Any], max_episode_steps: int | None
) -> gym.Env[Any, Any]:
    """One Gymnasium environment that a factory makes.

    Raises:
        SettingError: it raised, or made something else.
    """
    made = build(factory, options)
    if not isinstance(made, gym.Env):
        raise SettingError(
            f"env_id is a factory of {type(made).__name__}; for a single environment it must make Gymnasium "
            "environments"
        )
    return limited(made, max_episode_steps)


def require_one(num_envs: int) -> None:
    """Raises SettingError where more than one environment is wanted of a single object."""
    if num_envs != 1:
        raise SettingError(
            f"num_envs must be 1 for a single environment object, got {num_envs}; give a factory to make more"
        )


def _made_already(settings: VectorSettings) -> tuple[Any, dict[str, Any]]:
    """Autoreset mode, and the options that fastrl applies itself: all that a made environment takes."""
    mode, given = settings.mode_and_options()
    options, maps = split_options(given)
    if options:
        raise SettingError(
            f"env_kwargs: {', '.join(sorted(options))} cannot be given to an environment that is already made"
        )
    return mode, maps


def _check_count(wanted: int, there: int, name: str) -> None:
    if wanted not in (1, there):  # 1 is also what stands there when nothing was said
        raise SettingError(
            f"num_envs is {wanted}, but {name} has {there} environments; give num_envs={there}, or a factory"
        )


def _placement(settings: VectorSettings) -> dict[str, Any]:
    return {"name": settings.name, **settings.placement}
