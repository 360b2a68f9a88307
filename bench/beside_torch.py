"""Two ways to the same tensor, the library's and torch's, timed in turns, so that a busy machine slows both
alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROUND_SECONDS = 2e-3


def in_turns(
    ours: Callable[[], Tensor], theirs: Callable[[], Tensor], rounds: int, *, atol: float
) -> dict[str, float]:
    """Medians over the rounds of both, in microseconds a call, and of their ratio within a round; both must
    give the same within `atol`."""
    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=atol)
    calls = max(1, int(ROUND_SECONDS / seconds(theirs, 10)))
    taken = [(seconds(ours, calls), seconds(theirs, calls)) for _ in range(rounds)]
    mine, other = zip(*taken, strict=True)
    return {
        "fastrl_us": statistics.median(mine) * 1e6,
        "torch_us": statistics.median(other) * 1e6,
        "times_fastrl": statistics.median(torch_s / fastrl_s for fastrl_s, torch_s in taken),
    }


def seconds(call: Callable[[], Tensor], calls: int) -> float:
    """Time of one call, over `calls` of them."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls
