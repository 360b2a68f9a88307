"""The exponential linear unit, fast."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastrl.ops._activations import activation

_elu = activation(
    "elu", lambda gradient, y: torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, y), functional.elu
)


def elu(x: Tensor) -> Tensor:
    """Exponential linear unit with α = 1, several times as fast as torch's on a CPU.

    y = x where x > 0, eˣ − 1 elsewhere

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16 (half precision is computed in
            float32).

    Returns: y of x's shape and dtype, contiguous. In float32 the relative error is below 1.2e-7 everywhere,
        near 0 too; in float64 exact.
    Raises: TypeError naming x.
    Gradient: in x, (1 where y > 0, y + 1 elsewhere) times the incoming one, any number of times. Derivatives
        that go forward, and those of `torch.func`: by torch's elu.
    Edges: ∞ stays, −∞ gives −1, NaN stays, ±0 keeps its sign. Bit-equal from run to run and for every number
        of threads, save the gradient at a NaN, which is NaN or the incoming one, as with torch's elu.
    """
    return _elu(x)


def elu_reference(x: Tensor) -> Tensor:
    """What `elu` computes, in float64: the oracle of the tests."""
    return functional.elu(x.double()).to(x.dtype)
