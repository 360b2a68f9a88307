"""A class for each algorithm: a trainer that is made from an environment and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.front.training import configuration
from fastrl.runs.trainer import Trainer
from fastrl.trainers.mpo.trainer import MPOTrainer
from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer
from fastrl.trainers.sac.trainer import SACTrainer
from fastrl.trainers.vmpo.trainer import VMPOTrainer

if TYPE_CHECKING:
    from fastrl.front.training import Environment


class ByName(Trainer):
    """A trainer that is made from an environment and settings by name.

        fastrl.PPO("CartPole-v1", num_envs=16).train(100_000)

    Args:
        env: an EnvPool or Gymnasium id, `module:name`, an environment, a vector environment, or a function
            or class that makes environments.
        preset: start from the recommended settings for this id, where there are some; False: from the
            algorithm's defaults.
        **settings: settings of the algorithm by name; they go before the preset's.

    Raises:
        SettingError: there is no such environment or setting, or a value is out of its range.
    """

    NAME: ClassVar[str]  # in the registry

    def __init__(self, env: Environment, *, preset: bool = True, **settings: Any) -> None:
        Trainer.__init__(self, configuration(self.NAME, env, preset=preset, settings=settings))


class VanillaPG(ByName, PolicyGradientTrainer):
    """The policy gradient with a value function. Arguments: see `ByName`."""

    NAME = "vanilla-pg"


class A2C(ByName, PolicyGradientTrainer):
    """Advantage actor-critic: short rollouts of many environments. Arguments: see `ByName`."""

    NAME = "a2c"


class SurrogatePG(ByName, PolicyGradientTrainer):
    """The surrogate objective without a bound. Arguments: see `ByName`."""

    NAME = "surrogate-pg"


class PPO(ByName, PolicyGradientTrainer):
    """Proximal policy optimisation with clipped ratios. Arguments: see `ByName`."""

    NAME = "ppo"


class PPOAdaptive(ByName, PolicyGradientTrainer):
    """PPO with a penalty on the KL divergence that adapts. Arguments: see `ByName`."""

    NAME = "ppo-adaptive"


class VMPO(ByName, VMPOTrainer):
    """On-policy maximum a posteriori policy optimisation. Arguments: see `ByName`."""

    NAME = "vmpo"


class MPO(ByName, MPOTrainer):
    """Off-policy maximum a posteriori policy optimisation from a replay. Arguments: see `ByName`."""

    NAME = "mpo"


class PPOTrXL(ByName, PPOTrXLTrainer):
    """PPO with a Transformer-XL memory of the episode. Arguments: see `ByName`."""

    NAME = "ppo-trxl"


class SAC(ByName, SACTrainer):
    """Soft actor-critic, with a temperature that adapts. Arguments: see `ByName`."""

    NAME = "sac"
