"""Threads are started where there is enough for two of them to do, as docs/ops.md says, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path("/proc/self/task")

# a pool of threads is started by the first call that shares its work; inputs are made by one thread, so that
# they do not start it
PROGRAM = """
import os, sys, torch
from fastrl import ops
steps, envs = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
rewards, values = torch.zeros(steps, envs), torch.zeros(steps + 1, envs)
flags = torch.zeros(steps, envs, dtype=torch.bool)
torch.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
if sys.argv[3] == "gae":
    ops.gae(rewards, values, flags, flags, gamma=0.99, gae_lambda=0.95)
else:
    ops.tanh(rewards)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not TASKS.exists(), reason="counting threads needs /proc")
@pytest.mark.parametrize(
    ("op", "steps", "envs", "started"),
    [
        ("gae", 1024, 17 * 16, 0),  # a little more than what one thread is given
        ("gae", 1024, 511, 0),
        ("gae", 1024, 512, 1),
        ("gae", 100_000, 17, 1),
        ("gae", 100_000, 15, 0),  # columns are what is shared, and these are too few
        ("tanh", 1, (1 << 17) - 1, 0),
        ("tanh", 1, 1 << 17, 1),
    ],
)
def test_threads_start_when_each_has_enough_to_do(op: str, steps: int, envs: int, started: int) -> None:
    arguments = [sys.executable, "-c", PROGRAM, str(steps), str(envs), op]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "MKL_", "GOMP_", "KMP_"))
    }
    run = subprocess.run(
        arguments, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2], timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == started
