"""Settings of policies that remember, the same in every algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fastrl.errors import SettingError
from fastrl.nn.positions import ENCODINGS
from fastrl.runs.config import Ranges, RunConfig, check_choice, check_ranges
from fastrl.runs.memory import FLOAT, Need, action_size, network_need, obs_size

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

MEMORIES = ("none", "trxl", "gru", "lstm")
TRXL_RANGES: Ranges = (
    ("at least 1", lambda value: value >= 1, ("trxl_num_heads", "trxl_dim")),
    ("at least 0", lambda value: value >= 0, ("trxl_num_layers", "trxl_memory_length")),
)
RANGES: Ranges = (
    ("at least 1", lambda value: value >= 1, ("rnn_hidden_size", "rnn_num_layers", "sequence_length")),
)


@dataclass(kw_only=True)
class TrXLConfig(RunConfig):
    """Settings of a Transformer-XL memory."""

    num_steps: int = 128
    """Steps of each environment per rollout."""
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
    memory_refresh: str = "never"
    """Whether memory of earlier rollouts is made anew with the present weights: never or rollout."""
    endless: bool = False
    """Episodes have no limit; positions must be relative or none."""

    TRXL_NETWORK: ClassVar[tuple[str, ...]] = (
        "trxl_num_layers",
        "trxl_num_heads",
        "trxl_dim",
        "trxl_positional_encoding",
        "trxl_gating",
        "shared_head_projection",
    )
    TRXL_MEMORY: ClassVar[tuple[str, ...]] = ("trxl_memory_length", "endless", "memory_refresh")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, TRXL_RANGES)
        self.trxl_positional_encoding = self.trxl_positional_encoding or "none"
        check_choice(self, "trxl_positional_encoding", ENCODINGS)
        check_choice(self, "trxl_gating", ("residual", "gru"))
        check_choice(self, "memory_refresh", ("never", "rollout"))
        if self.endless and self.trxl_positional_encoding not in ("relative", "none"):
            raise SettingError(
                "trxl_positional_encoding must be relative or none for endless episodes, got "
                f"{self.trxl_positional_encoding}"
            )

    def trxl_needs(self, env: VectorEnv, rows: int) -> list[Need]:
        """Network, learned positions, memory bank, and what `rows` rows leave for their gradient."""
        dim, layers, steps = self.trxl_dim, self.trxl_num_layers, self.num_steps * env.num_envs
        # attention and feed-forward part, two gates, and what is around the layers
        parameters = dim * dim * (
            layers * (5 + (12 if self.trxl_gating == "gru" else 0)) + 2
        ) + dim * action_size(env)
        if env.obs_dtype.is_floating_point:
            parameters += dim * obs_size(env)
        learned = (
            (env.max_episode_steps or self.max_episode_steps or 0)
            if self.trxl_positional_encoding == "learned"
            else 0
        )
        table = network_need(
            learned * dim, f"max_episode_steps (learned positions have a row for each of {learned:,} steps)"
        )
        bank = layers * (steps + env.num_envs * self.trxl_memory_length) * dim * FLOAT
        activations = FLOAT * 8 * dim * layers * rows
        return [
            network_need(parameters, "trxl_dim or trxl_num_layers"),
            table._replace(purpose="positions"),
            Need("memory bank", bank, "num_envs, num_steps, trxl_memory_length or trxl_dim"),
            Need("activations", activations, "num_steps, trxl_dim or trxl_num_layers"),
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


@dataclass(kw_only=True)
class MemoryConfig(TrXLConfig):
    """Settings of an algorithm whose policy may remember, in one of several ways."""

    memory: str = "none"
    """What the policy remembers of an episode with: none, trxl (a Transformer-XL), gru or lstm."""
    rnn_hidden_size: int = 128
    """Features of gru and lstm."""
    rnn_num_layers: int = 1
    """Layers of gru and lstm."""
    sequence_length: int = 64
    """Steps over which gru and lstm are learned through time; each sequence starts from the state that
    acting had there."""

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        recurrent = ("memory", "rnn_hidden_size", "rnn_num_layers", "sequence_length")
        return (*super().fixed_on_resume(), *recurrent, *cls.TRXL_NETWORK, *cls.TRXL_MEMORY)

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_ranges(self, RANGES)
        check_choice(self, "memory", MEMORIES)
        if self.memory != "none" and getattr(self, "advantage_estimator", "gae") == "dae":
            raise SettingError(
                f"advantage_estimator must be gae with memory {self.memory}: the advantage function of dae "
                "remembers nothing"
            )

    @property
    def recurrent(self) -> bool:
        """Whether memory is a recurrent network."""
        return self.memory in ("gru", "lstm")

    def memory_weights(self) -> int:
        """Weights of the network with memory, see `RunConfig.hidden_weights`."""
        if self.recurrent:
            return self.rnn_num_layers * (6 if self.memory == "gru" else 8) * self.rnn_hidden_size**2
        return self.trxl_num_layers * 5 * self.trxl_dim**2

    def memory_needs(self, env: VectorEnv, rows: int) -> list[Need]:
        """Memory of network and data where the policy remembers, with a gradient of `rows` rows at once."""
        if not self.recurrent:
            return self.trxl_needs(env, rows)
        size, layers = self.rnn_hidden_size, self.rnn_num_layers
        parameters = self.memory_weights() + size * (size + action_size(env))
        if env.obs_dtype.is_floating_point:
            parameters += size * obs_size(env)
        states = -(-self.num_steps // self.sequence_length) * env.num_envs * layers * 2 * size * FLOAT
        return [
            network_need(parameters, "rnn_hidden_size or rnn_num_layers"),
            Need("states", states, "num_envs, num_steps or rnn_hidden_size"),
            Need("activations", FLOAT * 8 * size * layers * rows, "num_steps or rnn_hidden_size"),
        ]
