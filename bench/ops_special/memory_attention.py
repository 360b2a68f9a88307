"""What attention over a memory bank takes and needs, beside gathering windows, projecting them and attending
over them in plain torch.

    python bench/ops_special/memory_attention.py [--rounds 5] [--write]

One process, one thread, float32, all ways in turns, so that a busy machine slows all alike; medians over the
rounds. Windows are those of
training: the slots before a random step of a random episode, samples in random order. Four comparisons:
    a learning step     projections, attention, and the gradients of query and projections; the memory itself
    is constant attention alone     forward, and forward with backward, against torch's on windows that have
    been gathered and projected already acting              one query for each environment
    memory              that a call takes at its peak beyond its inputs, its results included
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
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastrl.nn.linear import Linear, product
from fastrl.ops import memory_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

BATCH, HEADS, SIZE, WINDOW, EPISODES, SLOTS = 1024, 4, 96, 119, 16, 512
WIDTH = HEADS * SIZE
Ways = dict[str, Callable[[], Any]]


class Data:
    """Inputs of a call: `batch` samples at random steps of `episodes` episodes."""

    def __init__(self, batch: int, episodes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        normal = lambda *sizes: torch.randn(*sizes, generator=generator)  # noqa: E731
        self.memory = normal(episodes, SLOTS, WIDTH)
        self.query = normal(batch, HEADS, SIZE).requires_grad_()
        self.weights = normal(batch, HEADS, SIZE)
        # a sample for each environment, or many of each episode
        self.episode = (
            torch.arange(batch)
            if batch <= episodes
            else torch.randint(episodes, (batch,), generator=generator)
        )
        step = torch.randint(SLOTS + 1, (batch, 1), generator=generator)
        index = step - WINDOW + torch.arange(WINDOW)
        self.mask = index >= 0
        self.index = index.clamp(min=0)
        self.visible = int(self.mask.sum())

    def bank(self) -> Tensor:
        return torch.randn_like(self.memory).view(-1, SLOTS, HEADS, SIZE).requires_grad_()

    def operations(self, products: int) -> int:
        """Of `products` products of every row with each row that its sample sees."""
        return 2 * products * self.visible * WIDTH


class LearningStep:
    """Output and gradients of query and projections, three ways."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.keys, self.values = (Linear(WIDTH, WIDTH, bias=False) for _ in range(2))

    def gradients(self, out: Tensor) -> tuple[Tensor, ...]:
        return out, *torch.autograd.grad(
            out, (self.data.query, self.keys.weight, self.values.weight), self.data.weights
        )

    def windows(self) -> tuple[Tensor, ...]:
        data = self.data
        windows = data.memory[data.episode[:, None], data.index]  # [B, W, D]
        key, value = (
            (windows @ layer.weight.T).view(-1, WINDOW, HEADS, SIZE).transpose(1, 2)
            for layer in (self.keys, self.values)
        )
        out = scaled_dot_product_attention(
            data.query[:, :, None], key, value, attn_mask=data.mask[:, None, None]
        )
        return self.gradients(out[:, :, 0])

    def bank(self) -> tuple[Tensor, ...]:
        key, value = (self.data.memory @ layer.weight.T for layer in (self.keys, self.values))
        return self.attend(key, value)

    def bank_by_onednn(self) -> tuple[Tensor, ...]:
        slots = self.data.memory.view(-1, WIDTH)
        return self.attend(self.keys(slots), self.values(slots))

    def attend(self, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        data = self.data
        shape = (-1, SLOTS, HEADS, SIZE)
        return self.gradients(
            memory_attention(
                data.query, key.view(shape), value.view(shape), data.episode, data.index, mask=data.mask
            )
        )


class AttentionAlone:
    """Attention on a bank that has been projected, and on windows that have been gathered from it."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.key, self.value = data.bank(), data.bank()
        gather = lambda bank: bank.detach()[data.episode[:, None], data.index].transpose(1, 2).contiguous()  # noqa: E731
        self.key_windows, self.value_windows = (
            gather(self.key).requires_grad_(),
            gather(self.value).requires_grad_(),
        )

    def ours(self) -> Tensor:
        data = self.data
        return memory_attention(data.query, self.key, self.value, data.episode, data.index, mask=data.mask)

    def theirs(self) -> Tensor:
        data = self.data
        key, value = self.key_windows, self.value_windows
        return scaled_dot_product_attention(
            data.query[:, :, None], key, value, attn_mask=data.mask[:, None, None]
        )[:, :, 0]

    def ours_and_back(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.ours(), (self.data.query, self.key, self.value), self.data.weights)

    def theirs_and_back(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            self.theirs(), (self.data.query, self.key_windows, self.value_windows), self.data.weights
        )


def in_turns(ways: Ways, rounds: int) -> dict[str, float]:
    """Median seconds of each way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def peak_bytes(call: Callable[[], Any]) -> int:
    """Memory that a call holds at its peak, by torch's own count of what it takes and gives back."""
    call()
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profile:
        call()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def without_gradient(call: Callable[[], Any]) -> Callable[[], Any]:
    return torch.no_grad()(call)


def learning_step(data: Data, rounds: int) -> dict[str, Any]:
    step = LearningStep(data)
    for ours, theirs in zip(step.bank(), step.windows(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)
    ways = {
        "windows, torch": step.windows,
        "bank, fastrl": step.bank,
        "bank, fastrl, products by oneDNN": step.bank_by_onednn,
    }
    seconds = in_turns(ways, rounds)
    return {
        "seconds": seconds,
        "times_fastrl": {name: seconds["windows, torch"] / seconds[name] for name in ways},
        "peak_bytes": {name: peak_bytes(call) for name, call in ways.items()},
    }


def attention_alone(data: Data, rounds: int) -> dict[str, Any]:
    alone = AttentionAlone(data)
    torch.testing.assert_close(
        alone.ours()[data.mask.any(1)], alone.theirs()[data.mask.any(1)], rtol=1e-4, atol=1e-5
    )
    forward: Ways = {"fastrl": without_gradient(alone.ours), "torch": without_gradient(alone.theirs)}
    both: Ways = {"fastrl": alone.ours_and_back, "torch": alone.theirs_and_back}
    taken = {"forward": in_turns(forward, rounds), "forward and backward": in_turns(both, rounds)}
    products = {"forward": 2, "forward and backward": 2 + 3 + 4}
    result = data.query.numel() * 4
    return {
        "seconds": taken,
        "times_fastrl": {name: seconds["torch"] / seconds["fastrl"] for name, seconds in taken.items()},
        "fastrl_gflop_per_s": {
            name: data.operations(products[name]) / seconds["fastrl"] / 1e9 for name, seconds in taken.items()
        },
        "peak_bytes": {"fastrl": peak_bytes(forward["fastrl"]), "torch": peak_bytes(forward["torch"])},
        "backward_peak_bytes": {
            "fastrl": peak_bytes(alone.ours_and_back),
            "torch": peak_bytes(alone.theirs_and_back),
        },
        "result_bytes": result,
    }


def acting(environments: int, rounds: int) -> dict[str, Any]:
    data = Data(environments, environments)
    alone = AttentionAlone(data)

    def gather_and_attend() -> Tensor:
        where = (data.episode[:, None], data.index)
        key, value = alone.key[where].transpose(1, 2), alone.value[where].transpose(1, 2)
        return scaled_dot_product_attention(
            data.query[:, :, None], key, value, attn_mask=data.mask[:, None, None]
        )

    ways = {
        name: without_gradient(call)
        for name, call in {"fastrl": alone.ours, "torch, gathering": gather_and_attend}.items()
    }
    seconds = in_turns(ways, rounds)
    return {
        "environments": environments,
        "seconds": seconds,
        "times_fastrl": seconds["torch, gathering"] / seconds["fastrl"],
        "fastrl_gflop_per_s": data.operations(2) / seconds["fastrl"] / 1e9,
        "fastrl_gb_per_s": 2 * data.visible * WIDTH * 4 / seconds["fastrl"] / 1e9,
    }


def rates(rounds: int) -> dict[str, float]:
    """What this machine does at most: matrix products of a bank's size, and a copy."""
    x, w = torch.randn(EPISODES * SLOTS, WIDTH), torch.randn(WIDTH, WIDTH)
    source = torch.ones(36 << 18)
    target = torch.empty_like(source)
    seconds = in_turns(
        {"torch": lambda: x @ w.T, "oneDNN": lambda: product(x, w), "copy": lambda: target.copy_(source)},
        rounds,
    )
    operations = 2 * x.numel() * WIDTH
    return {
        "matmul_torch_gflop_per_s": operations / seconds["torch"] / 1e9,
        "matmul_onednn_gflop_per_s": operations / seconds["oneDNN"] / 1e9,
        "copy_gb_per_s": 2 * source.numel() * 4 / seconds["copy"] / 1e9,
    }


def show(results: dict[str, Any]) -> None:
    print(
        "machine: "
        + ", ".join(f"{name.replace('_', ' ')} {rate:.0f}" for name, rate in results["rates"].items())
    )
    step = results["learning_step"]
    print(
        f"a learning step at B={BATCH} H={HEADS} K={SIZE} W={WINDOW} E={EPISODES} S={SLOTS}, projections "
        "and their gradients included"
    )
    for name, seconds in step["seconds"].items():
        faster, peak = step["times_fastrl"][name], step["peak_bytes"][name]
        print(f"  {name:<34}{seconds * 1e3:>9.1f} ms {faster:>6.1f} times as fast   {peak / 1e6:>8.1f} MB")
    alone = results["attention_alone"]
    print("attention alone, theirs on windows gathered and projected before")
    for name, seconds in alone["seconds"].items():
        rate = alone["fastrl_gflop_per_s"][name]
        peaks = alone["peak_bytes" if name == "forward" else "backward_peak_bytes"]
        print(
            f"  {name:<24} fastrl {seconds['fastrl'] * 1e3:>7.2f} ms ({rate:.0f} GFLOP/s, "
            f"{peaks['fastrl'] / 1e6:.1f} MB)"
            f"   torch {seconds['torch'] * 1e3:>7.2f} ms ({peaks['torch'] / 1e6:.1f} MB)   "
            f"{alone['times_fastrl'][name]:.1f} times"
        )
    print(f"  the result alone has {alone['result_bytes'] / 1e6:.1f} MB")
    for row in results["acting"]:
        print(
            f"acting, {row['environments']} environments: fastrl {row['seconds']['fastrl'] * 1e6:.0f} µs"
            f" ({row['fastrl_gflop_per_s']:.0f} GFLOP/s, {row['fastrl_gb_per_s']:.0f} GB/s),"
            f" torch {row['seconds']['torch, gathering'] * 1e6:.0f} µs, {row['times_fastrl']:.1f} times"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rounds", type=int, default=5, help="of the slowest comparison; the others take more"
    )
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Data(BATCH, EPISODES)
    results: dict[str, Any] = {
        "sizes": {"B": BATCH, "H": HEADS, "K": SIZE, "W": WINDOW, "E": EPISODES, "S": SLOTS},
        "threads": 1,
        "visible_slots_a_sample": data.visible / BATCH,
        "rates": rates(4 * options.rounds),
        "learning_step": learning_step(data, options.rounds),
        "attention_alone": attention_alone(data, 4 * options.rounds),
        "acting": [acting(environments, 40 * options.rounds) for environments in (16, 32, 64)],
    }
    show(results)
    if options.write:
        print("written to", record.write_result("memory-attention", results))


if __name__ == "__main__":
    main()
