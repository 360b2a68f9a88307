"""The hyperbolic tangent, fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_tanh = torch.ops.fastrl.tanh.default


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, several times as fast as torch's on a CPU and a little less exact.

    y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16 (half precision is computed in float32).

    Returns: y of x's shape and dtype, contiguous. In float32 within 3.2e-7 of the exact value, and within [−1, 1]; in float64 exact.
    Raises: TypeError naming x.
    Gradient: in x, (1 − y²) times the incoming one, any number of times.
    Edges: ±∞ gives ±1, NaN stays, ±0 keeps its sign. Bit-equal from run to run and for every number of threads.
    """
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.dtype not in _checks.FLOATING:
        _check(x)
    return _tanh(x.contiguous())


def tanh_reference(x: Tensor) -> Tensor:
    """What `tanh` computes, in float64: the oracle of the tests."""
    return torch.tanh(x.double()).to(x.dtype)


def _check(x: Tensor) -> None:
    _checks.check_tensors("tanh", {"x": x})
    _checks.check_floating("tanh", "x", x)


@torch.library.register_fake("fastrl::tanh")
def _tanh_fake(x: Tensor) -> Tensor:
    _check(x)
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    (y,) = ctx.saved_tensors
    return torch.ops.aten.tanh_backward(gradient, y)


torch.library.register_autograd("fastrl::tanh", _backward, setup_context=_save)
