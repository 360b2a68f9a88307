"""`make_vector_env`: the one way from an id, an object or a factory to a `VectorEnv`; and the list of ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fastrl.envs.base import VectorEnv
from fastrl.envs.construction import build, build_many, constructing
from fastrl.envs.modules import GYMNASIUM, find_in_module, names_module, present_folder, require_allowed
from fastrl.envs.own import require_present
from fastrl.envs.toy import TOYS
from fastrl.envs.toy_vector import ToyVectorEnv
from fastrl.errors import SettingError, nearest
from fastrl.machine import require_envs, require_threads, require_whole

if TYPE_CHECKING:
    import gymnasium as gym


MASKED = {
    "MaskedCartPole-v1": ("CartPole-v1", (0, 2))
}  # EnvPool's id, and the columns of its observation that are seen
_MAP_OPTIONS = ("crop", "num_actions")  # of `env_kwargs`, those that fastrl applies to any environment


class EnvId(NamedTuple):
    """An id that `make_vector_env` takes, and whose environment it is: "fastrl", "envpool" or "gymnasium"."""

    env_id: str
    source: str


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
    scale_actions: bool = True,
    autoreset_mode: Any = None,
) -> VectorEnv:
    """Environments for a trainer.

    Args:
        env: an id: one of fastrl's own (`Identity-v0`, `IdentityContinuous-v0`, `Counter-v0`,
            `ProofofMemory-v0`, `MaskedCartPole-v1`), EnvPool's where it has the id, else Gymnasium's;
            `dm_control/<domain>-<task>` or `dm_control/<domain>/<task>` is EnvPool's task, and
            `gymnasium:<id>` always Gymnasium's environment. `module:name` imports the module (the present
            folder counts) and takes the id that it registers with Gymnasium, else its class or function of
            that name, as a factory. Or a Gymnasium environment (then N is 1), a Gymnasium vector environment
            (then N is its own), or a factory: called N times for Gymnasium environments, or once for a vector
            environment, with `env_kwargs` as its arguments.
        num_envs: N.
        seed: gives each environment a seed of its own; the same seed gives the same environments.
        device: where observations, rewards and flags go.
        num_threads: threads of EnvPool; None: one per environment, at most one per core. Other environments
            use one.
        obs_keys: entries of dict observations to take, in this order; None: all but images (see
            `ObservationMap`).
        max_episode_steps: another time limit. A vector environment that is already made keeps its own: one
            that tells another is refused, and where it tells none this is taken for what it has, and not
            enforced.
        env_kwargs: options of the environment; `crop` for MiniGrid, and `num_actions`: only the first ones of
            its discrete actions.
        scale_actions: continuous actions go from −1 to 1 and are mapped to the environment's bounds, in each
            dimension whose bounds are finite (see `fastrl.envs.action_scale.ActionScale`); False: they are in
            the environment's own units.
        autoreset_mode: "next_step", "same_step" or "disabled", of a Gymnasium vector environment that does
            not tell its mode; None finds it out (see `fastrl.envs.autoreset`). `env_kwargs` may hold it too.

    Returns:
        A `VectorEnv`; call `reset` first. A `VectorEnv` given as `env` is returned as it is.

    Raises:
        SettingError: no such environment (the message names the nearest), a missing package, or a setting
            that does not fit.
    """
    require_envs(num_envs)
    require_threads("num_threads", num_threads)
    require_whole("seed", seed, least=0)
    require_whole("max_episode_steps", max_episode_steps)
    if env_kwargs is not None and not (
        isinstance(env_kwargs, Mapping) and all(isinstance(name, str) for name in env_kwargs)
    ):
        raise SettingError(f"env_kwargs must be options by name, got {env_kwargs!r}")
    require_present(env, env_kwargs)
    if isinstance(env, VectorEnv):
        return _as_it_is(env, num_envs, max_episode_steps, obs_keys, env_kwargs, scale_actions)
    placement: dict[str, Any] = {"seed": seed, "device": device, "scale_actions": scale_actions}
    if not isinstance(env, str):
        return _from_object(
            env, num_envs, obs_keys, max_episode_steps, _with_mode(env_kwargs, autoreset_mode), placement
        )
    if names_module(env):
        placement["name"] = env
        with present_folder():
            found = find_in_module(env)
            if isinstance(found, str):
                return _from_gymnasium(found, num_envs, obs_keys, max_episode_steps, env_kwargs, placement)
            return _from_object(
                found,
                num_envs,
                obs_keys,
                max_episode_steps,
                _with_mode(env_kwargs, autoreset_mode),
                placement,
            )
    if autoreset_mode is not None:
        raise SettingError(
            f"autoreset_mode is for Gymnasium vector environments that do not tell theirs; {env} is an id"
        )
    if env in TOYS:
        if obs_keys is not None:
            raise SettingError(f"obs_keys is for dict observations; those of {env} are a single array")
        return ToyVectorEnv(
            env, num_envs, max_episode_steps=max_episode_steps, env_kwargs=env_kwargs, **placement
        )
    pool_options: dict[str, Any] = {
        "num_threads": num_threads,
        "obs_keys": obs_keys,
        "max_episode_steps": max_episode_steps,
        "env_kwargs": env_kwargs,
        **placement,
    }
    if env in MASKED:
        return _masked(env, num_envs, pool_options)
    envpool_id = _envpool_id(env)
    if envpool_id is not None:
        from fastrl.envs.envpool import EnvPoolEnv

        return EnvPoolEnv(envpool_id, num_envs, **pool_options)
    return _from_gymnasium(env, num_envs, obs_keys, max_episode_steps, env_kwargs, placement | {"name": env})


def make_gymnasium_env(
    env: str | Callable[..., gym.Env[Any, Any]],
    *,
    max_episode_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> gym.Env[Any, Any]:
    """One environment with Gymnasium's interface: Gymnasium's own where it has the id and what it needs, else
    EnvPool's or fastrl's.

    Args:
        env: an id, `module:name` among them, or a factory of Gymnasium environments.
        max_episode_steps: another time limit.
        options: as `env_kwargs` of `make_vector_env`, and of the environment that it makes: of EnvPool's,
            where EnvPool has the id. With a `render_mode` among them it has to be Gymnasium's.

    Raises:
        SettingError: there is no such environment, a package it needs is missing, or it cannot be made with
            these arguments.
    """
    import gymnasium as gym

    from fastrl.envs.single import SingleEnv

    own, maps = _split(options)
    single = partial(SingleEnv, env, max_episode_steps=max_episode_steps, **own, **maps)
    if not isinstance(env, str) or names_module(env):
        return single() if maps else one_gymnasium_env(env, own, max_episode_steps)
    elsewhere = env in TOYS or env in MASKED or _envpool_id(env) is not None
    drawn = "render_mode" in own
    if maps or (elsewhere and not drawn and (own or env not in gym.registry)):
        return single()
    try:
        return one_gymnasium_env(env, own, max_episode_steps)
    except SettingError:
        if elsewhere and not drawn:  # MuJoCo ids without the package mujoco
            return single()
        raise


def list_env_ids(contains: str = "") -> list[EnvId]:
    """Every id `make_vector_env` takes whose name contains `contains` (upper and lower case alike), fastrl's
    own first.

    Gymnasium's environments of ids that EnvPool or fastrl has too are listed, as `gymnasium:<id>`, where
    `contains` begins like that.
    """
    from fastrl.envs.envpool import envpool_ids

    pool = envpool_ids()
    own = [*TOYS, *(env_id for env_id, (base, _) in MASKED.items() if base in pool)]
    taken = {*own, *pool}
    listed = [EnvId(env_id, "fastrl") for env_id in own] + [EnvId(env_id, "envpool") for env_id in pool]
    if contains.lower().startswith(GYMNASIUM):
        listed = [EnvId(GYMNASIUM + env_id, "gymnasium") for env_id in _gymnasium_ids()]
    else:
        listed += [EnvId(env_id, "gymnasium") for env_id in _gymnasium_ids() if env_id not in taken]
    return [entry for entry in listed if contains.lower() in entry.env_id.lower()]


# ----------------------------------------------------------------------------------------------- ids


def env_source(env_id: str) -> str:
    """Whose environment `make_vector_env` takes for an id: "fastrl", "envpool" or "gymnasium" (said of
    unknown ids too)."""
    if env_id in TOYS or env_id in MASKED:
        return "fastrl"
    return "gymnasium" if _envpool_id(env_id) is None else "envpool"


def _gymnasium_ids() -> list[str]:
    import gymnasium as gym

    return list(gym.registry)


def _envpool_id(env_id: str) -> str | None:
    """EnvPool's name of an id, or None when it does not have it."""
    from fastrl.envs.envpool import CRASHING, dm_control_id, envpool_ids

    known = envpool_ids()
    if not env_id.startswith("dm_control/"):
        return env_id if env_id in known or env_id in CRASHING else None
    found = dm_control_id(env_id)
    if found is None and env_id not in _gymnasium_ids():
        task = "".join(
            word[:1].upper() + word[1:] for word in re.split("[-_/]", env_id.removeprefix("dm_control/"))
        )
        raise SettingError(
            f"env_id: there is no dm_control task for {env_id!r} in EnvPool{nearest(f'{task}-v1', known)}"
        )
    return found


