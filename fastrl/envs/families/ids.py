"""Families of environments by their ids: fastrl's own, EnvPool's and Gymnasium's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fastrl.envs.adapters.envpool_ids import envpool_id, envpool_ids
from fastrl.envs.base import VectorEnv
from fastrl.envs.construction import build_many, constructing
from fastrl.envs.families.base import Family
from fastrl.envs.modules import GYMNASIUM, names_module, require_allowed
from fastrl.envs.toys import TOYS
from fastrl.envs.toys.vector import ToyVectorEnv
from fastrl.envs.vector_settings import VectorSettings, split_options
from fastrl.errors import SettingError, nearest

if TYPE_CHECKING:
    import gymnasium as gym

# fastrl's id: EnvPool's id, and the columns of its observation that are seen
MASKED = {"MaskedCartPole-v1": ("CartPole-v1", (0, 2))}


class EnvId(NamedTuple):
    """An id that `make_vector_env` takes, and whose environment it is: "fastrl", "envpool" or "gymnasium"."""

    env_id: str
    source: str


class GymnasiumIds(Family):
    """Ids of Gymnasium's registry. They come last: every id that is of no other family is taken for one."""

    def has(self, env: Any) -> bool:
        return isinstance(env, str)

    def ids(self) -> list[str]:
        import gymnasium as gym

        return list(gym.registry)

    def make_vector(self, env: str, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.gymnasium import GymnasiumEnv

        _refuse_mode(env, settings)
        options, maps = split_options(settings.env_kwargs)
        make = partial(self.make_single, env, options, settings.max_episode_steps)
        envs = build_many(make, settings.num_envs, env)
        return GymnasiumEnv(envs, name=settings.name or env, **settings.view, **maps, **settings.placement)

    def make_single(
        self, env: str, options: Mapping[str, Any], max_episode_steps: int | None
    ) -> gym.Env[Any, Any]:
        import gymnasium as gym

        from fastrl.envs.adapters.time_limit import limited

        inner = options.get("env_id")  # environments that make another one, such as GymV26Environment-v0
        if isinstance(inner, str) and names_module(inner):
            require_allowed(inner)
        env_id = env.removeprefix(self.listed_under)
        try:
            gym.spec(env_id)
        except (gym.error.Error, ImportError) as error:
            known = [entry.env_id for entry in list_env_ids(self.listed_under)]
            raise SettingError(f"env_id: there is no environment {env!r}{nearest(env, known)}") from error
        with constructing(env_id, options):
            made = gym.make(env_id, **options)
        return limited(made, max_episode_steps)


class PrefixedGymnasiumIds(GymnasiumIds):
    """`gymnasium:<id>`: Gymnasium's environment, whoever else has the id."""

    listed_under = GYMNASIUM

    def has(self, env: Any) -> bool:
        return isinstance(env, str) and env.startswith(GYMNASIUM)

    def ids(self) -> list[str]:
        return [GYMNASIUM + env_id for env_id in super().ids()]


class _NotGymnasiums(Family):
    """Ids that fastrl or EnvPool makes; a single one is Gymnasium's of the same id, if it has that."""

    def make_single(
        self, env: str, options: Mapping[str, Any], max_episode_steps: int | None
    ) -> gym.Env[Any, Any]:
        return GYMNASIUM_IDS.make_single(env, options, max_episode_steps)


class Toys(_NotGymnasiums):
    """fastrl's small environments with known answers."""

    source = "fastrl"

    def has(self, env: Any) -> bool:
        return isinstance(env, str) and env in TOYS

    def ids(self) -> list[str]:
        return list(TOYS)

    def make_vector(self, env: str, settings: VectorSettings) -> VectorEnv:
        _refuse_mode(env, settings)
        if settings.obs_keys is not None:
            raise SettingError(f"obs_keys is for dict observations; those of {env} are a single array")
        settings.refuse_mask(env)
        return ToyVectorEnv(
            env,
            settings.num_envs,
            max_episode_steps=settings.max_episode_steps,
            env_kwargs=settings.env_kwargs,
            **settings.placement,
        )


class MaskedIds(_NotGymnasiums):
    """EnvPool's environments with part of the observation hidden."""

    source = "fastrl"

    def has(self, env: Any) -> bool:
        return isinstance(env, str) and env in MASKED

    def ids(self) -> list[str]:
        known = envpool_ids()
        return [env_id for env_id, (base, _) in MASKED.items() if base in known]

    def make_vector(self, env: str, settings: VectorSettings) -> VectorEnv:
        _refuse_mode(env, settings)
        base, columns = MASKED[env]
        if base not in envpool_ids():
            raise SettingError(
                f"env_id: {env} is made from {base} of EnvPool, which is not there; run `pip install envpool`"
            )
        settings.refuse_mask(env)
        from fastrl.envs.adapters.masked import MaskedEnv

        return MaskedEnv(base, settings.num_envs, name=env, columns=columns, **_pool_options(settings))


class EnvPoolIds(_NotGymnasiums):
    """EnvPool's ids, and `dm_control/<domain>-<task>` or `dm_control/<domain>/<task>` for its tasks."""

    source = "envpool"

    def has(self, env: Any) -> bool:
        return isinstance(env, str) and envpool_id(env) is not None

    def ids(self) -> list[str]:
        return envpool_ids()

    def make_vector(self, env: str, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.envpool import EnvPoolEnv

        _refuse_mode(env, settings)
        return EnvPoolEnv(envpool_id(env) or env, settings.num_envs, **_pool_options(settings))


GYMNASIUM_IDS = GymnasiumIds()
ID_FAMILIES: tuple[Family, ...] = (PrefixedGymnasiumIds(), Toys(), MaskedIds(), EnvPoolIds(), GYMNASIUM_IDS)


def list_env_ids(contains: str = "") -> list[EnvId]:
    """Every id `make_vector_env` takes whose name contains `contains` in any case, fastrl's own first.

    Gymnasium's environments of ids that EnvPool or fastrl has too are listed, as `gymnasium:<id>`, where
    `contains` begins like that.
    """
    wanted = contains.lower()
    sources: dict[str, str] = {}
    for family in ID_FAMILIES:
        if wanted.startswith(family.listed_under):
            for env_id in family.ids():
                sources.setdefault(env_id, family.source)
    return [EnvId(env_id, source) for env_id, source in sources.items() if wanted in env_id.lower()]


def _refuse_mode(env_id: str, settings: VectorSettings) -> None:
    if settings.autoreset_mode is not None:
        raise SettingError(
            f"autoreset_mode is for Gymnasium vector environments that do not tell theirs; {env_id} is an id"
        )


def _pool_options(settings: VectorSettings) -> dict[str, Any]:
    return {
        "num_threads": settings.num_threads,
        **settings.view,
        "max_episode_steps": settings.max_episode_steps,
        "env_kwargs": settings.env_kwargs,
        **settings.placement,
    }
