"""The algorithms by the name that the command line and config.toml use, imported when asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from fastrl.errors import SettingError, nearest


@dataclass(frozen=True)
class Algorithm:
    """An algorithm: its name, a line about it, and where its classes are, as `module:class`.

    The config class is a dataclass derived from `fastrl.runs.config.RunConfig`. The trainer class has

    - `from_config(config)`: class method; builds environments and networks, writes nothing;
    - `train(total_steps, out_dir)`: trains in the run folder until `env_steps`
      reaches `total_steps` or a signal asks to stop, whose name `interrupted` then is (else None), and leaves
      a checkpoint either way;
    - `evaluate(n_episodes, seed)`: the metrics `eval/...` of episodes with the deterministic policy; `seed`
      may be left out;
    - `save(path)` and `load(path)`: write a checkpoint below a directory, continue from its newest good one;
    - `close()`: closes the environments;

    and the attributes `algorithm` (the name below), `env_steps` and `interrupted`.
    """

    name: str
    summary: str
    config_path: str
    trainer_path: str

    def config_class(self) -> Any:
        """Import and return the config class."""
        return _import(self.config_path)

    def trainer_class(self) -> Any:
        """Import and return the trainer class."""
        return _import(self.trainer_path)


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(
            "vmpo",
            "V-MPO: on-policy maximum a posteriori policy optimisation, for vector observations",
            "fastrl.trainers.vmpo.config:VMPOConfig",
            "fastrl.trainers.vmpo.trainer:VMPOTrainer",
        ),
        Algorithm(
            "mpo",
            "MPO: off-policy maximum a posteriori policy optimisation from replayed sequences, with Retrace",
            "fastrl.trainers.mpo.config:MPOConfig",
            "fastrl.trainers.mpo.trainer:MPOTrainer",
        ),
        Algorithm(
            "sac",
            "SAC: off-policy soft actor-critic with twin critics, for continuous actions",
            "fastrl.trainers.sac.config:SACConfig",
            "fastrl.trainers.sac.trainer:SACTrainer",
        ),
        Algorithm(
            "vanilla-pg",
            "VanillaPG: the policy gradient with a value function",
            "fastrl.trainers.policy_gradient.config:VanillaPGConfig",
            "fastrl.trainers.policy_gradient.trainer:PolicyGradientTrainer",
        ),
        Algorithm(
            "a2c",
            "A2C: advantage actor-critic, short rollouts of many environments",
            "fastrl.trainers.policy_gradient.config:A2CConfig",
            "fastrl.trainers.policy_gradient.trainer:PolicyGradientTrainer",
        ),
        Algorithm(
            "surrogate-pg",
            "SurrogatePG: the surrogate objective without a bound",
            "fastrl.trainers.policy_gradient.config:SurrogatePGConfig",
            "fastrl.trainers.policy_gradient.trainer:PolicyGradientTrainer",
        ),
        Algorithm(
            "ppo",
            "PPO with clipped ratios",
            "fastrl.trainers.policy_gradient.config:PPOConfig",
            "fastrl.trainers.policy_gradient.trainer:PolicyGradientTrainer",
        ),
        Algorithm(
            "ppo-adaptive",
            "PPO with a penalty on the KL divergence that adapts",
            "fastrl.trainers.policy_gradient.config:PPOAdaptiveConfig",
            "fastrl.trainers.policy_gradient.trainer:PolicyGradientTrainer",
        ),
        Algorithm(
            "ppo-trxl",
            "PPO with a Transformer-XL memory of the episode, for tasks that need one",
            "fastrl.trainers.ppo_trxl.config:PPOTrXLConfig",
            "fastrl.trainers.ppo_trxl.trainer:PPOTrXLTrainer",
        ),
    )
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of this name.

    Raises: SettingError, with the nearest name, if there is none.
    """
    if name not in ALGORITHMS:
        raise SettingError(
            f"there is no algorithm {name!r}{nearest(name, ALGORITHMS)}; known: {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[name]


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
