"""Settings of a SAC run: one dataclass behind the Python API, the command line and config.toml."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastrl.runs.config import Ranges, check_ranges, find_preset
from fastrl.runs.memory import COPIES, Need, action_size, network_need, obs_size, perceptron, row_bytes
from fastrl.runs.replay_config import ReplayConfig

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

RANGES: Ranges = (
    ("in (0, 1]", lambda value: 0 < value <= 1, ("tau",)),
    ("finite and above 0", lambda value: 0 < value < math.inf, ("temperature_lr",)),
    ("in [1e-8, 1e8]", lambda value: 1e-8 <= value <= 1e8, ("temperature_init",)),
    ("finite", math.isfinite, ("target_entropy",)),
)


@dataclass(kw_only=True)
class SACConfig(ReplayConfig):
    """Settings of a SAC run: what the command line, `SACTrainer` and `SACLearner` take."""

    CONTINUOUS_ONLY: ClassVar[bool] = True

    update_after: int = 10_000
    """Environment steps before the first update."""
    tau: float = 0.005
    """Share of the critics that goes into their targets at each update, in (0, 1]."""
    temperature_lr: float = 3e-4
    """Learning rate of the temperature."""
    temperature_init: float = 1.0
    """Temperature to start from, in units of reward per nat, in [1e-8, 1e8]."""
    target_entropy: float | None = None
    """Entropy that the policy shall keep, in nats; none: one nat less than 0 for each action dimension."""
    layer_norm: bool = False
    """Networks with layer norm and tanh behind the first layer, then ELU, as MPO's; else ReLU."""

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        networks = ("policy_layer_sizes", "critic_layer_sizes", "layer_norm", "temperature_init")
        return (*super().fixed_on_resume(), *networks, "replay_size", "save_replay")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)

    def needs(self, env: VectorEnv) -> list[Need]:
        """Networks with their targets, replay and batch."""
        inputs, outputs = obs_size(env), action_size(env)
        policy = perceptron(inputs, self.policy_layer_sizes, 2 * outputs)
        critics = 2 * perceptron(inputs + outputs, self.critic_layer_sizes, 1)
        return [
            network_need(policy, "policy_layer_sizes"),
            network_need(critics, "critic_layer_sizes", copies=COPIES + 1),
            Need("replay", self.replay_size * row_bytes(env), "replay_size"),
            Need("batch", self.batch_size * row_bytes(env), "batch_size"),
        ]

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return find_preset(PRESETS, env_id)


# Settings that were run and whose results are in bench/results; an environment gets an entry here once it has
# been measured.
PRESETS: dict[str, dict[str, Any]] = {
    "Pendulum-v1": {
        "total_steps": 20_000,
        "update_after": 1_000,
        "policy_layer_sizes": (64, 64),
        "critic_layer_sizes": (64, 64),
        "replay_size": 100_000,
        "policy_lr": 1e-3,
        "q_lr": 1e-3,
        "temperature_lr": 1e-3,
        "threads": 1,
    },
    # an update of 512 transitions for every fourth environment step
    "HalfCheetah-v5": {
        "total_steps": 1_000_000,
        "num_envs": 8,
        "q_lr": 1e-3,
        "batch_size": 512,
        "samples_per_insert": 128.0,
        "threads": 1,
    },
}
