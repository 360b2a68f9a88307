"""Settings of policy-gradient runs: what all have in common, and what each algorithm adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.errors import SettingError
from fastrl.memory.config import MemoryConfig
from fastrl.runs.config import Ranges, check_choice, check_ranges, find_preset
from fastrl.runs.memory import FLOAT, Need, action_size, network_need, obs_size, perceptron, row_bytes
from fastrl.runs.threads import hidden_weights

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

RANGES: Ranges = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("num_steps", "update_epochs", "num_minibatches", "dae_epochs", "dae_minibatches"),
    ),
    ("layer widths of at least 1", lambda value: min(value, default=1) >= 1, ("layer_sizes",)),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("gamma", "gae_lambda", "dae_lambda")),
    ("finite", math.isfinite, ("log_std_init",)),
    ("finite and at least 0", lambda value: 0 <= value < math.inf, ("ent_coef", "vf_coef")),
    (
        "finite and above 0",
        lambda value: 0 < value < math.inf,
        ("learning_rate", "max_grad_norm", "clip_observation", "clip_reward"),
    ),
)

CLASSIC: dict[str, Any] = {"total_steps": 500_000, "num_envs": 16, "anneal_lr": True, "ent_coef": 0.01}
CONTINUOUS: dict[str, Any] = {
    "total_steps": 1_000_000,
    "num_envs": 16,
    "num_steps": 128,
    "anneal_lr": True,
    "update_epochs": 10,
    "normalize_observation": True,
    "normalize_reward": True,
}


@dataclass(kw_only=True)
class PolicyGradientConfig(MemoryConfig):
    """Settings that all policy-gradient algorithms have."""

    num_envs: int = 8
    """Environments stepped together, ≥ 1."""
    num_steps: int = 128
    """Steps of each environment per rollout; a batch is num_steps × num_envs rows."""
    layer_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and value function."""
    log_std_init: float = 0.0
    """Logarithm of the actions' standard deviation to start from, where continuous; bounds of actions
    are -1 and 1."""
    shared_encoder: bool = False
    """One encoder for policy and value function."""
    gamma: float = 0.99
    """Discount per environment step, in [0, 1]."""
    gae_lambda: float = 0.95
    """λ of GAE, in [0, 1]."""
    advantage_estimator: str = "gae"
    """How advantages are estimated: gae, or dae, an advantage function that is fitted together with the value
    function before the policy learns from it."""
    dae_epochs: int = 16
    """With dae: passes over a rollout in which Â and V are fitted together, before the policy learns from
    Â."""
    dae_minibatches: int = 1
    """With dae: minibatches of a pass, each of whole environments; at most num_envs."""
    dae_lambda: float = 1.0
    """With dae: λ of the sums that Â and V are fitted to, in [0, 1]; 1: up to where the episode or the
    rollout ends, as published."""
    normalize_advantages: bool = True
    """Standardise advantages, over the batch; with dae divide them by their deviation under the policy."""
    learning_rate: float = 3e-4
    """Learning rate to start from."""
    anneal_lr: bool = False
    """Let the learning rate fall linearly over total_steps: learning_rate in the first update, nearly 0 in
    the last."""
    update_epochs: int = 1
    """Passes over a rollout, ≥ 1."""
    num_minibatches: int = 1
    """Minibatches of a pass, ≥ 1."""
    ent_coef: float = 0.0
    """Factor of the entropy bonus, ≥ 0."""
    vf_coef: float = 1.0
    """Factor of the value loss, half the mean squared error; ≥ 0."""
    max_grad_norm: float = 0.5
    """Largest gradient norm, of policy and value function together."""
    normalize_observation: bool = False
    """Run observations through a running mean and variance."""
    clip_observation: float | None = 10.0
    """Bound of normalised observations; none: unbounded."""
    normalize_reward: bool = False
    """Learn from rewards over the running standard deviation of the discounted return; reported returns are
    raw."""
    clip_reward: float | None = 10.0
    """Bound of scaled rewards; none leaves them unbounded."""

    ALGORITHM: ClassVar[str]
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}

    def hidden_weights(self) -> int:
        """See `RunConfig.hidden_weights`."""
        if self.memory != "none":
            return self.memory_weights()
        return 2 * hidden_weights(self.layer_sizes)

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        return (
            *super().fixed_on_resume(),
            "num_steps",
            "layer_sizes",
            "shared_encoder",
            "normalize_observation",
            "normalize_reward",
            "advantage_estimator",
        )

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
        if self.num_minibatches > self.num_steps * self.num_envs:
            raise SettingError(
                f"num_minibatches must be at most the {self.num_steps * self.num_envs} rows of a batch"
            )
        check_choice(self, "advantage_estimator", ("gae", "dae"))
        if self.advantage_estimator == "dae" and self.shared_encoder:
            raise SettingError(
                "shared_encoder must be false with dae, which fits the value function before the policy moves"
            )
        if self.advantage_estimator == "dae" and self.dae_minibatches > self.num_envs:
            raise SettingError(
                f"dae_minibatches must be at most num_envs, {self.num_envs}, got {self.dae_minibatches}"
            )

    def needs(self, env: VectorEnv) -> list[Need]:
        """Networks, rollout, and what the layers of a minibatch leave for its gradient."""
        if self.memory != "none":
            steps = self.num_steps * env.num_envs
            rollout = Need("rollout", steps * row_bytes(env), "num_steps or num_envs")
            return [*self.memory_needs(env, steps // self.num_minibatches), rollout]
        inputs, heads = obs_size(env), (action_size(env), 1, action_size(env))
        count = 3 if self.advantage_estimator == "dae" else 2
        parameters = sum(perceptron(inputs, self.layer_sizes, outputs) for outputs in heads[:count])
        rows = self.num_steps * env.num_envs
        activations = FLOAT * sum(self.layer_sizes) * count * rows // self.num_minibatches
        return [
            network_need(parameters, "layer_sizes"),
            Need(
                "rollout", rows * (row_bytes(env) + FLOAT * inputs), "num_steps or num_envs"
            ),  # as stepped, and as models see it
            Need("activations", activations, "layer_sizes or num_steps"),
        ]

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return find_preset(cls.PRESETS, env_id)


@dataclass(kw_only=True)
class VanillaPGConfig(PolicyGradientConfig):
    """Settings of a VanillaPG run."""

    ALGORITHM: ClassVar[str] = "vanilla-pg"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "CartPole-v1": CLASSIC | {"num_steps": 32, "learning_rate": 0.001, "normalize_reward": True}
    }


@dataclass(kw_only=True)
class A2CConfig(PolicyGradientConfig):
    """Settings of an A2C run."""

    num_envs: int = 16
    """Environments stepped together, ≥ 1."""
    num_steps: int = 5
    """Steps of each environment per rollout."""
    learning_rate: float = 7e-4
    """Learning rate to start from."""
    optimizer_type: str = "rmsprop"
    """Optimiser: rmsprop or adam."""
    normalize_advantages: bool = False
    """Standardise advantages, over the batch."""
    gae_lambda: float = 1.0
    """λ of GAE, in [0, 1]; 1 is the bootstrapped return less the value."""

    ALGORITHM: ClassVar[str] = "a2c"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "CartPole-v1": CLASSIC
        | {
            "num_steps": 32,
            "learning_rate": 0.002,
            "gae_lambda": 0.95,
            "normalize_advantages": True,
            "normalize_reward": True,
        }
    }

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        return (*super().fixed_on_resume(), "optimizer_type")

    def check(self) -> None:
        super().check()
        check_choice(self, "optimizer_type", ("rmsprop", "adam"))


