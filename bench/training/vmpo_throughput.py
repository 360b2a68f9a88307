"""Environment steps per second of V-MPO on HalfCheetah-v5, where the time goes, and what bounds it.

    python bench/training/vmpo_throughput.py [--m-steps 16 1] [--rounds 5] [--out FILE]

One thread, 16 environments × 256 steps, networks (512, 256). In the same run: EnvPool alone with random actions, and the machine's float32
matrix-multiply rate at the shapes of the learning step, from which the time of the matrix products alone follows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from fastrl.envs import make_vector_env
from fastrl.trainers.vmpo.trainer import VMPOTrainer

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


def matmul_seconds_per_row(obs_dim: int, act_dim: int, rows: int = 1024) -> tuple[float, float]:
    """Seconds per row of the matrix products of one forward and backward of policy and value network, and the rate in GFLOP/s.

    Forward x·W, then Wᵀ-gradient for every layer and input gradient for every layer but the first: what any implementation must multiply.
    """
    sizes = (obs_dim, *LAYERS)
    heads = ((LAYERS[-1], act_dim), (LAYERS[-1], 1))
    products = []
    for head in heads:
        for index, (n_in, n_out) in enumerate([*zip(sizes[:-1], sizes[1:], strict=True), head]):
            x, w, g = torch.randn(rows, n_in), torch.randn(n_in, n_out), torch.randn(rows, n_out)
            products += [(x, w), (x.T, g)] + ([(g, w.T)] if index else [])
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        for a, b in products:
            a @ b
        seconds.append(time.perf_counter() - start)
    best = statistics.median(seconds[2:])
    return best / rows, flops / best / 1e9


def training_rounds(m_steps: int, rounds: int) -> dict[str, float]:
    """Median environment steps per second over rounds of collect, estimate, learn, and the share of each phase."""
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
            totals = {name: totals.get(name, 0.0) + seconds for name, seconds in (phases | {"all": elapsed}).items()}
    shares = {f"share_{name}": totals[name] / totals["all"] for name in ("environment", "acting", "estimation", "learning")}
    return {
        "env_steps_per_s": statistics.median(rates),
        **shares,
        "learning_s_per_step": totals["learning"] / totals["all"] / statistics.median(rates),
    }


def measure(m_steps: list[int], rounds: int) -> dict[str, object]:
    """All figures of one run."""
    torch.set_num_threads(1)
    raw, adapted = environment_rate(), adapter_rate()
    per_row, gflops = matmul_seconds_per_row(17, 6)
    results: dict[str, object] = {"envpool_steps_per_s": raw, "adapter_steps_per_s": adapted, "matmul_gflop_per_s": gflops}
    print(f"EnvPool alone {raw:,.0f} env steps/s, through fastrl.envs {adapted:,.0f}; matrix products {gflops:.0f} GFLOP/s")
    for count in m_steps:
        row = training_rounds(count, rounds)
        bound = 1.0 / (count * per_row + 1.0 / raw)  # environment and matrix products of learning, nothing else
        row |= {
            "bound_steps_per_s": bound,
            "bound_over_measured": bound / row["env_steps_per_s"],
            "share_of_envpool": row["env_steps_per_s"] / raw,
        }
        results[f"m_steps_{count}"] = row
        shares = ", ".join(
            f"{name[6:]} {value:.0%}" for name, value in row.items() if name.startswith("share_") and name != "share_of_envpool"
        )
        print(
            f"{count:2d} M-steps: {row['env_steps_per_s']:,.0f} env steps/s ({shares}); "
            f"environment and matrix products alone allow {bound:,.0f} "
            f"({row['bound_over_measured']:.2f} times); {row['share_of_envpool']:.0%} of EnvPool's rate"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--m-steps", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments.m_steps, arguments.rounds)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
