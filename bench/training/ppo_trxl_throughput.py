"""PPO-TrXL beside the same network trained the published way: seconds, memory, where the time goes, and what
bounds it.

    python bench/training/ppo_trxl_throughput.py [--settings proof minigrid] [--rounds 5] [--write]

One thread. "proof": ProofofMemory, 16 environments × 128 steps, 4 layers, 1 head, 64 features, a window of
16, 8 minibatches × 4 epochs. "minigrid": MiniGrid-MemoryS9, 32 environments × 512 steps, 3 layers, 4 heads,
384 features, a window of 119, 8 minibatches × 3 epochs.

The published way (CleanRL, episodic Transformer-XL) keeps the memory of whole episodes, gathers each row's
episode, then its window, and projects keys and values of every slot of every window. Here it runs through the
modules' documented `forward`, whose matrix products are this library's too, on the very rows of a rollout;
that its loss is the fast path's is checked first. Its figures are of one minibatch (one step of acting),
times their number. Every measurement runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastrl.data.memory_bank import BankReader
from fastrl.nn.linear import product
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.learner import TrXLRows
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

PPO = {
    "seed": 1,
    "device": "cpu",
    "learning_rate": 3e-4,
    "final_learning_rate": 3e-5,
    "anneal_steps": 1_000_000,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "normalize_advantages": True,
    "clip_coef": 0.1,
    "clip_vloss": True,
    "ent_coef": 1e-3,
    "final_ent_coef": 1e-4,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "target_kl": None,
    "trxl_positional_encoding": "absolute",
    "reconstruction_coef": 0.0,
    "threads": 1,
    "env_threads": 1,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "proof": {
        **PPO,
        "env_id": "ProofofMemory-v0",
        **{"num_envs": 16, "num_steps": 128, "num_minibatches": 8, "update_epochs": 4},
        **{"trxl_num_layers": 4, "trxl_num_heads": 1, "trxl_dim": 64, "trxl_memory_length": 16},
    },
    "minigrid": {
        **PPO,
        "env_id": "MiniGrid-MemoryS9-v0",
        **{"num_envs": 32, "num_steps": 512, "num_minibatches": 8, "update_epochs": 3},
        **{"trxl_num_layers": 3, "trxl_num_heads": 4, "trxl_dim": 384, "trxl_memory_length": 119},
    },
}
WAYS = ("rows", "environments", "published")


# ------------------------------------------------------------------------------------- the fast path


def rounds_of(trainer: PPOTrXLTrainer, rounds: int) -> dict[str, Any]:
    """Environment steps per second over rounds of collect, estimate and learn, and seconds of each phase in a
    round."""
    rates, phases = [], []
    for index in range(rounds + 1):
        steps, start = trainer.env_steps, time.perf_counter()
        trainer.collect()
        with trainer.stopwatch("estimation"):
            trainer.estimate()
        with trainer.stopwatch("learning"):
            trainer.learn()
        elapsed, spent = time.perf_counter() - start, trainer.stopwatch.drain()
        if index:  # the first warms up
            rates.append((trainer.env_steps - steps) / elapsed)
            phases.append(spent | {"round": elapsed})
    seconds = {name: statistics.median(phase[name] for phase in phases) for name in phases[0]}
    return {"env_steps_per_s": statistics.median(rates), "seconds": seconds, "rows": len(trainer.rows or [])}


def learning_operations(trainer: PPOTrXLTrainer, rows: int) -> float:
    """Floating-point operations that one update on so many rows cannot do without: products forward, and
    backward for what is learned."""
    settings, agent = trainer.config, trainer.learner.agent
    dim, layers, window = settings.trxl_dim, settings.trxl_num_layers, settings.trxl_memory_length
    heads = sum(
        parameter.numel()
        for part in (agent.actor, agent.critic)
        for parameter in part.parameters()
        if parameter.ndim == 2
    )
    per_row = (
        3 * 2 * ((3 * layers + 1) * dim * dim + heads)
    )  # query, output, feed-forward; then the layer behind all
    if agent.transformer.absorbs:
        per_slot, per_minibatch = (
            0,
            3 * 2 * layers * 2 * dim**3,
        )  # no slot is projected; query and output maps are multiplied out
        per_row += layers * window * dim * (4 + 6)
    else:
        per_slot, per_minibatch = (
            2 * 2 * layers * 2 * dim * dim,
            0,
        )  # keys and values; of the memory there is no gradient
        per_row += layers * window * dim * (4 + 8)
    slots = trainer.bank.positions.numel()
    projections = (
        1 if settings.minibatches == "environments" else settings.num_minibatches
    )  # times that each slot is projected in an epoch
    return settings.update_epochs * (
        rows * per_row + slots * per_slot * projections + settings.num_minibatches * per_minibatch
    )


def matrix_rate(dim: int, rows: int) -> float:
    """Operations per second of a float32 product [rows, dim] · [dim, dim], by whichever library is faster."""
    x, weight = torch.randn(rows, dim), torch.randn(dim, dim)
    best = min(_seconds(lambda: product(x, weight)), _seconds(lambda: x @ weight.t()))
    return 2 * rows * dim * dim / best


def _seconds(call: Callable[[], Any], repeats: int = 30) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# --------------------------------------------------------------------------------- the published way


class Published:
    """One rollout's rows with the memory of whole episodes, as the published trainer keeps them."""

    def __init__(self, trainer: PPOTrXLTrainer) -> None:
        assert trainer.rows is not None and trainer.max_episode_steps is not None
        self.trainer, self.rows = trainer, trainer.rows
        rows, window = trainer.rows, trainer.config.trxl_memory_length
        begins = rows.slot - rows.position  # a number of its own for each episode of an environment
        _, self.episode = torch.stack([rows.env, begins]).unique(dim=1, return_inverse=True)
        transformer = trainer.learner.agent.transformer
        reader = BankReader(transformer, trainer.bank)
        self.stored = torch.zeros(
            int(self.episode.max()) + 1, trainer.max_episode_steps, transformer.num_layers, transformer.dim
        )
        with (
            torch.no_grad()
        ):  # a trainer's first rollout: all that is seen was left by its own rows, under the present weights
            seen = reader.window(rows.env, rows.slot, rows.position, None)
            *_, tokens = trainer.learner.agent.read(rows.obs, reader.banks(None), seen, transformer.maps())
        self.stored[self.episode, rows.position] = tokens.transpose(0, 1)
        self.mask_table, self.index_table = trainer._build_memory_helpers(
            memory_length=window, max_episode_steps=trainer.max_episode_steps, device=torch.device("cpu")
        )

    def loss(self, index: torch.Tensor) -> torch.Tensor:
        """The loss of a minibatch, policy and value and entropy, from whole episodes to windows to scores."""
        rows, settings = self.rows.at(index), self.trainer.config
        indices = self.index_table[rows.position]
        mask = self.mask_table[rows.position.clamp(max=settings.trxl_memory_length)]
        episodes = self.stored[self.episode[index]]  # [B, S, L, D]
        where = indices[:, :, None, None].expand(-1, -1, *episodes.shape[2:])
        windows = episodes.gather(1, where)
        _, log_prob, entropy, values, _ = self.trainer.learner.agent.get_action_and_value(
            rows.obs, windows, mask, indices, action=rows.actions
        )
        advantages = (rows.advantages - rows.advantages.mean()) / (rows.advantages.std(correction=0) + 1e-8)
        log_ratio = log_prob - rows.log_probs
        ratio, clip = log_ratio.exp(), settings.clip_coef
        gain = advantages[:, None]
        policy_loss = torch.max(-gain * ratio, -gain * ratio.clamp(1 - clip, 1 + clip)).mean()
        near = rows.values + (values - rows.values).clamp(-clip, clip)
        value_loss = 0.5 * torch.max((values - rows.returns) ** 2, (near - rows.returns) ** 2).mean()
        return policy_loss - settings.ent_coef * entropy.mean() + settings.vf_coef * value_loss

    def acting_seconds(self) -> float:
        """One step of acting in all environments: windows are gathered and projected anew."""
        settings, obs = self.trainer.config, self.trainer.collected.collector.obs
        position = self.trainer.acting.memory.clock.position.clamp(max=self.trainer.max_episode_steps - 1)
        indices = self.index_table[position]
        mask = self.mask_table[position.clamp(max=settings.trxl_memory_length)]
        memory = self.stored[torch.zeros(len(obs), dtype=torch.int64)]

        @torch.no_grad()
        def act() -> None:
            where = indices[:, :, None, None].expand(-1, -1, *memory.shape[2:])
            self.trainer.learner.agent.get_action_and_value(obs, memory.gather(1, where), mask, indices)

        return _seconds(act, 5)


