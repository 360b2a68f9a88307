"""Settings of a V-MPO run: one dataclass behind the Python API, the command line and config.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.memory.config import MemoryConfig
from fastrl.runs.config import Ranges, RunConfig, check_choice, check_ranges, find_preset
from fastrl.runs.memory import COPIES, Need, action_size, network_need, obs_size, perceptron, row_bytes
from fastrl.runs.threads import hidden_weights

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

REMEMBERED_ROWS_PER_BLOCK = 4096  # whose gradient through a memory is taken at once

COUNTS = (
    *("num_steps", "m_steps", "updates_per_step", "target_update_period"),
    *("dae_epochs", "dae_minibatches"),
)
POSITIVE = (
    *("policy_lr", "value_lr", "advantage_lr", "temperature_lr", "alpha_lr"),
    *("epsilon_eta", "epsilon_mu", "epsilon_sigma"),
    *("temperature_init", "alpha_mu_init", "alpha_sigma_init"),
    *("kl_stop", "max_grad_norm", "clip_observation", "clip_reward"),
)
WIDTHS = ("policy_layer_sizes", "value_layer_sizes")
RANGES: Ranges = (
    ("at least 1", lambda value: value >= 1, COUNTS),
    ("layer widths of at least 1", lambda value: min(value, default=1) >= 1, WIDTHS),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("gamma", "gae_lambda", "dae_lambda")),
    ("finite", math.isfinite, ("log_std_init",)),
    ("in (0, 1]", lambda value: 0 < value <= 1, ("topk_fraction",)),
    ("in [0, 1)", lambda value: 0 <= value < 1, ("sgd_momentum",)),
    ("finite and above 0", lambda value: 0 < value < math.inf, POSITIVE),
)


@dataclass(kw_only=True)
class VMPOConfig(MemoryConfig):
    """Settings of a V-MPO run: what the command line, `VMPOTrainer` and `VMPOLearner` take.

    The defaults are those of the command line; `documented` has those of the constructors of `VMPOTrainer`
    and `VMPOAgent`.
    """

    DOCUMENTED: ClassVar[dict[str, Any]] = {
        **RunConfig.DOCUMENTED,
        "num_envs": 1,
        "m_steps": 1,
        "advantage_estimator": "returns",
    }

    num_steps: int = 256
    """Steps of each environment per rollout; a batch is num_steps × num_envs rows."""
    updates_per_step: int = 1
    """Learner updates per full rollout, ≥ 1."""
    m_steps: int = 16
    """Gradient steps per update, ≥ 1, each on the whole batch."""
    policy_layer_sizes: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    value_layer_sizes: tuple[int, ...] = (256, 256)
    """Widths of the value function's hidden layers, and with dae of the advantage function's."""
    shared_encoder: bool = False
    """One encoder for policy and value function."""
    gamma: float = 0.99
    """Discount per environment step, in [0, 1]."""
    advantage_estimator: str = "gae"
    """How advantages are estimated: returns, gae or dae."""
    gae_lambda: float = 0.95
    """λ of GAE, in [0, 1]."""
    dae_epochs: int = 16
    """With dae: passes over a rollout in which Â and V are fitted together, before the policy learns from
    Â."""
    dae_minibatches: int = 1
    """With dae: minibatches of a pass, each of whole environments; at most one for each environment."""
    dae_lambda: float = 1.0
    """With dae: λ of the sums that Â and V are fitted to, in [0, 1]; 1: up to where the episode or the
    rollout ends, as published."""
    advantage_lr: float | None = None
    """With dae: learning rate of the advantage function; none: value_lr."""
    normalize_advantages: bool = True
    """Standardise advantages, over the valid rows of a batch; with dae divide them by their deviation under
    the policy."""
    policy_lr: float = 0.0005
    """Learning rate of the policy."""
    value_lr: float = 0.001
    """Learning rate of the value function."""
    anneal_lr: bool = False
    """Let the learning rate fall linearly over total_steps: that of every network, to nearly 0 in the last
    update."""
    topk_fraction: float = 0.5
    """Share of the rows, by advantage, that the policy learns from, in (0, 1]."""
    temperature_init: float = 1.0
    """Temperature to start from, η > 0."""
    temperature_lr: float = 0.0001
    """Learning rate of the temperature."""
    epsilon_eta: float = 0.1
    """Bound of the E-step's KL, in nats."""
    epsilon_mu: float = 0.01
    """Bound of the KL of the mean, or of the categorical KL, in nats."""
    epsilon_sigma: float = 0.01
    """Bound of the KL of the covariance, in nats."""
    alpha_mu_init: float = 1.0
    """KL multiplier of the mean to start from, > 0."""
    alpha_sigma_init: float = 1.0
    """KL multiplier of the covariance to start from, > 0."""
    alpha_lr: float = 0.0001
    """Learning rate of the KL multipliers."""
    target_update_period: int = 1
    """Updates between copies of the learned policy into the acting one, ≥ 1."""
    log_std_init: float = 0.0
    """Logarithm of the actions' standard deviation to start from, where continuous; bounds of actions
    are -1 and 1."""
    kl_stop: float | None = None
    """Leave out an update's remaining gradient steps once a KL exceeds this many times its bound; none:
    never."""
    max_grad_norm: float = 10.0
    """Largest gradient norm, of policy and value function separately."""
    optimizer_type: str = "adam"
    """Optimiser: adam or sgd."""
    sgd_momentum: float = 0.9
    """Momentum of sgd, in [0, 1)."""
    normalize_observation: bool = True
    """Run observations through a running mean and variance."""
    clip_observation: float | None = 10.0
    """Bound of normalised observations; none: unbounded."""
    normalize_reward: bool = True
    """Learn from rewards over the running standard deviation of the discounted return."""
    clip_reward: float | None = 10.0
    """Bound of scaled rewards; none: unbounded."""

    def hidden_weights(self) -> int:
        """See `RunConfig.hidden_weights`."""
        if self.memory != "none":
            return self.memory_weights()
        return hidden_weights(self.policy_layer_sizes) + hidden_weights(self.value_layer_sizes)

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        networks = (*WIDTHS, "shared_encoder", "target_update_period")
        statistics = ("num_steps", "normalize_observation", "normalize_reward")
        starts = ("temperature_init", "alpha_mu_init", "alpha_sigma_init", "log_std_init")
        kinds = ("optimizer_type", "advantage_estimator")
        return (*super().fixed_on_resume(), *networks, *statistics, *starts, *kinds)

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
        check_choice(self, "optimizer_type", ("adam", "sgd"))
        check_choice(self, "advantage_estimator", ("returns", "gae", "dae"))

    def needs(self, env: VectorEnv) -> list[Need]:
        """Networks (the policy twice: it acts while its successor learns) and rollout."""
        rollout = Need("rollout", self.num_steps * env.num_envs * row_bytes(env), "num_envs or num_steps")
        if self.memory != "none":
            return [*self.memory_needs(env, REMEMBERED_ROWS_PER_BLOCK), rollout]
        inputs, outputs = obs_size(env), action_size(env)
        policy = perceptron(inputs, self.policy_layer_sizes, outputs)
        others = (1, outputs) if self.advantage_estimator == "dae" else (1,)
        values = sum(perceptron(inputs, self.value_layer_sizes, size) for size in others)
        return [
            network_need(policy, "policy_layer_sizes", copies=COPIES + 1),
            network_need(values, "value_layer_sizes"),
            rollout,
        ]

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return find_preset(PRESETS, env_id)


