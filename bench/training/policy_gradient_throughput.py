"""Environment steps per second of PPO, where the time goes, and what bounds it.

    python bench/training/policy_gradient_throughput.py [--rounds 20] [--write]

One thread, networks (64, 64), 128 steps a rollout, 4 epochs of 4 minibatches: CartPole-v1 with 8 and with 64
environments, HalfCheetah-v5 with 64 and running normalisers. In the same run: EnvPool alone, and, where
Stable-Baselines3 is installed, its PPO with the same settings on the environments it makes itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from fastrl.nn.linear import product
from fastrl.trainers.policy_gradient.config import PPOConfig
from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

STEPS, EPOCHS, MINI_BATCHES, LAYERS = 128, 4, 4, (64, 64)
NORMALISED = {"normalize_observation": True, "normalize_reward": True}
SETTINGS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("CartPole-v1", 8, {"ent_coef": 0.01}),
    ("CartPole-v1", 64, {"ent_coef": 0.01}),
    ("HalfCheetah-v5", 64, NORMALISED),
)


def environment_rate(env_id: str, num_envs: int, seconds: float = 0.5) -> float:
    """Environment steps per second of EnvPool with one thread and random actions, drawn before."""
    import envpool

    env = envpool.make(env_id, env_type="gymnasium", num_envs=num_envs, seed=0, num_threads=1)
    env.reset()
    rng = np.random.default_rng(0)
    shape = env.action_space.shape
    actions = [
        rng.uniform(-1, 1, (num_envs, *shape)) if shape else rng.integers(env.action_space.n, size=num_envs)
        for _ in range(64)
    ]
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        env.step(actions[steps % 64])
        steps += 1
    return steps * num_envs / (time.perf_counter() - start)


def seconds_of_products(obs_dim: int, outputs: int, rows: int) -> float:
    """Seconds that the matrix products of one update take by themselves: of both networks, forward and
    backward, on a minibatch."""
    sizes, pairs = (obs_dim, *LAYERS), []
    for head in (outputs, 1):
        for index, (n_in, n_out) in enumerate(zip(sizes, (*LAYERS, head), strict=True)):
            x, weight, gradient = torch.randn(rows, n_in), torch.randn(n_out, n_in), torch.randn(rows, n_out)
            pairs += [(x, weight), (gradient.t(), x.t())] + ([(gradient, weight.t())] if index else [])
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        for a, b in pairs:
            product(a, b)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def training_rounds(env_id: str, num_envs: int, changes: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median environment steps per second over rounds of collect, estimate, learn, and the median seconds of
    each."""
    config = PPOConfig(
        env_id=env_id,
        num_envs=num_envs,
        num_steps=STEPS,
        update_epochs=EPOCHS,
        num_minibatches=MINI_BATCHES,
        layer_sizes=LAYERS,
        threads=1,
        env_threads=1,
        **changes,
    )
    seconds: dict[str, list[float]] = {"collecting": [], "estimation": [], "learning": [], "round": []}
    rates = []
    with PolicyGradientTrainer(config) as trainer:
        for round_index in range(rounds + 2):
            steps, times = trainer.env_steps, [time.perf_counter()]
            for phase in (trainer.collect, trainer.estimate, trainer.learn):
                phase()
                times.append(time.perf_counter())
            if round_index < 2:
                continue  # warm-up
            for name, spent in zip(seconds, (*np.diff(times), times[-1] - times[0]), strict=True):
                seconds[name].append(float(spent))
            rates.append((trainer.env_steps - steps) / seconds["round"][-1])
        learner = trainer.learner
        parameters = sum(p.numel() for net in (learner.policy, learner.value) for p in net.parameters())
    return {
        "env_steps_per_s": statistics.median(rates),
        "parameters": parameters,
        **{f"{name}_s": statistics.median(spent) for name, spent in seconds.items()},
    }


def stable_baselines_rate(env_id: str, num_envs: int, changes: dict[str, Any], rounds: int) -> float | None:
    """Environment steps per second of Stable-Baselines3's PPO; None where it or the environment is not
    installed."""
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
        from stable_baselines3.common.vec_env import VecNormalize
    except ImportError:
        return None
    try:
        env: Any = make_vec_env(env_id, n_envs=num_envs)
    except gymnasium.error.DependencyNotInstalled:
        return None
    if changes.get("normalize_observation"):
        env = VecNormalize(env)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=STEPS,
        batch_size=STEPS * num_envs // MINI_BATCHES,
        n_epochs=EPOCHS,
        ent_coef=changes.get("ent_coef", 0.0),
        policy_kwargs={"net_arch": list(LAYERS)},
        device="cpu",
    )
    model.learn(STEPS * num_envs)  # warm-up
    start = time.perf_counter()
    model.learn(rounds * STEPS * num_envs)
    return rounds * STEPS * num_envs / (time.perf_counter() - start)


def measure(env_id: str, num_envs: int, changes: dict[str, Any], rounds: int) -> dict[str, Any]:
    """All figures of one setting."""
    raw = [environment_rate(env_id, num_envs)]
    row: dict[str, Any] = training_rounds(env_id, num_envs, changes, rounds)
    raw.append(environment_rate(env_id, num_envs))  # before and after: the machine's speed drifts
    row["envpool_steps_per_s"] = statistics.mean(raw)
    row["over_envpool"] = row["env_steps_per_s"] / row["envpool_steps_per_s"]
    obs_dim, outputs = {"CartPole-v1": (4, 2), "HalfCheetah-v5": (17, 6)}[env_id]
    row["products_s"] = (
        EPOCHS * MINI_BATCHES * seconds_of_products(obs_dim, outputs, STEPS * num_envs // MINI_BATCHES)
    )
    print(
        f"{env_id}, {num_envs} environments: {row['env_steps_per_s']:,.0f} env steps/s, "
        f"{row['over_envpool']:.0%} of EnvPool's rate alone"
    )
    phases = ", ".join(
        f"{name} {1e3 * row[f'{name}_s']:.2f} ms" for name in ("collecting", "estimation", "learning")
    )
    print(
        f"    a round: {phases}; the updates' matrix products by torch and oneDNN: "
        f"{1e3 * row['products_s']:.2f} ms"
    )
    peer = stable_baselines_rate(env_id, num_envs, changes, max(2, rounds // 5))
    if peer is not None:
        row["stable_baselines3_steps_per_s"] = peer
        print(f"    Stable-Baselines3 {peer:,.0f} env steps/s: {row['env_steps_per_s'] / peer:.1f} times")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        f"{env_id}-{envs}": measure(env_id, envs, changes, arguments.rounds)
        for env_id, envs, changes in SETTINGS
    }
    if arguments.write:
        print(record.write_result("throughput-policy-gradient", results))


if __name__ == "__main__":
    main()
