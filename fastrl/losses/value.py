"""Losses and diagnostics of value functions, and advantages on a common scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def half_squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """½ (V − G)² per row; values and targets share one shape. Targets are constants."""
    if values.shape != targets.shape:
        raise ValueError(
            f"half_squared_error: values and targets must have one shape, got {list(values.shape)} and "
            f"{list(targets.shape)}"
        )
    return 0.5 * (values - targets.detach()).square()


def critic_loss(q_values: Sequence[Tensor], targets: Tensor, row_weights: Tensor | None = None) -> Tensor:
    """Σ_i Σ_B b ½ (Q_i(s, a) − G)², 0-d: of one critic, or the sum over twins.

    Args:
        q_values: Q_i [B] of each critic, with gradient.
        targets: G [B], constants.
        row_weights: b [B], what each row counts, summing to 1; None: all alike.
    """
    errors = [half_squared_error(q, targets) for q in q_values]
    means = [error.mean() if row_weights is None else (row_weights * error).sum() for error in errors]
    return torch.stack(means).sum()


def explained_variance(targets: Tensor, residual_variance: Tensor) -> Tensor:
    """1 − Var(G − V) / Var(G), with population variances; 0 where all targets are one number."""
    constant = (targets == targets.flatten()[:1]).all()  # their variance is only nearly 0, by rounding
    return (1.0 - residual_variance / targets.var(correction=0)).masked_fill(constant, 0.0)


def standardize(advantages: Tensor) -> Tensor:
    """Advantages [M] with mean 0 and standard deviation 1; a single one as it is."""
    if advantages.numel() < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
