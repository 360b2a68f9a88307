"""A linear layer that multiplies at the processor's full rate.

torch hands float32 matrix products on a CPU to MKL, which keeps to AVX2 on processors of other makers;
oneDNN, which torch ships too, uses what the processor has. On one with AVX-512 that is not Intel's it is much
faster; on one with AVX2 alone MKL is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastrl.autograd import once_differentiable, transformed

ONEDNN_PAYS_FROM = 4_000_000  # operations of a product; below, its greater fixed cost is not won back

_pays = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _pays else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias by the faster library, without gradient.

    x [B, I] and weight [O, I] are float32 matrices of any strides.
    """
    if _onednn is not None and 2 * x.shape[0] * x.shape[1] * weight.shape[0] >= ONEDNN_PAYS_FROM:
        if not (weight.is_contiguous() or weight.t().is_contiguous()):
            weight = weight.contiguous()  # a part of a wider matrix would take a thousand times as long
        return _onednn(x, weight, bias, "none", [], "")
    return nn.functional.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    """`product` with its gradient, which is two more products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if wants_x else None,
            product(gradient.t(), x.t()) if wants_weight else None,
            gradient.sum(0) if wants_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias with its gradient, by the faster library; else `torch.nn.functional.linear`."""
    if _onednn is None or not _fits(x, weight):
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return product(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear`, faster where float32 matrices are multiplied on a CPU.

    The same parameters, and the same numbers up to rounding.

    Elsewhere (other devices and dtypes, more than two dimensions, small products, compiled programs) it is
    `torch.nn.Linear`.
    Differentiable once: a gradient of a gradient raises an error.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input [B, in_features] to [B, out_features]."""
        return linear(input, self.weight, self.bias)


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dim() == 2
        and 2 * x.shape[0] * weight.numel() >= ONEDNN_PAYS_FROM
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
    )
