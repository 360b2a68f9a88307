"""Environments: everything a trainer steps is a `VectorEnv` returning `Timestep`; quirks of simulators end here."""

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.base import EnvironmentFailure, Episode, Timestep, VectorEnv
from fastrl.envs.make import EnvId, list_env_ids, make_vector_env

__all__ = ["ActionSpec", "EnvId", "EnvironmentFailure", "Episode", "Timestep", "VectorEnv", "list_env_ids", "make_vector_env"]
