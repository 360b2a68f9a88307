"""Settings of algorithms that learn from a replay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastrl.errors import SettingError
from fastrl.runs.config import Ranges, RunConfig, check_ranges
from fastrl.runs.threads import hidden_weights

RANGES: Ranges = (
    ("at least 1", lambda value: value >= 1, ("batch_size", "replay_size")),
    ("at least 0", lambda value: value >= 0, ("update_after",)),
    (
        "at least one layer, with widths of at least 1",
        lambda value: min(value, default=0) >= 1,
        ("policy_layer_sizes", "critic_layer_sizes"),
    ),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("gamma",)),
    (
        "finite and above 0",
        lambda value: 0 < value < math.inf,
        ("policy_lr", "q_lr", "samples_per_insert"),
    ),
)


@dataclass(kw_only=True)
class ReplayConfig(RunConfig):
    """Settings that every algorithm with a replay has; an algorithm adds its own in a subclass."""

    num_envs: int = 4
    """Environments stepped together, ≥ 1."""
    replay_size: int = 1_000_000
    """Transitions that are kept, over all environments."""
    batch_size: int = 256
    """Transitions per update; windows share them."""
    update_after: int = 1_000
    """Environment steps before the first update."""
    samples_per_insert: float | None = None
    """Transitions drawn for each one stored; none: batch_size, one update per environment step."""
    policy_layer_sizes: tuple[int, ...] = (256, 256)
    """Widths of the policy's hidden layers."""
    critic_layer_sizes: tuple[int, ...] = (256, 256)
    """Widths of the critic's hidden layers."""
    gamma: float = 0.99
    """Discount per environment step, in [0, 1]."""
    policy_lr: float = 3e-4
    """Learning rate of the policy."""
    q_lr: float = 3e-4
    """Learning rate of the critic."""
    anneal_lr: bool = False
    """Let the learning rate fall linearly over total_steps: that of every network, to nearly 0 in the last
    update."""
    save_replay: bool = False
    """Keep the replay in checkpoints: a resumed run then goes on exactly."""
    log_interval: int = 1_000
    """Environment steps between rows of metrics.csv; 0: a row per update."""

    @property
    def window(self) -> int:
        """T, transitions of a replayed window."""
        return 1

    @property
    def updates_per_transition(self) -> float:
        """Updates that each stored transition makes due."""
        return 1.0 if self.samples_per_insert is None else self.samples_per_insert / self.batch_size

    def hidden_weights(self) -> int:
        """See `RunConfig.hidden_weights`."""
        return hidden_weights(self.policy_layer_sizes) + hidden_weights(self.critic_layer_sizes)

    def check(self) -> None:
        """See `RunConfig.check`; besides, a batch must fit the replay."""
        super().check()
        check_ranges(self, RANGES)
        if self.batch_size > self.replay_size:
            raise SettingError(
                f"batch_size must be at most replay_size = {self.replay_size}, got {self.batch_size}"
            )
        if self.exact_resume and not self.save_replay:
            raise SettingError(
                "exact_resume needs save_replay: without its replay a continued run fills a new one first"
            )