# Settings that were run and whose results are in bench/results; an environment gets an entry here once it has
# been measured.
PRESETS: dict[str, dict[str, Any]] = {
    "Catch-v0": {
        "total_steps": 200_000,
        "num_envs": 8,
        "num_steps": 128,
        "m_steps": 20,
        "policy_layer_sizes": (64, 64),
        "value_layer_sizes": (64, 64),
        "policy_lr": 0.001,
        "value_lr": 0.001,
        "alpha_lr": 0.01,
    },
    "CartPole-v1": {
        "total_steps": 500_000,
        "num_envs": 8,
        "num_steps": 128,
        "m_steps": 20,
        "policy_layer_sizes": (64, 64),
        "value_layer_sizes": (64, 64),
        "policy_lr": 0.003,
        "value_lr": 0.003,
        "alpha_lr": 0.01,
    },
    "Pendulum-v1": {
        "total_steps": 300_000,
        "num_envs": 16,
        "num_steps": 128,
        "m_steps": 20,
        "policy_layer_sizes": (64, 64),
        "value_layer_sizes": (64, 64),
        "gamma": 0.95,
        "policy_lr": 0.0005,
        "value_lr": 0.003,
        "epsilon_mu": 0.05,
        "epsilon_sigma": 0.0005,
        "alpha_lr": 0.1,
    },
    "HalfCheetah-v5": {
        "total_steps": 1_000_000,
        "num_envs": 16,
        "num_steps": 128,
        "m_steps": 16,
        "policy_layer_sizes": (128, 128),
        "value_layer_sizes": (128, 128),
        "gamma": 0.98,
        "gae_lambda": 0.9,
        "dae_lambda": 0.9,
        "advantage_lr": 0.0001,
        "policy_lr": 0.0003,
        "value_lr": 0.001,
        "temperature_init": 5.0,
        "epsilon_mu": 0.05,
        "epsilon_sigma": 0.00003,
        "alpha_sigma_init": 10.0,
        "alpha_lr": 0.1,
        "log_std_init": -1.0,
    },
}
