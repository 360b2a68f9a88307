"""The exponential linear unit, fast."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_elu = torch.ops.fastrl.elu.default


def elu(x: Tensor) -> Tensor:
    """Exponential linear unit with α = 1, several times as fast as torch's on a CPU.

    y = x where x > 0, eˣ − 1 elsewhere

    Args:
        x: any shape and strides; float32, float64, bfloat16 or float16 (half precision is computed in float32).

    Returns: y of x's shape and dtype, contiguous. In float32 the relative error is below 1.2e-7 everywhere, near 0 too; in float64 exact.
    Raises: TypeError naming x.
    Gradient: in x, (1 where y > 0, y + 1 elsewhere) times the incoming one, any number of times.
    Edges: ∞ stays, −∞ gives −1, NaN stays, ±0 keeps its sign. Bit-equal from run to run and for every number of threads, save the
        gradient at a NaN, which is NaN or the incoming one, as with torch's elu.
    """
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.dtype not in _checks.FLOATING:
        _check(x)
    return _elu(x.contiguous())


def elu_reference(x: Tensor) -> Tensor:
    """What `elu` computes, in float64: the oracle of the tests."""
    return functional.elu(x.double()).to(x.dtype)


def _check(x: Tensor) -> None:
    _checks.check_tensors("elu", {"x": x})
    _checks.check_floating("elu", "x", x)


@torch.library.register_fake("fastrl::elu")
def _elu_fake(x: Tensor) -> Tensor:
    _check(x)
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _backward(ctx: Any, gradient: Tensor) -> Tensor:
    (y,) = ctx.saved_tensors
    return torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, y)


torch.library.register_autograd("fastrl::elu", _backward, setup_context=_save)
