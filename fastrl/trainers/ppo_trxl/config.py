"""Settings of a PPO-TrXL run: one dataclass behind the Python API, the command line and config.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.errors import SettingError
from fastrl.nn.positions import ENCODINGS
from fastrl.runs.config import Ranges, RunConfig, check_choice, check_ranges, find_preset
from fastrl.runs.memory import FLOAT, Need, action_size, network_need, obs_size, row_bytes

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

RANGES: Ranges = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("num_steps", "num_minibatches", "update_epochs", "anneal_steps"),
    ),
    ("at least 1", lambda value: value >= 1, ("trxl_num_heads", "trxl_dim")),
    ("at least 0", lambda value: value >= 0, ("trxl_num_layers", "trxl_memory_length")),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("gamma", "gae_lambda")),
    (
        "finite and at least 0",
        lambda value: 0 <= value < math.inf,
        ("learning_rate", "final_learning_rate", "ent_coef", "final_ent_coef", "vf_coef"),
    ),
    ("finite and at least 0", lambda value: 0 <= value < math.inf, ("reconstruction_coef",)),
    ("finite and above 0", lambda value: 0 < value < math.inf, ("clip_coef", "max_grad_norm", "target_kl")),
)


@dataclass(kw_only=True)
class PPOTrXLConfig(RunConfig):
    """Settings of a PPO-TrXL run. See `PPOTrXLTrainer`."""

    DOCUMENTED: ClassVar[dict[str, Any]] = {**RunConfig.DOCUMENTED, "normalize_observation": False}

    num_steps: int = 128
    """Steps of each environment per rollout."""
    num_minibatches: int = 8
    """Minibatches of a pass, ≥ 1, a divisor of num_envs × num_steps."""
    update_epochs: int = 4
    """Passes over a rollout, ≥ 1."""
    learning_rate: float = 3e-4
    """Learning rate to start from."""
    final_learning_rate: float = 3e-5
    """Learning rate from anneal_steps on."""
    anneal_steps: int = 1_000_000
    """Environment steps over which learning rate and ent_coef go to their final values."""
    gamma: float = 0.99
    """Discount per environment step, in [0, 1]."""
    gae_lambda: float = 0.95
    """λ of GAE, in [0, 1]."""
    normalize_advantages: bool = True
    """Standardise advantages, over each minibatch."""
    clip_coef: float = 0.1
    """How far a probability ratio may be from 1 before it is clipped, > 0; with clip_vloss also how far a
    value may move."""
    clip_vloss: bool = True
    """Clip the change of values to clip_coef in the value loss."""
    ent_coef: float = 0.001
    """Factor of the entropy bonus, ≥ 0, to start from."""
    final_ent_coef: float = 0.0001
    """Factor of the entropy bonus from anneal_steps on, ≥ 0."""
    vf_coef: float = 0.5
    """Factor of the value loss, half the mean squared error; ≥ 0."""
    max_grad_norm: float = 0.5
    """Largest gradient norm, of all parameters together."""
    target_kl: float | None = None
    """End an update after an epoch whose mean approximate KL is above this; none: never."""
    trxl_num_layers: int = 3
    """Layers; 0: a policy without memory."""
    trxl_num_heads: int = 4
    """Heads of attention, a divisor of trxl_dim."""
    trxl_dim: int = 128
    """Features."""
    trxl_memory_length: int = 64
    """W, steps of the episode that are seen, at most its longest length; 0: none."""
    trxl_positional_encoding: str = "absolute"
    """absolute, learned, relative or none."""
    trxl_gating: str = "residual"
    """How a layer joins its input: residual or gru."""
    shared_head_projection: bool = False
    """The published attention, in which all heads share one small projection."""
    reconstruction_coef: float = 0.0
    """Weight of the reconstruction of observations; 0: no decoder."""
    normalize_observation: bool = True
    """Run observations through a running mean and variance, if they are numbers and not pictures."""
    normalize_reward: bool = False
    """Learn from rewards over the running standard deviation of the discounted return."""
    memory_refresh: str = "never"
    """Whether memory of earlier rollouts is made anew with the present weights: never or rollout."""
    minibatches: str = "rows"
    """What a minibatch is drawn from: rows of all environments, or whole environments."""
    endless: bool = False
    """Episodes have no limit; positions must be relative or none."""
    capture_video: bool = False
    """Record an episode after each evaluation."""

    def hidden_weights(self) -> int:
        """See `RunConfig.hidden_weights`."""
        return self.trxl_num_layers * 5 * self.trxl_dim**2

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        network = (
            "trxl_num_layers",
            "trxl_num_heads",
            "trxl_dim",
            "trxl_positional_encoding",
            "trxl_gating",
            "shared_head_projection",
        )
        memory = ("num_steps", "trxl_memory_length", "endless", "memory_refresh")
        statistics = ("normalize_observation", "normalize_reward")
        return (*super().fixed_on_resume(), *network, *memory, *statistics, "reconstruction_coef")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
        self.trxl_positional_encoding = self.trxl_positional_encoding or "none"
        check_choice(self, "trxl_positional_encoding", ENCODINGS)
        check_choice(self, "trxl_gating", ("residual", "gru"))
        check_choice(self, "memory_refresh", ("never", "rollout"))
        check_choice(self, "minibatches", ("rows", "environments"))
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches:
            raise SettingError(
                f"num_minibatches must divide num_envs × num_steps = {batch}, got {self.num_minibatches}"
            )
        if self.minibatches == "environments" and self.num_envs % self.num_minibatches:
            raise SettingError(
                f"num_minibatches must divide num_envs = {self.num_envs} where minibatches are "
                f"environments, got {self.num_minibatches}"
            )
        if self.endless and self.trxl_positional_encoding not in ("relative", "none"):
            raise SettingError(
                "trxl_positional_encoding must be relative or none for endless episodes, got "
                f"{self.trxl_positional_encoding}"
            )

    def needs(self, env: VectorEnv) -> list[Need]:
        """Network, learned positions, memory bank, rollout, and what a minibatch leaves for its gradient."""
        dim, layers, rows = self.trxl_dim, self.trxl_num_layers, self.num_steps * env.num_envs
        # attention and feed-forward part, two gates, and what is around the layers
        parameters = dim * dim * (
            layers * (5 + (12 if self.trxl_gating == "gru" else 0)) + 2
        ) + dim * action_size(env)
        if env.obs_dtype.is_floating_point:
            parameters += dim * obs_size(env)
        steps = (
            (env.max_episode_steps or self.max_episode_steps or 0)
            if self.trxl_positional_encoding == "learned"
            else 0
        )
        table = network_need(
            steps * dim, f"max_episode_steps (learned positions have a row for each of {steps:,} steps)"
        )
        bank = layers * (rows + env.num_envs * self.trxl_memory_length) * dim * FLOAT
        return [
            network_need(parameters, "trxl_dim or trxl_num_layers"),
            table._replace(purpose="positions"),
            Need("memory bank", bank, "num_envs, num_steps, trxl_memory_length or trxl_dim"),
            Need("rollout", rows * row_bytes(env), "num_envs or num_steps"),
            Need(
                "activations",
                FLOAT * 8 * dim * layers * rows // self.num_minibatches,
                "num_steps, trxl_dim or trxl_num_layers",
            ),
        ]

    def longest_episode(self, env: VectorEnv) -> int | None:
        """The longest episode in steps; None where episodes are endless.

        Environments that do not tell a limit are reset, after which some do.

        Raises:
            SettingError: nobody tells, or memory is longer.
        """
        if self.endless:
            return None
        if env.max_episode_steps is None and self.max_episode_steps is None:
            env.reset()
        limit = (
            env.max_episode_steps or self.max_episode_steps
        )  # of one that tells none, the user may know it
        if limit is None:
            raise SettingError(
                f"max_episode_steps must be given, since {env.name} does not tell its limit; or set endless, "
                "with relative positions"
            )
        if self.trxl_memory_length > limit:
            raise SettingError(
                f"trxl_memory_length must be at most the longest episode, {limit} steps, got "
                f"{self.trxl_memory_length}"
            )
        return limit

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return find_preset(PRESETS, env_id)


# Settings that were run and whose results are in bench/results; an environment gets an entry here once it has
# been measured.
PRESETS: dict[str, dict[str, Any]] = {
    "ProofofMemory-v0": {
        "total_steps": 25_000,
        "num_envs": 16,
        "num_steps": 64,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_num_layers": 2,
        "trxl_num_heads": 1,
        "trxl_dim": 64,
        "trxl_memory_length": 16,
        "learning_rate": 5e-4,
        "final_learning_rate": 1e-4,
        "anneal_steps": 25_000,
        "clip_coef": 0.2,
        "ent_coef": 0.01,
        "final_ent_coef": 0.0,
    },
    "MaskedCartPole-v1": {
        "total_steps": 500_000,
        "num_envs": 16,
        "num_steps": 128,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_num_layers": 1,
        "trxl_num_heads": 1,
        "trxl_dim": 64,
        "trxl_memory_length": 8,
        "trxl_positional_encoding": "relative",
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "anneal_steps": 500_000,
        "clip_coef": 0.2,
        "clip_vloss": False,
        "ent_coef": 0.0,
        "final_ent_coef": 0.0,
        "normalize_reward": True,
    },
    "MiniGrid-MemoryS7-v0": {
        "total_steps": 1_500_000,
        "env_kwargs": {"crop": 3, "num_actions": 3},
        "max_episode_steps": 96,
        "num_envs": 16,
        "num_steps": 256,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_num_layers": 2,
        "trxl_num_heads": 1,
        "trxl_dim": 64,
        "trxl_memory_length": 32,
        "trxl_positional_encoding": "relative",
        "learning_rate": 5e-4,
        "final_learning_rate": 1e-4,
        "anneal_steps": 1_500_000,
        "gamma": 0.995,
        "clip_coef": 0.2,
        "ent_coef": 0.01,
        "final_ent_coef": 0.001,
    },
    "MiniGrid-MemoryS9-v0": {
        "total_steps": 2_048_000,
        "env_kwargs": {"crop": 3, "num_actions": 3},
        "max_episode_steps": 128,
        "num_envs": 16,
        "num_steps": 256,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_num_layers": 2,
        "trxl_num_heads": 1,
        "trxl_dim": 64,
        "trxl_memory_length": 48,
        "trxl_positional_encoding": "relative",
        "learning_rate": 5e-4,
        "final_learning_rate": 1e-4,
        "anneal_steps": 4_000_000,
        "gamma": 0.998,
        "gae_lambda": 0.97,
        "clip_coef": 0.2,
        "ent_coef": 0.02,
        "final_ent_coef": 0.01,
    },
}