def _masked(env_id: str, num_envs: int, options: Mapping[str, Any]) -> VectorEnv:
    from fastrl.envs.envpool import envpool_ids
    from fastrl.envs.masked import MaskedEnv

    base, columns = MASKED[env_id]
    if base not in envpool_ids():
        raise SettingError(
            f"env_id: {env_id} is made from {base} of EnvPool, which is not there; run `pip install envpool`"
        )
    return MaskedEnv(base, num_envs, name=env_id, columns=columns, **options)


def _gymnasium_make(env_id: str, options: Mapping[str, Any]) -> gym.Env[Any, Any]:
    import gymnasium as gym

    asked, env_id = env_id, env_id.removeprefix(GYMNASIUM)
    try:
        gym.spec(env_id)
    except (gym.error.Error, ImportError) as error:
        known = [entry.env_id for entry in list_env_ids(GYMNASIUM if asked != env_id else "")]
        raise SettingError(f"env_id: there is no environment {asked!r}{nearest(asked, known)}") from error
    with constructing(env_id, options):
        return gym.make(env_id, **options)


def _from_gymnasium(
    env_id: str,
    num_envs: int,
    obs_keys: Sequence[str] | None,
    max_episode_steps: int | None,
    env_kwargs: Mapping[str, Any] | None,
    placement: dict[str, Any],
) -> VectorEnv:
    from fastrl.envs.gymnasium import GymnasiumEnv

    options, maps = _split(env_kwargs)
    envs = build_many(partial(one_gymnasium_env, env_id, options, max_episode_steps), num_envs, env_id)
    return GymnasiumEnv(envs, obs_keys=obs_keys, **maps, **placement)


