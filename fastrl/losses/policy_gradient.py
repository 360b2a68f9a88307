"""Losses of the policy-gradient family: the policy's part, and the sum of policy, value and entropy.

Every row counts, so leave out what is no transition.
"""

from __future__ import annotations

from torch import Tensor

LOWEST_PENALTY, HIGHEST_PENALTY = 1e-4, 1e4
HINGE = 50.0


def vanilla_pg_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """−mean log π(a|s) A, 0-d.

    Args:
        log_probs: log π(a|s) [M] in nats, with gradient.
        advantages: A [M], constants.

    Raises:
        ValueError: shapes differ, or are not [M].

    Reference: Williams 1992, REINFORCE; Sutton et al. 2000, the policy gradient theorem.
    """
    _require_rows("vanilla_pg_loss", log_probs, advantages)
    return -(log_probs * advantages).mean()


def surrogate_loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """−mean r A with r = π(a|s) / π_old(a|s), 0-d.

    Args:
        log_probs: log π(a|s) [M] in nats, with gradient.
        old_log_probs: log π_old(a|s) [M]; constants.
        advantages: A [M], constants.

    Raises:
        ValueError: shapes differ, or are not [M].

    Reference: Kakade and Langford 2002; Schulman et al. 2017, eq. 6.
    """
    _require_rows("surrogate_loss", log_probs, old_log_probs, advantages)
    return -((log_probs - old_log_probs).exp() * advantages).mean()


def kl_penalty_loss(kl: Tensor, kl_penalty: Tensor | float, kl_target: float) -> Tensor:
    """β KL + 50 max(0, KL − 2 d)², 0-d.

    Args:
        kl: mean KL(π_old ‖ π) of the minibatch in nats, 0-d, with gradient.
        kl_penalty: β > 0, see `adapted_kl_penalty`.
        kl_target: d > 0, in nats.

    Reference: Schulman et al. 2017, section 4, with the hinge of Schulman's own code (modular_rl).
    """
    return kl_penalty * kl + HINGE * (kl - 2.0 * kl_target).clamp(min=0.0).square()


def adapted_kl_penalty(kl_penalty: float, kl: float, kl_target: float) -> float:
    """β of the next update: half of it where KL < d/1.5, twice where KL > 1.5 d, within [1e-4, 1e4].

    Args:
        kl_penalty: β of this update.
        kl: mean KL(π_old ‖ π) of the whole batch after the update, in nats.
        kl_target: d, in nats.

    Reference: Schulman et al. 2017, section 4.
    """
    if kl < kl_target / 1.5:
        kl_penalty *= 0.5
    elif kl > 1.5 * kl_target:
        kl_penalty *= 2.0
    return min(max(kl_penalty, LOWEST_PENALTY), HIGHEST_PENALTY)


def total_loss(
    policy_loss: Tensor,
    value_loss: Tensor | None,
    entropy: Tensor | None,
    *,
    vf_coef: float,
    ent_coef: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L = L_π + c_v L_V − c_e mean H.

    Args:
        policy_loss, value_loss: 0-d; without a value loss it is left out.
        entropy: H of the policy in nats [M]; None where ent_coef is 0 and nobody wants to know it.
        vf_coef, ent_coef: c_v and c_e, ≥ 0.

    Returns:
        (L, 0-d; `loss/total`, `loss/policy`, `loss/value` and `train/entropy`, detached, as far as they are
        there).
    """
    loss, metrics = policy_loss, {"loss/policy": policy_loss.detach()}
    if value_loss is not None:
        # on small minibatches a product with 1 would cost as much as one with all rows
        loss = loss + (value_loss if vf_coef == 1.0 else vf_coef * value_loss)
        metrics["loss/value"] = value_loss.detach()
    if entropy is not None:
        mean_entropy = entropy.mean()
        metrics["train/entropy"] = mean_entropy.detach()
        if ent_coef:
            loss = loss - ent_coef * mean_entropy
    metrics["loss/total"] = loss.detach()
    return loss, metrics


def _require_rows(who: str, *per_row: Tensor) -> None:
    shapes = [tensor.shape for tensor in per_row]
    if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        # something would be broadcast that should not be
        raise ValueError(
            f"{who}: there must be one value for each row, got shapes {[list(s) for s in shapes]}"
        )
