"""What gathering memory windows costs beside the published way, `torch.index_select` and a plain copy: time,
and memory beyond the result.

    python bench/ops_special/memory_window_gather.py [--rounds 15] [--write]

One process, one thread, float32, all ways in turns, so that a busy machine slows all alike; medians over the
rounds. The published way gathers whole episodes, `memory[episode]`, and takes the windows out of them. The
bound is a copy of as many bytes as the windows have. Ways that end in "fresh" return new memory, whose page
faults they pay for; the others write into memory that is there. Windows are runs of slots, as a trainer reads
them, or slots drawn anywhere ("scattered").
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

from fastrl.ops import memory_window_gather

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

LARGE = (32, 1024, 3, 384, 512, 119)  # episodes, slots, layers, features, samples, window
SMALL = (64, 16, 4, 64, 64, 16)
ROUND_SECONDS = 1e-3
COPY = "copy"
PUBLISHED = "published way, fresh"
SLOW_ROUNDS = 3  # of ways that take seconds

Way = Callable[[], Any]


class Windows:
    """The inputs of one call and memory for its result."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        episodes, slots, layers, dim, batch, window = sizes
        generator = torch.Generator().manual_seed(0)
        self.memory = torch.randn(episodes, slots, layers, dim, generator=generator)
        self.position = torch.randn(slots, dim, generator=generator)
        self.episode = torch.randint(0, episodes, (batch,), generator=generator)
        start = torch.randint(0, slots - window + 1, (batch, 1), generator=generator)
        self.index = start + torch.arange(window)
        self.scattered = torch.randint(0, slots, (batch, window), generator=generator)
        self.mask = torch.arange(window) < torch.randint(
            1, 2 * window, (batch, 1), generator=generator
        )  # a quarter is masked
        self.out = torch.zeros(batch, window, layers, dim)
        self.gradient = torch.randn(batch, window, layers, dim, generator=generator)
        self.source = torch.ones_like(self.out)

    def flat(self, index: Tensor) -> Tensor:
        """Windows as rows of the flattened bank, [B W]."""
        return (self.episode[:, None] * self.memory.shape[1] + index).flatten()

    def published(self) -> Tensor:
        layers, dim = self.memory.shape[2:]
        return self.memory[self.episode].gather(1, self.index[:, :, None, None].expand(-1, -1, layers, dim))

    def by_index_select(self, index: Tensor) -> Tensor:
        layers, dim = self.memory.shape[2:]
        rows = self.memory.view(-1, layers * dim)
        torch.index_select(rows, 0, self.flat(index), out=self.out.view(-1, layers * dim))
        return self.out

    def by_torch_with_all(self) -> Tensor:
        out = self.by_index_select(self.index)
        out += self.position[self.index][:, :, None, :]
        out *= self.mask[:, :, None, None]
        return out

    def gradient_of(self, gather: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        memory, position = self.memory.detach().requires_grad_(), self.position.detach().requires_grad_()
        return torch.autograd.grad(gather(memory, position), (memory, position), self.gradient)

    def torch_gather(self, memory: Tensor, position: Tensor) -> Tensor:
        windows = memory.flatten(0, 1).index_select(0, self.flat(self.index)).view_as(self.out)
        return windows + position.index_select(0, self.index.flatten()).view(*self.index.shape, 1, -1)

    def fastrl_gather(self, memory: Tensor, position: Tensor) -> Tensor:
        return memory_window_gather(memory, self.episode, self.index, position=position)

    def ways(self) -> dict[str, Way]:
        """Every way by name; the first is the bound."""
        given = (self.memory, self.episode, self.index)
        mask, position, out = self.mask, self.position, self.out
        return {
            COPY: lambda: out.copy_(self.source),
            "copy, fresh": self.source.clone,
            PUBLISHED: self.published,
            "torch.index_select": lambda: self.by_index_select(self.index),
            "torch.index_select, scattered": lambda: self.by_index_select(self.scattered),
            "torch with mask and position": self.by_torch_with_all,
            "fastrl": lambda: memory_window_gather(*given, out=out),
            "fastrl, scattered": lambda: memory_window_gather(*given[:2], self.scattered, out=out),
            "fastrl with mask": lambda: memory_window_gather(*given, mask=mask, out=out),
            "fastrl with position": lambda: memory_window_gather(*given, position=position, out=out),
            "fastrl with mask and position": lambda: memory_window_gather(
                *given, mask=mask, position=position, out=out
            ),
            "fastrl, fresh": lambda: memory_window_gather(*given),
            "fastrl with mask and position, fresh": lambda: memory_window_gather(
                *given, mask=mask, position=position
            ),
            "torch, forward and gradient": lambda: self.gradient_of(self.torch_gather),
            "fastrl, forward and gradient": lambda: self.gradient_of(self.fastrl_gather),
        }

    def check(self) -> None:
        """All ways give the same numbers."""
        expected = self.published()
        given = (self.memory, self.episode, self.index)
        assert torch.equal(memory_window_gather(*given), expected)
        assert torch.equal(self.by_index_select(self.index), expected)
        torch.testing.assert_close(
            memory_window_gather(*given, mask=self.mask, position=self.position), self.by_torch_with_all()
        )
        for one, other in zip(
            self.gradient_of(self.torch_gather), self.gradient_of(self.fastrl_gather), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def seconds(call: Way, calls: int = 1) -> float:
    """Time of one call, over `calls` of them; what a call returns is freed within."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def extra_bytes(call: Way) -> int | None:
    """How much the process grew at most during a call, its result included; None where the system does not
    say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts again from here
        before = resident("VmRSS")
        result = call()
        grown = resident("VmHWM") - before
        del result
        return max(0, grown)
    except OSError:
        return None


def resident(name: str) -> int:
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":")
    )
    return int(line.split()[1]) << 10


