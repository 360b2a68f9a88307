"""Ways to run a reverse recurrence x_t = offset_t + factor_t x_{t+1} in plain torch, for the ops that are
one.

`loop` is what everybody writes; `doubling` composes each step with the one 1, 2, 4, ... steps later, log2 T
passes over the whole tensor: the vectorised form, worth compiling. Each op gives its offsets and factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]
Terms = Callable[..., tuple[Tensor, Tensor]]  # of the op's inputs: factors and offsets [T, N]
Finish = Callable[..., Tensor]  # of x [T, N] and the op's inputs: the op's first result


def loop(factors: Tensor, offsets: Tensor) -> Tensor:
    x = torch.empty_like(offsets)
    following = torch.zeros_like(offsets[0])
    for t in reversed(range(offsets.shape[0])):
        following = offsets[t] + factors[t] * following
        x[t] = following
    return x


def doubling(factors: Tensor, offsets: Tensor) -> Tensor:
    distance, steps = 1, offsets.shape[0]
    while distance < steps:
        pad = (0, 0, 0, distance)
        later_offsets = torch.nn.functional.pad(offsets[distance:], pad)
        later_factors = torch.nn.functional.pad(factors[distance:], pad)
        offsets, factors = offsets + factors * later_offsets, factors * later_factors
        distance *= 2
    return offsets


def peers(terms: Terms, finish: Finish) -> dict[str, Callable[[dict[str, Any]], Call]]:
    """The torch ways to an op, ready to be timed: each takes the inputs of a case and gives a call."""

    def eager(way: Callable[[Tensor, Tensor], Tensor]) -> Callable[[dict[str, Any]], Call]:
        return lambda inputs: lambda: finish(way(*terms(**inputs)), **inputs)

    def compiled(inputs: dict[str, Any]) -> Call:
        # numbers are closed over: torch.compile then takes them for constants
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        rest = {name: value for name, value in inputs.items() if not isinstance(value, Tensor)}

        def program(given: dict[str, Tensor]) -> Tensor:
            return finish(doubling(*terms(**given, **rest)), **given, **rest)

        torch.compiler.reset()
        run = torch.compile(program, fullgraph=True, dynamic=False)
        return lambda: run(tensors)

    return {"torch loop": eager(loop), "torch, vectorised": eager(doubling), COMPILED: compiled}


COMPILED = "torch.compile, vectorised"
GPU_PEERS: Iterable[str] = ("torch, vectorised", COMPILED)


def going_on(inputs: dict[str, Any]) -> Tensor:
    """1 where neither flag is set, [T, N]."""
    return (~(inputs["terminated"] | inputs["truncated"])).float()


def bootstrapped(inputs: dict[str, Any], next_values: Tensor) -> Tensor:
    return inputs["rewards"] + inputs["gamma"] * (~inputs["terminated"]).float() * next_values
