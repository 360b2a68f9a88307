"""The losses of Proximal Policy Optimisation (Schulman et al. 2017), per row; every row counts, so leave out
what is no transition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.autograd import once_differentiable, transformed


class _ClippedSurrogate(torch.autograd.Function):
    """The loss with its gradient in closed form: one node of the graph where there would be eight."""

    @staticmethod
    def forward(ctx: Any, log_ratio: Tensor, advantages: Tensor, clip_coef: float) -> Tensor:
        free, loss, is_clipped = _surrogates(log_ratio, advantages, clip_coef)
        # d free / d log r is free itself; a ratio that was clipped has no gradient
        ctx.save_for_backward(free.masked_fill(is_clipped, 0.0))
        ctx.shape = log_ratio.shape
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradient * slope).sum_to_size(ctx.shape), None, None


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_coef: float) -> Tensor:
    """max(−A r, −A clip(r, 1 − c, 1 + c)) with r = exp(log_ratio): what the policy minimises.

    Differentiable once, in log_ratio.

    Args:
        log_ratio: log π(a|s) − log μ(a|s), any shape.
        advantages: broadcasts against it; constants.
        clip_coef: c > 0.
    """
    if transformed():
        return _surrogates(log_ratio, advantages, clip_coef)[1]
    return _ClippedSurrogate.apply(log_ratio, advantages, clip_coef)


def _surrogates(log_ratio: Tensor, advantages: Tensor, clip_coef: float) -> tuple[Tensor, Tensor, Tensor]:
    """(−A r, the loss, where the clipped one is the larger)."""
    ratio = log_ratio.exp()
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1.0 - clip_coef, 1.0 + clip_coef)
    return free, torch.maximum(free, clipped), free < clipped


def clipped_value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor, clip_coef: float | None
) -> Tensor:
    """½ max((V − G)², (V_old + clip(V − V_old, ±c) − G)²), or ½ (V − G)² where clip_coef is None; all of one
    shape."""
    error = (values - returns).square()
    if clip_coef is not None:
        near = old_values + (values - old_values).clamp(-clip_coef, clip_coef)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """r − 1 − log r with r = exp(log_ratio): its mean over actions of μ estimates KL(μ ‖ π), and no row of it
    is negative.

    Reference: Schulman 2020, "Approximating KL Divergence".
    """
    return torch.expm1(log_ratio) - log_ratio
