"""The rows of the scoreboard: algorithm, environment and seeds of each, what counts as learned, and what
others published."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple


class Published(NamedTuple):
    """A published figure: as its source gives it, what it is of, and where it stands."""

    figure: str
    of: str
    source: str
    address: str


class Row(NamedTuple):
    """One row. `changes` are settings `name=value` that differ from the preset; a return of at least
    `threshold` counts as learned."""

    algorithm: str
    env_id: str
    seeds: int
    threshold: float | None = None
    label: str = ""
    changes: tuple[str, ...] = ()
    total_steps: int | None = None
    first_seed: int = 1
    published: tuple[Published, ...] = ()
    needs_gpu: bool = False

    @property
    def name(self) -> str:
        """What `--rows` matches: algorithm/environment, and the label if there is one."""
        return "/".join(filter(None, [self.algorithm, self.env_id, self.label]))

    @property
    def all_seeds(self) -> range:
        """The seeds of the row."""
        return range(self.first_seed, self.first_seed + self.seeds)


def cleanrl(figure: str, of: str) -> Published:
    """A figure of CleanRL's documentation of PPO."""
    return Published(figure, of, "CleanRL", "https://docs.cleanrl.dev/rl-algorithms/ppo/")


def zoo(figure: str, of: str) -> Published:
    """A figure of RL Baselines3 Zoo's table of trained agents."""
    return Published(
        figure,
        of,
        "RL Baselines3 Zoo",
        "https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md",
    )


CARTPOLE = (cleanrl("490.04 ± 6.12", "CartPole-v1"), zoo("500.0 ± 0.0", "CartPole-v1, 100k steps"))
ACROBOT = (cleanrl("−86.36 ± 1.32", "Acrobot-v1"), zoo("−73.5 ± 18.2", "Acrobot-v1, 1M steps"))
PENDULUM = (zoo("−172.2 ± 104.2", "Pendulum-v1, 100k steps"),)
INVERTED_PENDULUM = (cleanrl("963.09 ± 22.20", "InvertedPendulum-v4, 1M steps"),)
HALF_CHEETAH = (
    cleanrl("1442.64 ± 46.03", "HalfCheetah-v4, 1M steps"),
    zoo("5819 ± 664", "HalfCheetah-v3, 1M steps"),
)
HOPPER = (cleanrl("2382.86 ± 271.74", "Hopper-v4, 1M steps"), zoo("2410 ± 10", "Hopper-v3, 1M steps"))
WALKER = (cleanrl("2287.95 ± 571.78", "Walker2d-v4, 1M steps"), zoo("3479 ± 822", "Walker2d-v3, 1M steps"))
A2C_CARTPOLE = (zoo("500.0 ± 0.0", "CartPole-v1, 500k steps"),)
SAC_PENDULUM = (zoo("−157.0 ± 88.7", "Pendulum-v1, 20k steps"),)
SAC_HALF_CHEETAH = (zoo("9535 ± 100", "HalfCheetah-v3, 1M steps"),)

NO_MEMORY = ("trxl_memory_length=0",)
ONE_STEP, BFLOAT16 = ("use_retrace=false",), ("bfloat16=true",)
RETURNS, DAE = ('advantage_estimator="returns"',), ('advantage_estimator="dae"',)
PPO_DAE = (*DAE, "dae_lambda=0.9", "normalize_reward=true", "normalize_advantages=false")
CUDA = ('device="cuda"',)
PROOF = 1.185  # the most that its 20 evaluation episodes allow

