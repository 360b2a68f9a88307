"""Losses and diagnostics of value functions, and advantages on a common scale."""

from __future__ import annotations

from torch import Tensor


def half_squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """½ (V − G)² per row; values and targets share one shape. Targets are constants."""
    if values.shape != targets.shape:
        raise ValueError(
            f"half_squared_error: values and targets must have one shape, got {list(values.shape)} and "
            f"{list(targets.shape)}"
        )
    return 0.5 * (values - targets.detach()).square()


def explained_variance(targets: Tensor, residual_variance: Tensor) -> Tensor:
    """1 − Var(G − V) / Var(G), with population variances; 0 where all targets are one number."""
    constant = (targets == targets.flatten()[:1]).all()  # their variance is only nearly 0, by rounding
    return (1.0 - residual_variance / targets.var(correction=0)).masked_fill(constant, 0.0)


def standardize(advantages: Tensor) -> Tensor:
    """Advantages [M] with mean 0 and standard deviation 1; a single one as it is."""
    if advantages.numel() < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
