"""The losses of V-MPO as functions of tensors.

    ψ_i = λ_i exp(A_i/η) / Σ_D~ λ_j exp(A_j/η)                                E-step, `e_step`
    L_η = η ε_η + η log mean_D~ λ_i exp(A_i/η)                                temperature, `temperature_loss`
    L   = −Σ_D~ ψ_i log π(a_i|s_i) + Σ_k sg(α_k) mean KL_k + ½ mean (V − G)²  M-step, `vmpo_loss`
    L_α = Σ_k α_k (ε_k − sg(mean KL_k))                                       multipliers, `Multiplier.loss`

D~ is the share of the rows that has the largest advantages A; G are returns, π_old is the policy that acted.
λ is 1 where it acted on all rows.

Reference: Song et al. 2019, "V-MPO: On-Policy Maximum a Posteriori Policy Optimization for Discrete and
    Continuous Control", section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from fastrl.losses.multiplier import Multiplier
from fastrl.losses.value import half_squared_error


def top_fraction(advantages: Tensor, fraction: float) -> Tensor:
    """Rows of the largest advantages: exactly k = max(1, ⌊fraction · M⌋) of them, ties included.

    Args:
        advantages: [M], valid rows only.
        fraction: share to keep, in (0, 1].

    Returns:
        Indices [k] int64, in no particular order.
    """
    k = max(1, math.floor(fraction * advantages.numel() + 1e-9))  # 1e-9: 0.29 · 100 is 28.999… in binary
    return torch.topk(advantages, k, sorted=False).indices


def e_step_weights(advantages: Tensor, temperature: Tensor, log_importance: Tensor | None = None) -> Tensor:
    """ψ_i = λ_i exp(A_i/η) / Σ_j λ_j exp(A_j/η) over the selected rows, constant to autograd.

    Args:
        advantages: [K].
        temperature: η > 0, a 0-d tensor.
        log_importance: log λ [K] for rows that another policy produced; None is λ = 1.

    Returns:
        Weights [K] that sum to 1.

    Reference: Song et al. 2019, eq. 4.
    """
    scaled = advantages / temperature.detach()
    if log_importance is not None:
        scaled = scaled + log_importance
    return torch.softmax(scaled, dim=0).detach()


def temperature_loss(
    advantages: Tensor, temperature: Tensor, epsilon: float, log_importance: Tensor | None = None
) -> Tensor:
    """L_η = η ε_η + η log (1/K) Σ_i λ_i exp(A_i/η), the dual of the E-step's KL bound.

    The largest advantage is taken out before and put back after the sum, so that neither the loss nor its
    gradient loses digits at small η.

    Args:
        advantages: [K], constants.
        temperature: η > 0, a 0-d tensor with gradient.
        epsilon: ε_η, bound on the KL between the weights and the uniform distribution over the K rows, in
            nats.
        log_importance: as in `e_step_weights`.

    Returns:
        0-d loss, to be minimised over η.

    Reference: Song et al. 2019, eq. 5.
    """
    largest = advantages.max().detach()
    shifted = (advantages.detach() - largest) / temperature
    if log_importance is not None:
        shifted = shifted + log_importance
    return largest + temperature * (epsilon + torch.logsumexp(shifted, dim=0) - math.log(advantages.numel()))


def e_step(
    advantages: Tensor, temperature: Multiplier, topk_fraction: float, log_importance: Tensor | None = None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The weights of all rows and the loss of the temperature; see `e_step_weights` and `temperature_loss`.

    Args:
        advantages: [M], valid rows only.
        temperature: η with its bound ε_η.
        topk_fraction: share of the rows in D~, in (0, 1].
        log_importance: log λ [M]; None is λ = 1.

    Returns:
        (ψ [M], 0 outside D~; L_η, 0-d; metrics `loss/dual`, `vmpo/selected_frac`, and `vmpo/ess`, the
        effective sample size 1/Σψ² over |D~|).
    """
    selected = top_fraction(advantages, topk_fraction)
    best = advantages[selected]
    log_best = None if log_importance is None else log_importance[selected]
    weights = e_step_weights(best, temperature(), log_best)
    loss = temperature_loss(best, temperature(), temperature.bound, log_best)
    metrics = {
        "loss/dual": loss.detach(),
        "vmpo/selected_frac": torch.tensor(selected.numel() / advantages.numel()),
        "vmpo/ess": weights.square().sum().reciprocal() / selected.numel(),
    }
    return torch.zeros_like(advantages).index_put_((selected,), weights), loss, metrics


def weighted_likelihood_loss(log_probs: Tensor, weights: Tensor) -> Tensor:
    """−Σ_i ψ_i log π(a_i|s_i), 0-d.

    Args:
        log_probs: log π(a_i|s_i) [K] in nats.
        weights: ψ [K], constants.
    """
    return -(weights * log_probs).sum()


def vmpo_loss(
    log_probs: Tensor,
    weights: Tensor,
    values: Tensor,
    returns: Tensor,
    kls: Mapping[str, Tensor],
    multipliers: Mapping[str, Multiplier],
    *,
    rows: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The M-step's loss of policy and value function.

    L = −Σ_i ψ_i log π(a_i|s_i) + Σ_k sg(α_k) (1/M) Σ_i KL_k(π_old ‖ π)(s_i) + (1/M) Σ_i ½ (V(s_i) − G_i)²

    It is a sum over rows: of blocks of a batch, each with the batch's `rows`, the losses, metrics and
    gradients add up to those of the batch.

    Args:
        log_probs: log π(a_i|s_i) [m] in nats, with gradient.
        weights: ψ of `e_step` [m], constants.
        values: V [m], with gradient.
        returns: G [m].
        kls: the parts of KL(π_old ‖ π) by name, [m] each, in nats, with gradient.
        multipliers: α_k with its bound ε_k for each part, by the same names.
        rows: M, rows of the batch; None: m, these are all of it.

    Returns:
        (L, 0-d; metrics, 0-d constants: `loss/policy`, `loss/value`, `loss/kl`, and `kl/<name>`, the mean of
        each part in nats).
    """
    rows = returns.shape[0] if rows is None else rows
    policy_loss = weighted_likelihood_loss(log_probs, weights)
    value_loss = half_squared_error(values, returns).sum() / rows
    mean_kls = {name: kl.sum() / rows for name, kl in kls.items()}
    penalty = reduce(torch.add, (multipliers[name].penalty(kl) for name, kl in mean_kls.items()))
    metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "loss/kl": penalty}
    metrics |= {f"kl/{name}": kl for name, kl in mean_kls.items()}
    return policy_loss + value_loss + penalty, {name: value.detach() for name, value in metrics.items()}
