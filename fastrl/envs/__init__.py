"""Environments: everything a trainer steps is a `VectorEnv` returning `Timestep`; quirks of simulators end here."""

from fastrl.envs.base import ActionSpec, EnvironmentFailure, Episode, Timestep, VectorEnv
from fastrl.envs.make import make_vector_env

__all__ = ["ActionSpec", "EnvironmentFailure", "Episode", "Timestep", "VectorEnv", "make_vector_env"]
