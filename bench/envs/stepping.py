"""What a step through `fastrl.envs` costs above EnvPool's own.

    python bench/envs/stepping.py [--num-envs 16] [--rounds 15] [--write]

One thread, the same random actions for all, in turns, so that a busy machine slows all alike; medians over
the rounds. "One core" is the same step within `many_steps`. Raw is
`envpool.make_gymnasium(...).step(actions)` with actions that need no conversion: no masking, no statistics,
no tensors, no concatenation.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.base import environment_seeds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

STEPS = {
    "CartPole-v1": 2000,
    "Pendulum-v1": 2000,
    "MiniGrid-MemoryS7-v0": 1000,
    "CheetahRun-v1": 400,
    "HalfCheetah-v5": 200,
}


def microseconds(step: Callable[[int], Any], calls: int) -> float:
    start = time.perf_counter()
    for index in range(calls):
        step(index)
    return (time.perf_counter() - start) / calls * 1e6


def compare(env_id: str, num_envs: int, rounds: int) -> dict[str, Any]:
    """Medians of both ways for one id, and of their difference within a round."""
    import envpool

    env = make_vector_env(env_id, num_envs, seed=0, num_threads=1)
    pool: Any = envpool.make_gymnasium(
        env_id, num_envs=num_envs, seed=environment_seeds(0, num_envs), num_threads=1
    )
    generator = np.random.default_rng(0)
    if env.action.kind == "discrete":
        raw = [generator.integers(0, env.action.num_actions, num_envs).astype(np.int32) for _ in range(64)]
        tensors = [torch.from_numpy(actions.astype(np.int64)) for actions in raw]
    else:
        raw = [
            generator.uniform(-1, 1, (num_envs, env.action.dim)).astype(pool.action_space.dtype)
            for _ in range(64)
        ]
        tensors = [torch.from_numpy(actions).float() for actions in raw]

    def through_fastrl(index: int) -> None:
        env.step(tensors[index % 64])
        env.pop_episodes()

    env.reset()
    pool.reset()
    calls = STEPS[env_id]
    ours, theirs, together = [], [], []
    for _ in range(rounds):
        theirs.append(microseconds(lambda index: pool.step(raw[index % 64]), calls))
        ours.append(microseconds(through_fastrl, calls))
        with env.many_steps():
            together.append(microseconds(through_fastrl, calls))
    env.close()
    raw_us, ours_us = statistics.median(theirs), statistics.median(ours)
    overhead = statistics.median(mine - other for mine, other in zip(ours, theirs, strict=True))
    return {
        "env_id": env_id,
        "num_envs": num_envs,
        "envpool_us": raw_us,
        "fastrl_us": ours_us,
        "overhead_us": overhead,
        "one_core_us": statistics.median(together),
        "steps_per_s": num_envs / ours_us * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="write the numbers to bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*precision lowered.*")
    print(f"{options.num_envs} environments, one thread")
    print(
        f"{'environment':<24}{'EnvPool µs':>12}{'fastrl µs':>12}{'above it µs':>13}"
        f"{'one core µs':>13}{'steps/s':>12}"
    )
    rows = []
    for env_id in STEPS:
        rows.append(row := compare(env_id, options.num_envs, options.rounds))
        times = f"{row['envpool_us']:>12.1f}{row['fastrl_us']:>12.1f}{row['overhead_us']:>13.1f}"
        print(f"{env_id:<24}{times}{row['one_core_us']:>13.1f}{row['steps_per_s']:>12,.0f}", flush=True)
    if options.write:
        print("written to", record.write_result("env-stepping", {"threads": 1, "rows": rows}))


if __name__ == "__main__":
    main()
