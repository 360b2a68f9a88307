"""What storing Atari's frames once costs, beside EnvPool alone and beside storing whole stacks.

    python bench/envs/atari.py [--num-envs 8 32 64] [--rounds 5] [--threads 1] [--write]

The same random actions for all, in turns, so that a busy machine slows all alike; medians over the rounds.
Rates are frames of the emulator per second: steps of all environments times the frame skip of 4. The replay
holds 100,000 transitions; sampling is 64 windows of one transition, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stepping import microseconds

from fastrl.data.replay import SequenceReplay
from fastrl.data.rollout import Rollout
from fastrl.envs import Timestep, VectorEnv, make_vector_env
from fastrl.envs.base import environment_seeds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

ENV_ID = "Pong-v5"
SKIP = STACK = 4
ROLLOUT_STEPS = 64
TRANSITIONS = 100_000
WINDOWS = 64
CALLS = {8: 256, 32: 64, 64: 32}  # of a round


class Stepper:
    """Environments that are stepped with random actions, and a place to store what comes of it."""

    def __init__(self, num_envs: int, threads: int) -> None:
        self.env: VectorEnv = make_vector_env(
            ENV_ID, num_envs, num_threads=threads, frame_stack=STACK, frame_skip=SKIP, sign_rewards=True
        )
        generator = torch.Generator().manual_seed(0)
        choices = self.env.action.num_actions
        self.actions = [torch.randint(0, choices, (num_envs,), generator=generator) for _ in range(64)]
        self.obs = self.env.reset()

    def step(self, index: int) -> tuple[dict[str, torch.Tensor], Timestep]:
        """A row without what followed it, and the step."""
        actions = self.actions[index % 64]
        step = self.env.step(actions)
        self.env.pop_episodes()
        row = {"obs": self.obs, "actions": actions, "rewards": step.reward}
        self.obs = step.obs
        flags = ("terminated", "truncated", "valid")
        return row | {name: getattr(step, name) for name in flags}, step


def into_rollout(stepper: Stepper, frames: int) -> tuple[Callable[[int], None], int]:
    """A function that steps and stores, and the bytes of the rollout."""
    fields: dict[str, Any] = {"obs": (stepper.env.obs_shape, torch.uint8), "action": ((), torch.int64)}
    rollout = Rollout(ROLLOUT_STEPS, stepper.env.num_envs, **fields, frames=frames)

    def step(index: int) -> None:
        if rollout.full:
            rollout.reset()
        row, after = stepper.step(index)
        rollout.append(**row, next_obs=after.obs)

    return step, rollout.nbytes


def into_replay(stepper: Stepper, frames: int) -> tuple[Callable[[int], None], SequenceReplay]:
    """A function that steps and stores, and the replay."""
    size = int(np.prod(stepper.env.obs_shape))
    fields: dict[str, Any] = {"obs": ((size,), torch.uint8), "action": ((), torch.int64)}
    replay = SequenceReplay(TRANSITIONS, stepper.env.num_envs, **fields, seed=0, frames=frames)

    def step(index: int) -> None:
        row, _ = stepper.step(index)
        replay.add(**row | {"obs": row["obs"].flatten(1)})

    return step, replay


def compare(num_envs: int, threads: int, rounds: int) -> dict[str, Any]:
    """Medians of all ways with so many environments."""
    import envpool

    seeds = environment_seeds(0, num_envs)
    pool: Any = envpool.make_gymnasium(ENV_ID, num_envs=num_envs, num_threads=threads, seed=seeds)
    pool.reset()
    raw = np.random.default_rng(0).integers(0, 6, (64, num_envs)).astype(np.int32)
    steppers = [Stepper(num_envs, threads) for _ in range(5)]
    to_rollout, once = into_rollout(steppers[1], STACK)
    to_whole_rollout, whole = into_rollout(steppers[2], 1)
    to_replay, replay = into_replay(steppers[3], STACK)
    to_whole_replay, whole_replay = into_replay(steppers[4], 1)
    ways: dict[str, Callable[[int], Any]] = {
        "envpool": lambda index: pool.step(raw[index % 64]),
        "fastrl": steppers[0].step,
        "rollout": to_rollout,
        "rollout_of_stacks": to_whole_rollout,
        "replay": to_replay,
        "replay_of_stacks": to_whole_replay,
    }
    calls = CALLS.get(num_envs, max(2048 // num_envs, 1))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(microseconds(way, calls))
    rates = {
        f"{name}_frames_per_s": num_envs * SKIP / statistics.median(each) * 1e6
        for name, each in times.items()
    }
    draws = {
        name: statistics.median(
            microseconds(lambda _, stored=stored: stored.sample(WINDOWS, 1), 10) / 1e3 for _ in range(rounds)
        )
        for name, stored in (("sample_ms", replay), ("sample_of_stacks_ms", whole_replay))
    }
    for stepper in steppers:
        stepper.env.close()
    pool.close()
    sizes = {"rollout_bytes": once, "rollout_of_stacks_bytes": whole}
    sizes |= {"replay_bytes": replay.storage.nbytes, "replay_of_stacks_bytes": whole_replay.storage.nbytes}
    return {"num_envs": num_envs, "threads": threads, **rates, **draws, **sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the numbers to bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for num_envs in options.num_envs:
        rows.append(row := compare(num_envs, options.threads, options.rounds))
        print(f"{num_envs} environments of {ENV_ID}, {options.threads} thread(s)")
        for name, value in row.items():
            if name not in ("num_envs", "threads"):
                print(
                    f"  {name:<32}{value:>16,.2f}" if name.endswith("_ms") else f"  {name:<32}{value:>16,.0f}"
                )
    if options.write:
        print("written to", record.write_result("env-atari", {"rows": rows}))


if __name__ == "__main__":
    main()
