"""The smallest row of each algorithm, cut short: the preset learns clearly in a fraction of its steps. Other
tests show optima on toys."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

# Untrained policies were seen to get 9 to 88 on CartPole-v1, −0.7 to −0.4 on ProofofMemory-v0 and −1390 to
# −1100 on Pendulum-v1.
SMALL_MPO = (
    "policy_layer_sizes=[64, 64]",
    "critic_layer_sizes=[64, 64]",
    "batch_size=128",
    "samples_per_insert=128.0",
)
FAST_MPO = ("policy_lr=0.001", "q_lr=0.001", "target_networks_update_period=50")
CASES = [
    ("vmpo/CartPole-v1", 16_000, (), 200),
    ("ppo-trxl/ProofofMemory-v0/15k", 6_000, (), 1.0),  # the best without memory is −0.28
    ("mpo/Pendulum-v1", 5_000, (*SMALL_MPO, *FAST_MPO), -600),
    ("sac/Pendulum-v1", 5_000, ("batch_size=128",), -400),
    ("vanilla-pg/CartPole-v1", 80_000, (), 150),
    ("a2c/CartPole-v1", 30_000, (), 100),
    ("surrogate-pg/CartPole-v1", 40_000, (), 150),
    ("ppo/CartPole-v1", 40_000, (), 200),
    ("ppo-adaptive/CartPole-v1", 30_000, (), 100),
]


@pytest.mark.parametrize(("name", "total_steps", "changes", "least"), CASES, ids=[case[0] for case in CASES])
def test_the_preset_learns(
    scoreboard: ModuleType,
    name: str,
    total_steps: int,
    changes: tuple[str, ...],
    least: float,
    tmp_path: Path,
) -> None:
    pytest.importorskip("envpool", reason="the rows step EnvPool environments")
    (row,) = scoreboard.pick([name])
    config = scoreboard.runs.settings(row.algorithm, row.env_id, 1, total_steps, (*row.changes, *changes))
    config.eval_interval, config.threads, config.env_threads = total_steps // 2, 1, 1
    folder = scoreboard.runs.run_seed(row.algorithm, config, tmp_path)
    _, returns = scoreboard.runs.read_curve(folder)
    assert returns[-1] >= least


def test_every_algorithm_is_there(scoreboard: ModuleType) -> None:
    assert {name.split("/")[0] for name, *_ in CASES} == {row.algorithm for row in scoreboard.ROWS}