def one_gymnasium_env(
    env: Any, options: Mapping[str, Any], max_episode_steps: int | None
) -> gym.Env[Any, Any]:
    """Gymnasium's own environment of an id or of `module:name`, what a factory makes, or the Gymnasium
    environment that is given.

    Raises:
        SettingError: there is no such environment, or it is a vector environment.
    """
    import gymnasium as gym

    from fastrl.envs.time_limit import limited

    if isinstance(env, gym.Env):
        return limited(env, max_episode_steps)
    if not isinstance(env, str):
        return limited(_single_of_factory(env, options), max_episode_steps)
    if names_module(env):
        with present_folder():
            return one_gymnasium_env(find_in_module(env), options, max_episode_steps)
    inner = options.get("env_id")
    if isinstance(inner, str) and names_module(
        inner
    ):  # environments that make another one, such as GymV26Environment-v0
        require_allowed(inner)
    return limited(_gymnasium_make(env, options), max_episode_steps)


# ----------------------------------------------------------------------------- objects and factories


def _check_count(wanted: int, there: int, name: str) -> None:
    if wanted not in (1, there):  # 1 is also what stands there when nothing was said
        raise SettingError(
            f"num_envs is {wanted}, but {name} has {there} environments; give num_envs={there}, or a factory"
        )


