"""Settings of an MPO run: one dataclass behind the Python API, the command line and config.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fastrl.errors import SettingError
from fastrl.runs.config import Ranges, check_choice, check_ranges, find_preset
from fastrl.runs.memory import COPIES, FLOAT, Need, action_size, network_need, obs_size, perceptron, row_bytes
from fastrl.runs.replay_config import ReplayConfig

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

LARGEST_JOINT = 64  # whole actions of several branches that are all looked at; of more there are samples

RANGES: Ranges = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("target_networks_update_period", "action_samples", "m_steps", "retrace_steps", "retrace_mc_actions"),
    ),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("retrace_lambda",)),
    ("in [0, 1)", lambda value: 0 <= value < 1, ("sgd_momentum",)),
    (
        "finite and above 0",
        lambda value: 0 < value < math.inf,
        (
            *("temperature_lr", "lambda_lr", "epsilon_penalty", "max_grad_norm"),
            *("kl_epsilon", "mstep_kl_epsilon", "mstep_kl_epsilon_std"),
        ),
    ),
    ("in [1e-8, 1e8]", lambda value: 1e-8 <= value <= 1e8, ("temperature_init", "lambda_init")),
    (
        "in [-18, 1e8]",  # softplus(−18) = 1.5e-8
        lambda value: -18 <= value <= 1e8,
        ("init_log_alpha_mean", "init_log_alpha_stddev"),
    ),
    ("in [-18, 2]", lambda value: -18 <= value <= 2, ("log_std_init",)),  # what the policy can have
)


@dataclass(kw_only=True)
class MPOConfig(ReplayConfig):
    """Settings of an MPO run: what the command line, `MPOTrainer` and `MPOLearner` take.

    The defaults are those of the command line; `documented` has those of `MPOTrainer`'s constructor.
    """

    DOCUMENTED: ClassVar[dict[str, Any]] = {
        **ReplayConfig.DOCUMENTED,
        "num_envs": 1,
        "mstep_kl_epsilon": 0.1,
        "mstep_kl_epsilon_std": None,
        "temperature_lr": 0.0003,
        "lambda_lr": 0.0003,
        "max_grad_norm": 1.0,
        "retrace_steps": 2,
        "init_log_alpha_stddev": 1000.0,
    }

    m_steps: int = 1
    """Gradient steps per update, ≥ 1, of the policy on one E-step."""
    target_networks_update_period: int = 100
    """Updates between copies of the networks into their targets."""
    kl_epsilon: float = 0.1
    """Bound of the E-step's KL, in nats."""
    mstep_kl_epsilon: float = 0.0025
    """Bound of the M-step's KL of the mean (of each action dimension), or of a discrete policy, in nats."""
    mstep_kl_epsilon_std: float | None = 1e-6
    """Bound of the M-step's KL of the deviation, in nats; none: that of the mean."""
    temperature_init: float = 1.0
    """Temperature to start from, in [1e-8, 1e8]; that of the action penalty too."""
    temperature_lr: float = 1e-2
    """Learning rate of the temperature."""
    lambda_init: float = 1.0
    """Factor of both KL multipliers to start from, in [1e-8, 1e8]."""
    lambda_lr: float = 1e-2
    """Learning rate of the KL multipliers."""
    init_log_alpha_mean: float = 10.0
    """KL multiplier of the mean to start from, before softplus, at least -18."""
    init_log_alpha_stddev: float = 100.0
    """KL multiplier of the deviation to start from, before softplus, at least -18."""
    epsilon_penalty: float = 0.001
    """Bound of the KL of the action penalty's E-step, in nats."""
    action_penalty: bool = True
    """Keep means within the bounds of the actions."""
    per_dimension_kl: bool = True
    """A bound and a multiplier for each action dimension."""
    max_grad_norm: float = 40.0
    """Largest gradient norm, of policy and critic separately."""
    action_samples: int = 20
    """Actions sampled per state for the E-step."""
    use_retrace: bool = False
    """Targets by Retrace over windows; else of one step."""
    retrace_steps: int = 8
    """Transitions of a window, ≥ 1."""
    retrace_mc_actions: int = 8
    """Least number of actions sampled per state for the expected value; those of the E-step serve too."""
    retrace_lambda: float = 0.95
    """λ of Retrace, in [0, 1]."""
    twin_critic: bool = False
    """Two critics, of which the lower one counts."""
    log_std_init: float = math.log(0.5)
    """Logarithm of the actions' standard deviation to start from, in [-18, 2]; bounds of actions
    are -1 and 1."""
    optimizer_type: str = "adam"
    """Optimiser: adam or sgd."""
    sgd_momentum: float = 0.9
    """Momentum of sgd, in [0, 1)."""
    bfloat16: bool = False
    """Evaluate the target critic at sampled actions with bfloat16 matrix products."""

    @classmethod
    def documented(cls, **settings: Any) -> Self:
        """See `RunConfig.documented`; a batch_size that is left out, as `train` takes it, fits the rest."""
        config = super().documented(**settings)
        window, capacity = config.window, config.replay_size
        sizes_known = all(isinstance(size, int) and size >= 1 for size in (window, capacity))
        if "batch_size" not in settings and sizes_known and window <= capacity:
            config.batch_size = max(min(cls.batch_size, capacity) // window, 1) * window
        return config

    @property
    def window(self) -> int:
        """T, transitions of a replayed window."""
        return self.retrace_steps if self.use_retrace else 1

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        networks = (
            "policy_layer_sizes",
            "critic_layer_sizes",
            "twin_critic",
            "per_dimension_kl",
            "action_penalty",
            "optimizer_type",
        )
        started_from = (
            "temperature_init",
            "lambda_init",
            "init_log_alpha_mean",
            "init_log_alpha_stddev",
            "log_std_init",
        )
        return (*super().fixed_on_resume(), *networks, *started_from, "replay_size", "save_replay")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
        check_choice(self, "optimizer_type", ("adam", "sgd"))
        if self.use_retrace and self.retrace_steps >= self.replay_size:
            raise SettingError(
                f"retrace_steps must be below replay_size = {self.replay_size}, got {self.retrace_steps}"
            )
        if self.use_retrace and self.batch_size % self.retrace_steps:
            raise SettingError(
                f"batch_size must be a multiple of retrace_steps = {self.retrace_steps}, got "
                f"{self.batch_size}"
            )

    def needs(self, env: VectorEnv) -> list[Need]:
        """Networks with targets, replay, and the target critic's pass over a batch's sampled actions."""
        inputs, outputs = obs_size(env), action_size(env)
        policy = perceptron(inputs, self.policy_layer_sizes, outputs)
        critic = perceptron(inputs + outputs, self.critic_layer_sizes, 1) * (2 if self.twin_critic else 1)
        # of discrete actions every choice is looked at, unless several branches have too many together
        many = env.action.kind == "multi_discrete" and math.prod(env.action.nvec) > LARGEST_JOINT
        sampled = many or env.action.kind == "continuous"
        widest = 2 * max(self.critic_layer_sizes)
        samples, count = self.action_samples, "action_samples"
        if self.use_retrace and self.retrace_mc_actions > samples:
            samples, count = self.retrace_mc_actions, "retrace_mc_actions"
        return [
            network_need(policy, "policy_layer_sizes", copies=COPIES + 1),
            network_need(critic, "critic_layer_sizes", copies=COPIES + 1),
            Need("replay", self.replay_size * row_bytes(env), "replay_size"),
            Need("batch", self.batch_size * row_bytes(env), "batch_size"),
            Need(
                "samples",
                FLOAT * samples * self.batch_size * widest * sampled,
                f"{count}, batch_size or critic_layer_sizes",
            ),
        ]

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return find_preset(PRESETS, env_id)


# Settings that were run and whose results are in bench/results; an environment gets an entry here once it has
# been measured.
PRESETS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": {
        "total_steps": 30_000,
        "policy_layer_sizes": (128, 128),
        "critic_layer_sizes": (128, 128),
        "replay_size": 100_000,
        "threads": 1,
    },
    "CartpoleSwingup-v1": {
        "total_steps": 200_000,
        "samples_per_insert": 64.0,
        "use_retrace": True,
        "replay_size": 200_000,
        "threads": 1,
    },
    "CheetahRun-v1": {
        "total_steps": 400_000,
        "samples_per_insert": 64.0,
        "use_retrace": True,
        "replay_size": 400_000,
        "threads": 1,
    },
}
