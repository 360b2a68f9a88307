"""The losses of soft actor-critic as functions of tensors.

    G   = r + γ (1 − terminated) [min_i Q'_i(s', a') − α log π(a'|s')],   a' ~ π(·|s')     `soft_targets`
    L_Q = Σ_i mean_B ½ (Q_i(s, a) − G)²                       `fastrl.losses.value.critic_loss`
    L_π = mean_B [α log π(ã|s) − min_i Q_i(s, ã)],   ã ~ π(·|s) reparametrised             `sac_policy_loss`
    L_α = −α (mean_B log π(ã|s) + H̄)                                                       `Multiplier.loss`

α is the multiplier of the bound mean log π ≤ −H̄, with H̄ the target entropy: it rises while the entropy is
below H̄.

Reference: Haarnoja et al. 2018a, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning
    with a Stochastic Actor"; 2018b, "Soft Actor-Critic Algorithms and Applications", eq. 3, 7 and 18.
"""

from __future__ import annotations

from torch import Tensor


def soft_targets(
    rewards: Tensor,
    terminated: Tensor,
    next_q_values: Tensor,
    next_log_probs: Tensor,
    alpha: Tensor,
    gamma: float,
) -> Tensor:
    """G = r + γ (1 − terminated) [Q'(s', a') − α log π(a'|s')], without gradient.

    Args:
        rewards: [B].
        terminated: [B] bool; truncated episodes are not terminated, and bootstrap.
        next_q_values: Q'(s', a') [B], the lower of the target critics.
        next_log_probs: log π(a'|s') [B] in nats.
        alpha: α, 0-d.
        gamma: discount per environment step.

    Returns:
        [B].
    """
    next_values = next_q_values - alpha.detach() * next_log_probs
    return (rewards + gamma * next_values.masked_fill(terminated, 0.0)).detach()


def sac_policy_loss(log_probs: Tensor, q_values: Tensor, alpha: Tensor) -> Tensor:
    """L_π = mean_B [α log π(ã|s) − Q(s, ã)], 0-d; α is a constant.

    Args:
        log_probs: log π(ã|s) [B] in nats, with gradient.
        q_values: Q(s, ã) [B], the lower of the critics, with gradient for ã.
        alpha: α, 0-d.
    """
    return (alpha.detach() * log_probs - q_values).mean()
