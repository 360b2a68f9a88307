"""Families of environments that are no ids: objects, factories, and `module:name`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrl.envs.base import VectorEnv
from fastrl.envs.families.base import Family
from fastrl.envs.families.ids import GYMNASIUM_IDS
from fastrl.envs.modules import find_in_module, names_module, present_folder
from fastrl.envs.vector_settings import VectorSettings
from fastrl.errors import SettingError

if TYPE_CHECKING:
    import gymnasium as gym


class VectorEnvs(Family):
    """A `VectorEnv` that is already made."""

    def has(self, env: Any) -> bool:
        return isinstance(env, VectorEnv)

    def make_vector(self, env: VectorEnv, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.objects import as_it_is

        return as_it_is(env, settings)

    def make_single(self, env: Any, options: Mapping[str, Any], max_episode_steps: int | None) -> Any:
        raise SettingError(
            f"env_id is a {type(env).__name__}; a single environment is made from an id, a Gymnasium "
            "environment or a factory of them"
        )


class GymnasiumVectors(VectorEnvs):
    """A Gymnasium vector environment."""

    def has(self, env: Any) -> bool:
        if isinstance(env, str):
            return False
        import gymnasium as gym

        return isinstance(env, gym.vector.VectorEnv)

    def make_vector(self, env: Any, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.objects import from_vector

        return from_vector(env, settings)


class GymnasiumEnvs(Family):
    """A single Gymnasium environment."""

    def has(self, env: Any) -> bool:
        if isinstance(env, str):
            return False
        import gymnasium as gym

        return isinstance(env, gym.Env)

    def make_vector(self, env: Any, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.objects import from_single

        return from_single(env, settings)

    def make_single(self, env: Any, options: Mapping[str, Any], max_episode_steps: int | None) -> Any:
        from fastrl.envs.adapters.time_limit import limited

        return limited(env, max_episode_steps)


class Factories(Family):
    """Whatever else is no id: a factory, or a mistake."""

    def has(self, env: Any) -> bool:
        return not isinstance(env, str)

    def make_vector(self, env: Any, settings: VectorSettings) -> VectorEnv:
        from fastrl.envs.adapters.objects import from_factory

        return from_factory(env, settings)

    def make_single(
        self, env: Any, options: Mapping[str, Any], max_episode_steps: int | None
    ) -> gym.Env[Any, Any]:
        from fastrl.envs.adapters.objects import single_of_factory

        return single_of_factory(env, options, max_episode_steps)


OBJECT_FAMILIES: tuple[Family, ...] = (VectorEnvs(), GymnasiumVectors(), GymnasiumEnvs(), Factories())


class ModuleNames(Family):
    """`module:name`: the id that a module registers with Gymnasium, or its class or function of that name."""

    def has(self, env: Any) -> bool:
        return names_module(env)

    def make_vector(self, env: str, settings: VectorSettings) -> VectorEnv:
        with present_folder():
            found, family = self._find(env)
            return family.make_vector(found, settings.named(env))

    def make_single(
        self, env: str, options: Mapping[str, Any], max_episode_steps: int | None
    ) -> gym.Env[Any, Any]:
        with present_folder():
            found, family = self._find(env)
            return family.make_single(found, options, max_episode_steps)

    @staticmethod
    def _find(env: str) -> tuple[Any, Family]:
        found = find_in_module(env)
        if isinstance(found, str):
            return found, GYMNASIUM_IDS
        return found, next(family for family in OBJECT_FAMILIES if family.has(found))