def _split(env_kwargs: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the environment itself, and those of `_MAP_OPTIONS` that are given."""
    options = dict(env_kwargs or {})
    maps = {key: options.pop(key) for key in _MAP_OPTIONS if key in options}
    return options, {key: value for key, value in maps.items() if value is not None}


def _with_mode(env_kwargs: Mapping[str, Any] | None, autoreset_mode: Any) -> dict[str, Any]:
    """Options with the autoreset mode among them, if one is given."""
    return {**(env_kwargs or {})} | ({} if autoreset_mode is None else {"autoreset_mode": autoreset_mode})


def _as_it_is(
    env: VectorEnv,
    num_envs: int,
    max_episode_steps: int | None,
    obs_keys: Sequence[str] | None,
    env_kwargs: Mapping[str, Any] | None,
    scale_actions: bool,
) -> VectorEnv:
    from fastrl.envs.time_limit import check_limit

    _check_count(num_envs, env.num_envs, env.name)
    check_limit(max_episode_steps, env.max_episode_steps, env.name)
    if env_kwargs:
        raise SettingError(
            f"env_kwargs: {', '.join(env_kwargs)} cannot be given to a VectorEnv that is already made "
            f"({env.name})"
        )
    if obs_keys is not None:
        raise SettingError(f"obs_keys cannot be given to a VectorEnv that is already made ({env.name})")
    if env.scale_actions and not scale_actions and env.action.kind == "continuous":
        raise SettingError(
            f"scale_actions must be given where a VectorEnv is made; {env.name} is already made, and scales "
            "its actions"
        )
    return env


def _from_object(
    env: Any,
    num_envs: int,
    obs_keys: Sequence[str] | None,
    max_episode_steps: int | None,
    env_kwargs: Mapping[str, Any] | None,
    placement: dict[str, Any],
) -> VectorEnv:
    import gymnasium as gym

    options, maps = _split(env_kwargs)
    mode = options.pop("autoreset_mode", None)
    if not isinstance(env, gym.vector.VectorEnv | gym.Env):
        if not callable(env):
            raise SettingError(
                f"env must be an id, a Gymnasium environment or a factory, got {type(env).__name__}"
            )
        return _from_factory(
            partial(build, env, options),
            num_envs,
            obs_keys,
            max_episode_steps,
            _with_mode(maps, mode),
            placement,
        )
    if options:
        raise SettingError(
            f"env_kwargs: {', '.join(sorted(options))} cannot be given to an environment that is already made"
        )
    from fastrl.envs.gymnasium import GymnasiumEnv, GymnasiumVectorEnv, env_name
    from fastrl.envs.time_limit import check_limit, limited, time_limit

    settings = {"obs_keys": obs_keys, **maps, **placement}
    if isinstance(env, gym.vector.VectorEnv):
        _check_count(num_envs, env.num_envs, env_name(env))
        if (
            type(env) is gym.vector.SyncVectorEnv
        ):  # its environments can be stepped directly, whatever its autoreset mode
            return GymnasiumEnv([limited(each, max_episode_steps) for each in env.envs], **settings)
        check_limit(max_episode_steps, time_limit(env), env_name(env))
        return GymnasiumVectorEnv(env, mode=mode, **settings)
    if mode is not None:
        raise SettingError(f"autoreset_mode is for vector environments; {env_name(env)} is a single one")
    if num_envs != 1:
        raise SettingError(
            f"num_envs must be 1 for a single environment object, got {num_envs}; give a factory to make more"
        )
    return GymnasiumEnv([limited(env, max_episode_steps)], **settings)


def _from_factory(
    factory: Callable[[], Any],
    num_envs: int,
    obs_keys: Sequence[str] | None,
    max_episode_steps: int | None,
    maps: Mapping[str, Any],
    placement: dict[str, Any],
) -> VectorEnv:
    import gymnasium as gym

    from fastrl.envs.gymnasium import GymnasiumEnv
    from fastrl.envs.time_limit import limited

    first = factory()
    if isinstance(first, VectorEnv):
        return _as_it_is(first, num_envs, max_episode_steps, obs_keys, maps, placement["scale_actions"])
    if isinstance(first, gym.vector.VectorEnv):
        return _from_object(first, num_envs, obs_keys, max_episode_steps, maps, placement)
    if not isinstance(first, gym.Env):
        raise SettingError(
            f"env must be a factory of Gymnasium environments; it returned {type(first).__name__}"
        )
    if "autoreset_mode" in maps:
        raise SettingError("autoreset_mode is for vector environments; the factory makes single ones")
    envs = [first, *build_many(factory, num_envs - 1, "the factory")]
    if len({id(one) for one in envs}) < num_envs:
        raise SettingError(
            "env must be a factory that makes a new environment at every call; it returned the same one twice"
        )
    return GymnasiumEnv(
        [limited(each, max_episode_steps) for each in envs], obs_keys=obs_keys, **maps, **placement
    )


def _single_of_factory(factory: Callable[..., Any], options: Mapping[str, Any]) -> gym.Env[Any, Any]:
    import gymnasium as gym

    made = build(factory, options)
    if not isinstance(made, gym.Env):
        raise SettingError(
            f"env_id is a factory of {type(made).__name__}; for a single environment it must make Gymnasium "
            "environments"
        )
    return made