def compare(sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """For every way: the median time, its ratio to the copy within a round, and the bytes beyond those that
    were there."""
    windows = Windows(sizes)
    windows.check()
    ways = windows.ways()
    once = {name: seconds(way) for name, way in ways.items()}
    calls = {name: max(1, int(ROUND_SECONDS / max(took, 1e-7))) for name, took in once.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            if once[name] < 0.3 or turn < SLOW_ROUNDS:
                taken[name].append(seconds(way, calls[name]))
    moved = 2 * windows.out.numel() * 4
    median = {name: statistics.median(times) for name, times in taken.items()}
    return [
        {
            "sizes": list(sizes),
            "way": name,
            "microseconds": median[name] * 1e6,
            "times_copy": statistics.median(
                own / copy for own, copy in zip(taken[name], taken[COPY], strict=False)
            ),
            "times_faster_than_published": median[PUBLISHED] / median[name],
            "gb_per_s": moved / median[name] / 1e9,
            "extra_bytes": extra_bytes(way),
        }
        for name, way in ways.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for sizes in (LARGE, SMALL):
        print(f"E={sizes[0]} S={sizes[1]} L={sizes[2]} D={sizes[3]} B={sizes[4]} W={sizes[5]}")
        print(f"{'':<38}{'µs':>12}{'× copy':>9}{'published / this':>18}{'GB/s':>7}{'extra MB':>10}")
        for row in compare(sizes, options.rounds):
            results.append(row)
            extra = "-" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.1f}"
            figures = f"{row['microseconds']:>12.1f}{row['times_copy']:>9.2f}"
            figures += f"{row['times_faster_than_published']:>18.1f}"
            print(f"{row['way']:<38}{figures}{row['gb_per_s']:>7.1f}{extra:>10}", flush=True)
    if options.write:
        print("written to", record.write_result("memory-window-gather", {"threads": 1, "rows": results}))


if __name__ == "__main__":
    main()
