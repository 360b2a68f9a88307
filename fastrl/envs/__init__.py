"""Environments: a trainer steps a `VectorEnv`, which returns `Timestep`; quirks of simulators end here."""

from fastrl.envs.action_scale import ActionScale
from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.base import EnvironmentFailure, VectorEnv
from fastrl.envs.check import check_env
from fastrl.envs.make import EnvId, list_env_ids, make_vector_env
from fastrl.envs.timestep import Episode, Timestep
from fastrl.envs.toolkit.base_env import BaseEnv
from fastrl.envs.toolkit.gym_env import GymEnv
from fastrl.envs.toolkit.roboschool import RoboschoolEnv

__all__ = [
    "ActionScale",
    "ActionSpec",
    "BaseEnv",
    "EnvId",
    "EnvironmentFailure",
    "Episode",
    "GymEnv",
    "RoboschoolEnv",
    "Timestep",
    "VectorEnv",
    "check_env",
    "list_env_ids",
    "make_vector_env",
]