def published(trainer: PPOTrXLTrainer, minibatches: int) -> dict[str, Any]:
    """Seconds of one update and of a rollout's acting, from so many minibatches; the loss is compared with
    the fast path's."""
    trainer.collect()
    trainer.estimate()
    way, settings = Published(trainer), trainer.config
    rows: TrXLRows = way.rows
    reader = BankReader(trainer.learner.agent.transformer, trainer.bank)
    few = torch.randperm(len(rows))[:256]
    ours, _ = trainer.learner.loss(rows.at(few), reader, None, settings.ent_coef)
    torch.testing.assert_close(way.loss(few), ours, atol=1e-4, rtol=1e-4)
    del ours, reader
    found = []
    size = len(rows) // settings.num_minibatches
    optimizer = torch.optim.AdamW([trainer.learner.parameters.whole], fused=True)
    for index in torch.randperm(len(rows)).split(size)[:minibatches]:
        start = time.perf_counter()
        trainer.learner.parameters.zero_grad()
        way.loss(index).backward()
        trainer.learner.parameters.clip_grad_norm_(settings.max_grad_norm)
        optimizer.step()
        found.append(time.perf_counter() - start)
    learning = statistics.median(found) * settings.num_minibatches * settings.update_epochs
    return {
        "seconds": {"learning": learning, "acting": way.acting_seconds() * settings.num_steps},
        "rows": len(rows),
    }


