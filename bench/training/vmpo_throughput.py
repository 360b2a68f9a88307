"""Environment steps per second of V-MPO on HalfCheetah-v5, where the time goes, and what bounds it.

    python bench/training/vmpo_throughput.py [--m-steps 16 1] [--rounds 5] [--write]

One thread, 16 environments × 256 steps, networks (512, 256). In the same run: EnvPool alone with random
actions, and the rate of float32 matrix multiplication at the shapes of the learning step, from which the time
of the matrix products alone follows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastrl.envs import make_vector_env
from fastrl.nn.linear import product
from fastrl.trainers.vmpo.trainer import VMPOTrainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

ENV_ID, NUM_ENVS, ROLLOUT_STEPS, LAYERS = "HalfCheetah-v5", 16, 256, (512, 256)


def random_actions(dim: int, steps: int) -> torch.Tensor:
    """What an untrained policy does: standard normal, clipped; [steps, N, A]."""
    return torch.randn(steps, NUM_ENVS, dim, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def environment_rate(steps: int = 400) -> float:
    """Environment steps per second of raw EnvPool with random actions, one thread."""
    import envpool

    env = envpool.make(ENV_ID, env_type="gymnasium", num_envs=NUM_ENVS, seed=0, num_threads=1)
    env.reset()
    actions = random_actions(env.action_space.shape[0], steps).numpy()
    start = time.perf_counter()
    for step in range(steps):
        env.step(actions[step])
    return steps * NUM_ENVS / (time.perf_counter() - start)


def adapter_rate(steps: int = 400) -> float:
    """The same through `fastrl.envs`."""
    with make_vector_env(ENV_ID, NUM_ENVS, seed=0, num_threads=1) as env:
        env.reset()
        actions = random_actions(env.action.dim, steps)
        start = time.perf_counter()
        for step in range(steps):
            env.step(actions[step])
        return steps * NUM_ENVS / (time.perf_counter() - start)


def matrix_products(obs_dim: int, act_dim: int, rows: int = 1024) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs (a, b) whose products a · bᵀ one forward and backward of policy and value network cannot do
    without.

    Per layer the forward product, the gradient of the weights, and, but for the first layer, the gradient of
    the input.
    """
    sizes = (obs_dim, *LAYERS)
    pairs = []
    for head in ((LAYERS[-1], act_dim), (LAYERS[-1], 1)):
        for index, (n_in, n_out) in enumerate([*zip(sizes[:-1], sizes[1:], strict=True), head]):
            x, weight, gradient = torch.randn(rows, n_in), torch.randn(n_out, n_in), torch.randn(rows, n_out)
            pairs += [(x, weight), (gradient.t(), x.t())] + ([(gradient, weight.t())] if index else [])
    return pairs


def seconds_per_row(
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], rows: int = 1024
) -> tuple[float, float]:
    """Seconds per row that `multiply` takes for the matrix products of HalfCheetah's networks, and its rate
    in GFLOP/s."""
    pairs = matrix_products(17, 6, rows)
    operations = sum(2 * a.shape[0] * a.shape[1] * b.shape[0] for a, b in pairs)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        for a, b in pairs:
            multiply(a, b)
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds[2:])
    return middle / rows, operations / middle / 1e9


def training_rounds(m_steps: int, rounds: int) -> dict[str, float]:
    """Median environment steps per second over rounds of collect, estimate, learn, and the share of each
    phase."""
    trainer = VMPOTrainer(
        ENV_ID,
        1,
        torch.device("cpu"),
        LAYERS,
        LAYERS,
        ROLLOUT_STEPS,
        num_envs=NUM_ENVS,
        m_steps=m_steps,
        advantage_estimator="gae",
        threads=1,
        env_threads=1,
    )
    rates, totals = [], {}
    with trainer:
        for round_index in range(rounds + 1):
            steps_before, start = trainer.env_steps, time.perf_counter()
            trainer.collect()
            with trainer.stopwatch("estimation"):
                trainer.estimate()
            with trainer.stopwatch("learning"):
                trainer.learn()
            elapsed = time.perf_counter() - start
            phases = trainer.stopwatch.drain()
            if round_index == 0:
                continue  # warm-up
            rates.append((trainer.env_steps - steps_before) / elapsed)
            totals = {
                name: totals.get(name, 0.0) + seconds for name, seconds in (phases | {"all": elapsed}).items()
            }
    shares = {
        f"share_{name}": totals[name] / totals["all"]
        for name in ("environment", "acting", "estimation", "learning")
    }
    return {
        "env_steps_per_s": statistics.median(rates),
        **shares,
        "learning_s_per_step": totals["learning"] / totals["all"] / statistics.median(rates),
    }


def measure(m_steps: list[int], rounds: int) -> dict[str, Any]:
    """All figures of one run."""
    torch.set_num_threads(1)
    raw_rates, adapted = [environment_rate() for _ in range(3)], adapter_rate()
    mkl, mkl_rate = seconds_per_row(lambda a, b: a @ b.t())
    fastest, fastest_rate = min((mkl, mkl_rate), seconds_per_row(product))
    rows = {}
    for count in m_steps:
        rows[count] = training_rounds(count, rounds)
        raw_rates += [
            environment_rate() for _ in range(3)
        ]  # before, between and after: the machine's speed drifts
    raw = statistics.median(raw_rates)
    results: dict[str, Any] = {
        "envpool_steps_per_s": raw,
        "adapter_steps_per_s": adapted,
        "torch_matmul_gflop_per_s": mkl_rate,
        "fastest_matmul_gflop_per_s": fastest_rate,
    }
    print(f"EnvPool alone {raw:,.0f} env steps/s, through fastrl.envs {adapted:,.0f}")
    print(
        f"matrix products of the learning step: torch {mkl_rate:.0f} GFLOP/s, fastrl.nn.linear "
        f"{fastest_rate:.0f}"
    )
    for count, row in rows.items():
        rate = row["env_steps_per_s"]
        # environment and matrix products of learning, nothing else: by torch's own multiplication, and by the
        # fastest
        for name, per_row in (("torch_bound", mkl), ("fastest_bound", fastest)):
            row[f"{name}_steps_per_s"] = 1.0 / (count * per_row + 1.0 / raw)
            row[f"{name}_over_measured"] = row[f"{name}_steps_per_s"] / rate
        row["measured_over_envpool"] = rate / raw
        results[f"m_steps_{count}"] = row
        shares = ", ".join(
            f"{name[6:]} {value:.0%}" for name, value in row.items() if name.startswith("share_")
        )
        print(
            f"{count:2d} M-steps: {rate:,.0f} env steps/s ({shares}), {row['measured_over_envpool']:.0%} of "
            "EnvPool's rate"
        )
        print(
            f"    environment and matrix products alone would allow {row['fastest_bound_steps_per_s']:,.0f} "
            f"({row['fastest_bound_over_measured']:.2f} times), with torch's multiplication "
            f"{row['torch_bound_steps_per_s']:,.0f} "
            f"({row['torch_bound_over_measured']:.2f} times)"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--m-steps", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    arguments = parser.parse_args()
    results = measure(arguments.m_steps, arguments.rounds)
    if arguments.write:
        print(record.write_result("throughput-vmpo-HalfCheetah-v5", results))


if __name__ == "__main__":
    main()
