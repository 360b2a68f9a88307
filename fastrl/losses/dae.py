"""Direct Advantage Estimation (Pan, Gürtler, Neitz, Schölkopf 2022): Â centred under π_old, and its loss.

A network says f(s, ·) for each state; what is left after its mean under the policy is taken out is the
advantage. For discrete actions f has a number for each action. For a Gaussian policy, with z = (a − μ)/σ, it
has the coefficients of the first two Hermite polynomials in each action dimension, whose means under N(μ, σ²)
are 0 whatever the coefficients: nothing is sampled.

Policies are those of the rollout and constants: no gradient goes into them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fastrl import ops


class ActingPolicy(Protocol):
    """A distribution of `fastrl.nn` over actions."""

    def centred(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Â [...] at actions."""

    def centred_variance(self, outputs: Tensor) -> Tensor:
        """E_π Â² [...]."""


def centred_advantages(outputs: Tensor, policy: ActingPolicy, actions: Tensor) -> Tensor:
    """Â(s, a) with Σ_a π(a|s) Â(s, a) = 0, or ∫ π(a|s) Â(s, a) da = 0.

    Discrete:   Â = f(s, a) − Σ_a' π(a'|s) f(s, a'); for several branches, the sum of each branch's
    Gaussian:   Â = Σ_d b_d z_d + c_d (z_d² − 1),  z = (a − μ)/σ

    Args:
        outputs: f [..., A]; those of all branches side by side where there are several; (b, c) [..., A, 2]
            for a Gaussian.
        policy: π that acted, over [...]. A Gaussian's actions are as they were drawn, before they are cut to
            bounds.
        actions: [...] int64, [..., branches] int64, or [..., A].

    Returns: [...], differentiable in outputs.
    """
    return policy.centred(outputs, actions)


def advantage_variance(outputs: Tensor, policy: ActingPolicy) -> Tensor:
    """E_π Â², the variance of Â over the policy's actions in each state, [...].

    For a Gaussian it is Σ_d b_d² + 2 c_d².

    Args:
        outputs, policy: as for `centred_advantages`.
    """
    return policy.centred_variance(outputs)


def advantage_scale(outputs: Tensor, policy: ActingPolicy, valid: Tensor | None = None) -> Tensor:
    """sqrt(mean_s E_π Â²), 0-d and never 0: advantages are divided by it, so that their scale is common.

    Args:
        outputs, policy: as for `centred_advantages`.
        valid: [...] bool, the states that count; None: all.
    """
    return _mean(advantage_variance(outputs, policy), valid).sqrt() + 1e-8


def dae_loss(
    advantages: Tensor,
    values: Tensor,
    rewards: Tensor,
    bootstrap: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    dae_lambda: float = 1.0,
    valid: Tensor | None = None,
    environments_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """L = mean_t e_t², over pieces of episodes that end in s_T.

    e_t = Σ_{k≥t} γ^{k−t} (r_k − Â_k) + γ^{T−t} V_target(s_T) − V(s_t)

    A piece ends where the episode does, or with the last row. Each e_t moves V(s_t) and all Â_k from t to the
    end of the piece.

    With λ < 1, e_t is the mean of all such sums that stop sooner, after n = 1, 2, … steps, at
    V_target(s_{t+n}), with weights (1−λ) λ^{n−1} as in TD(λ), the longest with what is left of 1: less
    variance, more of V_target's error. Where Â and V_target are right, every one of the sums has the mean
    V(s_t).

    Args:
        advantages: Â [T, N], with gradient.
        values: V(s_t) [T, N], with gradient.
        rewards: [T, N].
        bootstrap: V_target [T+1, N], the value function as it was when the rollout was made, a constant; row
            t+1 is of the observation that followed step t, before any reset. Read at the last row and where
            an episode was truncated.
        terminated, truncated: [T, N] bool. A termination takes the bootstrap away, a truncation does not.
        gamma: discount per step, in [0, 1].
        dae_lambda: λ, in [0, 1]; 1 is the paper's loss.
        valid: [T, N] bool; rows that are no transition count for nothing.
        environments_first: all of these, and the second result, are [N, T], and bootstrap [N, T+1].

    Returns: (L, 0-d; what V(s_t) is fitted to, y_t = e_t + V(s_t) [T, N], a constant).
    Raises: TypeError or ValueError, naming the argument.
    Reference: Pan, Gürtler, Neitz, Schölkopf 2022, Direct Advantage Estimation, the multi-step objective;
        Sutton 1988, Learning to predict by the methods of temporal differences, for λ.
    """
    if not 0.0 <= dae_lambda <= 1.0:
        raise ValueError(f"dae_loss: dae_lambda must be in [0, 1], got {dae_lambda}")
    if environments_first:
        fields = (advantages, values, rewards, bootstrap, terminated, truncated)
        time_major = (field.transpose(0, 1) for field in fields)
        flags = None if valid is None else valid.transpose(0, 1)
        loss, targets = dae_loss(*time_major, gamma=gamma, dae_lambda=dae_lambda, valid=flags)
        return loss, targets.transpose(0, 1)
    if bootstrap.shape[1:] != rewards.shape[1:] or bootstrap.shape[0] != rewards.shape[0] + 1:
        raise ValueError(
            f"dae_loss: bootstrap must have a row more than rewards {list(rewards.shape)}, got "
            f"{list(bootstrap.shape)}"
        )
    bootstrap = bootstrap.detach()
    if dae_lambda != 1.0:
        # the same mean is Σ (γλ)^{k−t} (r_k − Â_k + γ (1−λ) V_target(s_{k+1})), and at the end (γλ)^{T−t}
        # V_target(s_T)
        rewards = rewards + gamma * (1.0 - dae_lambda) * torch.where(terminated, 0.0, bootstrap[1:])
    targets = ops.dae_targets(
        rewards, advantages, bootstrap, terminated, truncated, gamma=gamma * dae_lambda, valid=valid
    )
    return _mean((targets - values).square(), valid), targets.detach()


def _mean(per_state: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the states that count; 0 where there are none."""
    if valid is None:
        return per_state.mean()
    return torch.where(valid, per_state, 0.0).sum() / valid.sum().clamp(min=1)
