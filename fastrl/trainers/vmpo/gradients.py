"""The gradient of V-MPO's loss over a whole batch, in row blocks whose activations stay in cache.

The sums are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fastrl.losses.multiplier import Multiplier
from fastrl.losses.value import half_squared_error
from fastrl.losses.vmpo import vmpo_loss, weighted_likelihood_loss
from fastrl.nn.action_heads import Policy, whole_policy
from fastrl.runs.optimizers import backward
from fastrl.trainers.vmpo.batch import VMPORows, constant_policy
from fastrl.trainers.vmpo.config import REMEMBERED_ROWS_PER_BLOCK
from fastrl.trainers.vmpo.networks import ActorCritic

ROWS_PER_BLOCK = 512


def accumulate_gradients(
    policy: ActorCritic, rows: VMPORows, psi: Tensor, multipliers: Mapping[str, Multiplier]
) -> dict[str, Tensor]:
    """Add the gradient of `fastrl.losses.vmpo.vmpo_loss` to the policy's parameters.

    Args:
        policy: π and V; where the rows have a reader it is what that reads.
        rows: M transitions; returns are on the scale of the value head's outputs.
        psi: ψ [M], 0 outside D~.
        multipliers: α_k of each part of the KL, in the order of `kl_parts`.

    Returns:
        0-d constants: the metrics of `vmpo_loss`, `train/entropy` (the mean), and `bias`, mean V − G.
    """
    if rows.reader is None and rows.unmoved and not policy.shared_encoder:
        return _where_the_kl_is_zero(policy, rows, psi, multipliers)
    count = len(rows)
    sums: list[Tensor] = []
    for block, weights, (distribution, values) in _blocks(policy, rows, psi):
        log_probs = distribution.log_prob(block.actions)
        kls = dict(zip(multipliers, block.acted.kl_parts(distribution), strict=True))  # type: ignore[arg-type]
        loss, metrics = vmpo_loss(log_probs, weights, values, block.returns, kls, multipliers, rows=count)
        backward(loss)
        with torch.no_grad():
            metrics["train/entropy"] = distribution.entropy().sum() / count
            metrics["bias"] = (values - block.returns).sum() / count
        sums.append(torch.stack(list(metrics.values())))
    return dict(zip(metrics, torch.stack(sums).sum(0), strict=True))


def _blocks(
    policy: ActorCritic, rows: VMPORows, psi: Tensor
) -> Iterator[tuple[VMPORows, Tensor, tuple[Policy, Tensor]]]:
    """(some of the rows, their ψ, π and V at them), until every row has been there."""
    if rows.reader is None:
        for block, weights in zip(rows.split(ROWS_PER_BLOCK), psi.split(ROWS_PER_BLOCK), strict=True):
            yield block, weights, policy.predict(block.obs)
        return
    for part in rows.reader.parts(-(-len(rows) // REMEMBERED_ROWS_PER_BLOCK), shuffled=False):
        block, (branched, values) = rows.at(part.rows), part.read()
        distribution = whole_policy(branched)
        if rows.unmoved:  # the numbers of one row by itself and in a batch differ by rounding
            block = replace(block, acted=constant_policy(distribution))
        yield block, psi[part.rows], (distribution, values)


def _where_the_kl_is_zero(
    policy: ActorCritic, rows: VMPORows, psi: Tensor, multipliers: Mapping[str, Multiplier]
) -> dict[str, Tensor]:
    """The same where π = π_old: the KL and its gradient are exactly 0, so the policy has to be evaluated on
    D~ only."""
    selected = psi.nonzero().squeeze(-1)
    policy_loss, value_loss, bias, zero = torch.zeros(4, device=psi.device)
    for block, weights in zip(
        rows.at(selected).split(ROWS_PER_BLOCK), psi[selected].split(ROWS_PER_BLOCK), strict=True
    ):
        loss = weighted_likelihood_loss(policy.distribution(block.obs).log_prob(block.actions), weights)
        backward(loss)
        policy_loss += loss.detach()
    for block in rows.split(ROWS_PER_BLOCK):
        values = policy.value_output(block.obs)
        loss = half_squared_error(values, block.returns).sum() / len(rows)
        backward(loss)
        value_loss += loss.detach()
        bias += (values.detach() - block.returns).sum() / len(rows)
    losses = {"loss/policy": policy_loss, "loss/value": value_loss, "loss/kl": zero}
    kls = {f"kl/{name}": zero for name in multipliers}
    return losses | kls | {"train/entropy": rows.acted.entropy().mean(), "bias": bias}
