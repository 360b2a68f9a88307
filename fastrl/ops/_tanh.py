"""The hyperbolic tangent, fast."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.ops._activations import activation

_tanh = activation("tanh", torch.ops.aten.tanh_backward, torch.tanh)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, several times as fast as torch's on a CPU and a little less exact.

    y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16 (half precision is computed in
            float32).

    Returns: y of x's shape and dtype, contiguous. In float32 within 3.2e-7 of the exact value, and within
        [−1, 1]; in float64 exact.
    Raises: TypeError naming x.
    Gradient: in x, (1 − y²) times the incoming one, any number of times. Derivatives that go forward, and
        those of `torch.func`: by torch's tanh.
    Edges: ±∞ gives ±1, NaN stays, ±0 keeps its sign. Bit-equal from run to run and for every number of
        threads.
    """
    return _tanh(x)


def tanh_reference(x: Tensor) -> Tensor:
    """What `tanh` computes, in float64: the oracle of the tests."""
    return torch.tanh(x.double()).to(x.dtype)
