"""Settings of a PPO-TrXL run: one dataclass behind the Python API, the command line and config.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.errors import SettingError
from fastrl.memory.config import TrXLConfig
from fastrl.runs.config import Ranges, RunConfig, check_choice, check_ranges, find_preset
from fastrl.runs.memory import Need, row_bytes
from fastrl.runs.network_config import NetworkChoice

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

RANGES: Ranges = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("num_steps", "num_minibatches", "update_epochs", "anneal_steps"),
    ),
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
class PPOTrXLConfig(TrXLConfig, NetworkChoice):
    """Settings of a PPO-TrXL run. See `PPOTrXLTrainer`."""

    DOCUMENTED: ClassVar[dict[str, Any]] = {**RunConfig.DOCUMENTED, "normalize_observation": False}

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
    reconstruction_coef: float = 0.0
    """Weight of the reconstruction of observations; 0: no decoder."""
    normalize_observation: bool = True
    """Run observations through a running mean and variance, if they are numbers and not pictures."""
    normalize_reward: bool = False
    """Learn from rewards over the running standard deviation of the discounted return."""
    minibatches: str = "rows"
    """What a minibatch is drawn from: rows of all environments, or whole environments."""
    capture_video: bool = False
    """Record an episode after each evaluation."""

    def hidden_weights(self) -> int:
        """See `RunConfig.hidden_weights`."""
        return self.trxl_num_layers * 5 * self.trxl_dim**2

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        statistics = ("normalize_observation", "normalize_reward")
        memory = ("num_steps", *cls.TRXL_NETWORK, *cls.TRXL_MEMORY)
        return (*super().fixed_on_resume(), *memory, *statistics, "reconstruction_coef")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
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

    def needs(self, env: VectorEnv) -> list[Need]:
        """Network, learned positions, memory bank, rollout, and what a minibatch leaves for its gradient."""
        rows = self.num_steps * env.num_envs
        rollout = Need("rollout", rows * row_bytes(env), "num_envs or num_steps")
        return [*self.trxl_needs(env, rows // self.num_minibatches), rollout]

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
