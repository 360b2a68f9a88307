"""The gradient of V-MPO's loss over a whole batch, taken in row blocks whose activations stay in cache; the
sums are the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastrl.losses.value import half_squared_error
from fastrl.runs.optimizers import backward
from fastrl.trainers.vmpo.batch import Rows
from fastrl.trainers.vmpo.policy import ActorCritic

ROWS_PER_BLOCK = 512


def accumulate_gradients(
    policy: ActorCritic, rows: Rows, psi: Tensor, multipliers: Sequence[Tensor]
) -> list[Tensor]:
    """Add the gradient of the policy, KL and value losses of an M-step to the policy's parameters.

    L = −Σ_i ψ_i log π(a_i|s_i) + Σ_k α_k mean KL_k(π_old ‖ π) + ½ mean (V − G)²

    Args:
        policy: π and V.
        rows: M transitions.
        psi: ψ [M], 0 outside D~.
        multipliers: α_k as constants, one per part of the KL.

    Returns:
        0-d constants: policy loss, value loss, mean V − G, mean entropy, then the mean of each part of the
        KL.
    """
    if rows.unmoved and not policy.shared_encoder:
        return _where_the_kl_is_zero(policy, rows, psi, len(multipliers))
    count = len(rows)
    sums: list[Tensor] = []
    for block, weights in zip(rows.split(ROWS_PER_BLOCK), psi.split(ROWS_PER_BLOCK), strict=True):
        distribution, values = policy.evaluate(block.obs)
        policy_loss = -(weights * distribution.log_prob(block.actions)).sum()
        value_loss = half_squared_error(values, block.returns).sum() / count
        kls = [kl.sum() / count for kl in block.acted.kl_parts(distribution)]  # type: ignore[arg-type]
        loss = policy_loss + value_loss
        for multiplier, kl in zip(multipliers, kls, strict=True):
            loss = loss + multiplier * kl
        backward(loss)
        with torch.no_grad():
            bias = (values - block.returns).sum() / count
            sums.append(
                torch.stack(
                    [policy_loss, value_loss, bias, distribution.entropy().sum() / count, *kls]
                ).detach()
            )
    return list(torch.stack(sums).sum(0))


def _where_the_kl_is_zero(policy: ActorCritic, rows: Rows, psi: Tensor, kl_parts: int) -> list[Tensor]:
    """The same where π = π_old: the KL and its gradient are exactly 0, so the policy has to be evaluated on
    D~ only."""
    selected = psi.nonzero().squeeze(-1)
    policy_loss, value_loss, bias = torch.zeros(3, device=psi.device)
    for block, weights in zip(
        rows.at(selected).split(ROWS_PER_BLOCK), psi[selected].split(ROWS_PER_BLOCK), strict=True
    ):
        loss = -(weights * policy.distribution(block.obs).log_prob(block.actions)).sum()
        backward(loss)
        policy_loss += loss.detach()
    for block in rows.split(ROWS_PER_BLOCK):
        values = policy.get_value(block.obs).squeeze(-1)
        loss = half_squared_error(values, block.returns).sum() / len(rows)
        backward(loss)
        value_loss += loss.detach()
        bias += (values.detach() - block.returns).sum() / len(rows)
    return [
        policy_loss,
        value_loss,
        bias,
        rows.acted.entropy().mean(),
        *(torch.zeros_like(bias) for _ in range(kl_parts)),
    ]
