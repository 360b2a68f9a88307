"""The families of environments that `make_vector_env` takes, and the table that they stand in.

A family knows its ids or objects, makes vector environments of them, and a single Gymnasium environment where
there is one. The first family of `FAMILIES` that says an environment is its own makes it. Simulators are
imported by the family that needs them, when it does.
"""

from __future__ import annotations

from typing import Any

from fastrl.envs.base import VectorEnv
from fastrl.envs.families.base import Family
from fastrl.envs.families.ids import ID_FAMILIES, EnvId, list_env_ids
from fastrl.envs.families.objects import OBJECT_FAMILIES, ModuleNames
from fastrl.envs.own import require_present
from fastrl.envs.vector_settings import VectorSettings

__all__ = ["FAMILIES", "EnvId", "Family", "env_source", "family_of", "list_env_ids", "make_environments"]

FAMILIES: tuple[Family, ...] = (*OBJECT_FAMILIES, ModuleNames(), *ID_FAMILIES)


def family_of(env: Any) -> Family:
    """The first family whose environment it is."""
    return next(family for family in FAMILIES if family.has(env))


def make_environments(env: Any, settings: VectorSettings) -> VectorEnv:
    """`make_vector_env`, with its settings as one value."""
    require_present(env, settings.env_kwargs)
    return family_of(env).make_vector(env, settings)


def env_source(env_id: str) -> str:
    """Whose environment `make_vector_env` takes for an id; "gymnasium" for unknown ids too."""
    return family_of(env_id).source