@dataclass(kw_only=True)
class SurrogatePGConfig(PolicyGradientConfig):
    """Settings of a SurrogatePG run."""

    ALGORITHM: ClassVar[str] = "surrogate-pg"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "CartPole-v1": CLASSIC
        | {
            "num_envs": 32,
            "num_steps": 64,
            "learning_rate": 0.002,
            "update_epochs": 4,
            "normalize_reward": True,
        }
    }


@dataclass(kw_only=True)
class PPOConfig(PolicyGradientConfig):
    """Settings of a PPO run with clipped ratios."""

    update_epochs: int = 4
    """Passes over a rollout, ≥ 1."""
    num_minibatches: int = 4
    """Minibatches of a pass, ≥ 1."""
    clip_coef: float = 0.2
    """How far a probability ratio may be from 1 before it is clipped, > 0; with clip_vloss also how far a
    value may move."""
    clip_vloss: bool = False
    """Clip the change of values to clip_coef in the value loss."""
    anneal_clip: bool = False
    """Let the clip range fall linearly over total_steps: clip_coef in the first update, nearly 0 in the
    last."""

    ALGORITHM: ClassVar[str] = "ppo"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "CartPole-v1": CLASSIC | {"num_steps": 64, "learning_rate": 0.001, "normalize_reward": True},
        "Acrobot-v1": CLASSIC | {"num_steps": 64, "learning_rate": 0.001, "normalize_observation": True},
        "Pendulum-v1": CONTINUOUS
        | {
            "total_steps": 100_000,
            "num_envs": 4,
            "num_steps": 128,
            "gamma": 0.95,
            "learning_rate": 0.001,
            "num_minibatches": 8,
        },
        "Hopper-v5": CONTINUOUS | {"num_minibatches": 32},
        "HalfCheetah-v5": CONTINUOUS
        | {"gamma": 0.98, "gae_lambda": 0.92, "num_minibatches": 32, "log_std_init": -1.0},
        "InvertedPendulum-v5": CONTINUOUS | {"num_minibatches": 32},
        "Walker2d-v5": CONTINUOUS | {"num_minibatches": 32},
    }

    def check(self) -> None:
        super().check()
        check_ranges(
            self,
            (("finite and above 0", lambda value: 0 < value < math.inf, ("clip_coef",)),),
        )


@dataclass(kw_only=True)
class PPOAdaptiveConfig(PolicyGradientConfig):
    """Settings of a PPO run with a KL penalty that adapts."""

    update_epochs: int = 4
    """Passes over a rollout, ≥ 1."""
    num_minibatches: int = 4
    """Minibatches of a pass, ≥ 1."""
    kl_target: float = 0.01
    """KL divergence that the penalty aims at, in nats."""
    kl_penalty: float = 1.0
    """Penalty to start from."""

    ALGORITHM: ClassVar[str] = "ppo-adaptive"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "CartPole-v1": CLASSIC | {"num_steps": 64, "learning_rate": 0.001, "gamma": 0.98, "gae_lambda": 0.8}
    }

    def check(self) -> None:
        super().check()
        check_ranges(
            self, (("finite and above 0", lambda value: 0 < value < math.inf, ("kl_target", "kl_penalty")),)
        )
