"""The losses of Proximal Policy Optimisation (Schulman et al. 2017), per row; every row counts, so leave out what is no transition."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_coef: float) -> Tensor:
    """max(−A r, −A clip(r, 1 − c, 1 + c)) with r = exp(log_ratio): what the policy minimises.

    Args:
        log_ratio: log π(a|s) − log μ(a|s), any shape.
        advantages: broadcasts against it; constants.
        clip_coef: c > 0.
    """
    ratio = log_ratio.exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip_coef, 1.0 + clip_coef))


def clipped_value_loss(values: Tensor, returns: Tensor, old_values: Tensor, clip_coef: float | None) -> Tensor:
    """½ max((V − G)², (V_old + clip(V − V_old, ±c) − G)²), or ½ (V − G)² where clip_coef is None; all of one shape."""
    error = (values - returns).square()
    if clip_coef is not None:
        near = old_values + (values - old_values).clamp(-clip_coef, clip_coef)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """r − 1 − log r with r = exp(log_ratio): its mean over actions of μ estimates KL(μ ‖ π), and no row of it is negative.

    Reference: Schulman 2020, "Approximating KL Divergence".
    """
    return torch.expm1(log_ratio) - log_ratio