# ----------------------------------------------------------------------------------------- measuring


def measure_one(name: str, way: str, rounds: int) -> dict[str, Any]:
    """One way at one setting, in this process."""
    chosen = dict(SETTINGS[name])
    if way == "environments":
        chosen["minibatches"] = "environments"
    config = PPOTrXLConfig.documented(**chosen)
    with PPOTrXLTrainer.from_config(config) as trainer, trainer.session():
        if way == "published":
            results = published(trainer, minibatches=1 if name == "minigrid" else 8)
        else:
            results = rounds_of(trainer, rounds)
            operations = learning_operations(trainer, results["rows"])
            rate = matrix_rate(
                trainer.config.trxl_dim, max(results["rows"] // trainer.config.num_minibatches, 1)
            )
            results |= {
                "learning_gflop": operations / 1e9,
                "matrix_gflop_per_s": rate / 1e9,
                "learning_over_bound": results["seconds"]["learning"] * rate / operations,
            }
    return results | {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def measure(name: str, rounds: int) -> dict[str, Any]:
    """All ways at one setting, each in a process of its own."""
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--one", name, way, "--rounds", str(rounds)]
        found[way] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        report(name, way, found[way], found)
    base = found["published"]
    for way in WAYS[:2]:
        own = found[way]
        own["learning_speedup"] = (
            base["seconds"]["learning"] / base["rows"] / own["seconds"]["learning"] * own["rows"]
        )
        print(
            f"{name}: learning with minibatches of {way} takes {1 / own['learning_speedup']:.3f} of the "
            "published way's time, "
            f"{own['learning_speedup']:.1f} times as fast; acting "
            f"{base['seconds']['acting'] / own['seconds']['acting']:.1f} times"
        )
    return found


def report(name: str, way: str, own: dict[str, Any], found: dict[str, Any]) -> None:
    """A line or two for people."""
    phases = ", ".join(f"{phase} {seconds:.3g} s" for phase, seconds in own["seconds"].items())
    rate = f"{own['env_steps_per_s']:,.0f} environment steps/s; " if "env_steps_per_s" in own else ""
    print(f"{name}, {way}: {rate}a round: {phases}; peak memory {own['peak_memory_mb']:,.0f} MB", flush=True)
    if "learning_gflop" in own:
        print(
            f"    learning needs {own['learning_gflop']:.3g} GFLOP, which at the "
            f"{own['matrix_gflop_per_s']:.0f} GFLOP/s of its matrix "
            f"products would take 1/{own['learning_over_bound']:.2f} of the time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("SETTING", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        print(json.dumps(measure_one(*arguments.one, arguments.rounds)))
        return
    results = {name: measure(name, arguments.rounds if name == "proof" else 1) for name in arguments.settings}
    if arguments.write:
        print(record.write_result("throughput-ppo-trxl", results))


if __name__ == "__main__":
    main()