# The toolkit's seeds begin at 11, with dae at 21, those of V-MPO's HalfCheetah at 31: settings were chosen on
# others.
ROWS = (
    Row("vmpo", "CartPole-v1", 5, 475),
    Row("vmpo", "CartPole-v1", 5, 475, "returns", RETURNS),
    Row("vmpo", "CartPole-v1", 5, 475, "dae", DAE),
    Row("vmpo", "Catch-v0", 3, 0.95, "dae", DAE),
    Row("vmpo", "Pendulum-v1", 5, -200),
    Row("vmpo", "HalfCheetah-v5", 3, 1900, first_seed=31),
    Row("vmpo", "HalfCheetah-v5", 3, 1900, "returns", RETURNS, first_seed=31),
    Row("vmpo", "HalfCheetah-v5", 3, 1900, "dae", (*DAE, "epsilon_mu=0.025"), first_seed=31),
    Row("ppo-trxl", "ProofofMemory-v0", 10, PROOF),
    Row("ppo-trxl", "ProofofMemory-v0", 10, PROOF, "15k", ("anneal_steps=15000",), total_steps=15_000),
    Row("ppo-trxl", "ProofofMemory-v0", 10, None, "without-memory", NO_MEMORY),
    Row("ppo-trxl", "MaskedCartPole-v1", 5, 450),
    Row("ppo-trxl", "MaskedCartPole-v1", 5, None, "without-memory", NO_MEMORY),
    Row("ppo-trxl", "MiniGrid-MemoryS7-v0", 3, 0.85),
    Row("ppo-trxl", "MiniGrid-MemoryS7-v0", 3, None, "without-memory", NO_MEMORY),
    Row("ppo-trxl", "MiniGrid-MemoryS9-v0", 3, 0.85),
    Row("mpo", "Pendulum-v1", 5, -180),
    Row("mpo", "Pendulum-v1", 5, -180, "bfloat16", BFLOAT16),
    Row("mpo", "CartpoleSwingup-v1", 3, 700),
    Row("mpo", "CheetahRun-v1", 3, 450),
    Row("mpo", "CheetahRun-v1", 3, None, "one-step", ONE_STEP),
    Row("sac", "Pendulum-v1", 3, -200, first_seed=11, published=SAC_PENDULUM),
    Row(
        "sac",
        "HalfCheetah-v5",
        3,
        4500,
        "300k",
        total_steps=300_000,
        first_seed=11,
        published=SAC_HALF_CHEETAH,
    ),
    Row("vanilla-pg", "CartPole-v1", 5, 400, first_seed=11),
    Row("a2c", "CartPole-v1", 5, 450, first_seed=11, published=A2C_CARTPOLE),
    Row("surrogate-pg", "CartPole-v1", 5, 400, first_seed=11),
    Row("ppo", "CartPole-v1", 5, 480, first_seed=11, published=CARTPOLE),
    Row("ppo", "CartPole-v1", 5, 480, "dae", PPO_DAE, first_seed=21),
    Row("ppo-adaptive", "CartPole-v1", 5, 400, first_seed=11),
    Row("ppo", "Acrobot-v1", 3, -90, first_seed=11, published=ACROBOT),
    Row("ppo", "Pendulum-v1", 3, -200, first_seed=11, published=PENDULUM),
    Row("ppo", "InvertedPendulum-v5", 3, 920, first_seed=11, published=INVERTED_PENDULUM),
    Row("ppo", "HalfCheetah-v5", 3, 1900, first_seed=11, published=HALF_CHEETAH),
    Row("ppo", "Hopper-v5", 3, 2000, first_seed=11, published=HOPPER),
    Row("ppo", "Walker2d-v5", 3, 2000, first_seed=11, published=WALKER),
    Row(
        "ppo-trxl",
        "MiniGrid-MemoryS13Random-v0",
        3,
        0.85,
        total_steps=20_000_000,
        changes=CUDA,
        needs_gpu=True,
    ),
    Row("ppo-trxl", "Pong-v5", 3, 18, total_steps=10_000_000, changes=CUDA, needs_gpu=True),
)


def pick(patterns: Sequence[str], rows: Sequence[Row] = ROWS) -> list[Row]:
    """The rows whose name matches any of the patterns (`vmpo/*`, `*/CartPole-v1`, ...), in the order of the
    table; all without patterns.

    Raises: ValueError naming a pattern that matches no row.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in rows):
            raise ValueError(f"no row matches {pattern!r}; --list shows their names")
    return [
        row
        for row in rows
        if not patterns or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)
    ]
