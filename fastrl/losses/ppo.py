"""Proximal Policy Optimisation (Schulman et al. 2017): the whole loss, and its parts per row.

Every row counts, so leave out what is no transition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.autograd import once_differentiable, transformed
from fastrl.losses.policy_gradient import total_loss


def ppo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    values: Tensor | None,
    returns: Tensor | None,
    entropy: Tensor | None,
    *,
    clip_coef: float,
    vf_coef: float,
    ent_coef: float,
    old_values: Tensor | None = None,
    diagnostics: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a minibatch.

    L = mean max(−A r, −A clip(r, 1 − c, 1 + c)) + c_v ½ mean (V − G)² − c_e mean H,  r = π(a|s) / π_old(a|s)

    With old_values the squared error is max((V − G)², (V_old + clip(V − V_old, ±c) − G)²).

    Args:
        log_probs: log π(a|s) [M] in nats, or [M, branches] where each branch has a ratio of its own; with
            gradient.
        old_log_probs: the same of the policy that acted; constants.
        advantages: A [M], normalised or not; constants.
        values: V(s) [M], with gradient; None leaves the value loss out.
        returns: G [M], constants; None where values is.
        entropy: H of the policy in nats [M]; None where ent_coef is 0 and nobody wants to know it.
        clip_coef: c > 0.
        vf_coef, ent_coef: c_v and c_e, ≥ 0.
        old_values: V of the rollout [M], constants; None does not clip the value's change.
        diagnostics: also work out what does not enter the loss: train/approx_kl and train/clip_fraction.

    Returns:
        (L, 0-d; `loss/total`, `loss/policy`, `loss/value`, `train/entropy`, `train/approx_kl` in nats and
        `train/clip_fraction`, each 0-d and detached, as far as there is such a thing).

    Raises:
        ValueError: shapes do not fit.

    Reference: Schulman et al. 2017, eq. 7 and 9; Huang et al. 2022, "CleanRL".
    """
    if log_probs.shape != old_log_probs.shape or log_probs.shape[:1] != advantages.shape:
        raise ValueError(
            f"ppo_loss: log_probs {list(log_probs.shape)} and old_log_probs {list(old_log_probs.shape)} must "
            f"have the rows of advantages {list(advantages.shape)}"
        )
    log_ratio = log_probs - old_log_probs
    per_row = advantages if log_ratio.dim() == 1 else advantages.unsqueeze(-1)
    policy_loss = clipped_surrogate(log_ratio, per_row, clip_coef).mean()
    value_loss = None
    if values is not None:
        assert returns is not None
        value_loss = clipped_value_loss(values, returns, old_values, clip_coef).mean()
    loss, metrics = total_loss(policy_loss, value_loss, entropy, vf_coef=vf_coef, ent_coef=ent_coef)
    if diagnostics:
        metrics |= ratio_metrics(log_ratio, clip_coef)
    return loss, metrics


@torch.no_grad()
def ratio_metrics(log_ratio: Tensor, clip_coef: float) -> dict[str, Tensor]:
    """How far π has moved from the policy that acted: `train/approx_kl` and `train/clip_fraction`.

    The first is mean (r − 1 − log r) in nats, the second the share of ratios outside 1 ± clip_coef.
    """
    less_one = torch.expm1(log_ratio.detach())
    return {
        "train/approx_kl": (less_one - log_ratio).mean(),
        "train/clip_fraction": (less_one.abs() > clip_coef).float().mean(),
    }


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
    values: Tensor, returns: Tensor, old_values: Tensor | None, clip_coef: float | None
) -> Tensor:
    """½ max((V − G)², (V_old + clip(V − V_old, ±c) − G)²), all [M].

    ½ (V − G)² where old_values or clip_coef is None.

    Raises:
        ValueError: values and returns differ in shape.
    """
    if values.shape != returns.shape:
        raise ValueError(
            f"clipped_value_loss: values and returns must have one shape, got {list(values.shape)} and "
            f"{list(returns.shape)}"
        )
    error = (values - returns).square()
    if clip_coef is not None and old_values is not None:
        near = old_values + (values - old_values).clamp(-clip_coef, clip_coef)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """r − 1 − log r with r = exp(log_ratio); its mean over actions of μ estimates KL(μ ‖ π).

    No row of it is negative.

    Reference: Schulman 2020, "Approximating KL Divergence".
    """
    return torch.expm1(log_ratio) - log_ratio
