"""Single environments, for loops of one's own and for the policy-gradient toolkit, and their wrappers."""

from fastrl.envs.toolkit.base_env import BaseEnv
from fastrl.envs.toolkit.gym_env import GymEnv
from fastrl.envs.toolkit.roboschool import RoboschoolEnv

__all__ = ["BaseEnv", "GymEnv", "RoboschoolEnv"]
