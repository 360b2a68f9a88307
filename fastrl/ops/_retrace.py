"""Retrace(λ): off-policy targets for Q."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_retrace = torch.ops.fastrl.retrace.default


def retrace(
    rewards: Tensor,
    q_values: Tensor,
    next_values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    retrace_lambda: float,
    valid: Tensor | None = None,
) -> Tensor:
    """Retrace targets for Q, from sequences that another policy acted.

    target_t = Q_t + δ_t + γ go_t c_{t+1} (target_{t+1} − Q_{t+1}),  δ_t = r_t + γ nt_t E_{t+1} − Q_t,  c_t =
    λ min(1, exp log ρ_t) with nt_t = 1 − terminated_t and go_t = 1 − (terminated_t or truncated_t)

    Args:
        rewards: [T, N], float32, float64, bfloat16 or float16 (half precision accumulates in float32).
            Tensors here may have any strides.
        q_values: [T, N], dtype of rewards: Q_t = Q(s_t, a_t) of the action that was taken.
        next_values: [T, N], dtype of rewards: E_{t+1} = E_{a∼π} Q(s_{t+1}, a) under the policy that is
            learned, of the observation that followed step t, before any reset.
        log_rhos: [T, N], dtype of rewards, nats: log π(a_t|s_t) − log μ(a_t|s_t), the learned policy over the
            one that acted.
        terminated: [T, N] bool; the episode ended in a terminal state: no bootstrap, whatever next_values[t]
            holds.
        truncated: [T, N] bool; the episode was cut off: bootstraps from next_values[t], and the trace ends.
            Termination wins.
        gamma: discount per environment step, in [0, 1].
        retrace_lambda: λ, in [0, 1]: 0 gives the one-step backup.
        valid: [T, N] bool, or None if every row is a transition. Where False (a reset row) the target is
            q_values[t], and nothing flows through.

    Returns: targets [T, N], contiguous, of the dtype of rewards. The last row bootstraps from
        next_values[T-1].
    Raises: TypeError or ValueError, naming the argument. On CUDA too: no check reads an element.
    Gradient: none, the targets are constants to autograd.
    Edges: T = 0 or N = 0 gives empty targets. A ratio of 0 (log_rhos −∞) cuts the trace. Runs on the current
        CUDA stream. Bit-equal from run to run and for every number of threads.
    Reference: Munos, Stepleton, Harutyunyan, Bellemare 2016, Safe and Efficient Off-Policy Reinforcement
        Learning, eq. 3 and 4.
    """
    arguments = (
        rewards,
        q_values,
        next_values,
        log_rhos,
        terminated,
        truncated,
        gamma,
        retrace_lambda,
        valid,
    )
    return _checks.call_on_constants("retrace", _retrace, 4, _check, arguments, (gamma, retrace_lambda))


def retrace_reference(
    rewards: Tensor,
    q_values: Tensor,
    next_values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    retrace_lambda: float,
    valid: Tensor | None = None,
) -> Tensor:
    """What `retrace` computes, step by step in plain torch and float64: the oracle of the tests."""
    dtype = rewards.dtype
    rewards, q_values, next_values, log_rhos = (
        rewards.double(),
        q_values.double(),
        next_values.double(),
        log_rhos.double(),
    )
    valid = torch.ones_like(terminated) if valid is None else valid
    traces = retrace_lambda * log_rhos.exp().clamp(max=1.0)  # c, [T, N]
    targets = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards.sum(0))  # c_{t+1} (target_{t+1} − Q_{t+1}), [N]
    for t in reversed(range(rewards.shape[0])):
        bootstrap = torch.where(terminated[t], 0.0, gamma * next_values[t])
        carried = torch.where(terminated[t] | truncated[t] | (gamma == 0.0), 0.0, gamma * following)
        correction = torch.where(valid[t], rewards[t] + bootstrap - q_values[t] + carried, 0.0)
        targets[t] = q_values[t] + correction
        following = torch.where(traces[t] == 0.0, 0.0, traces[t] * correction)
        following = torch.where(valid[t], following, 0.0)
    return targets.to(dtype)


def _check(
    rewards: Tensor,
    q_values: Tensor,
    next_values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    retrace_lambda: float,
    valid: Tensor | None = None,
) -> None:
    flags = {"terminated": terminated, "truncated": truncated, "valid": valid}
    tensors = {"rewards": rewards, "q_values": q_values, "next_values": next_values, "log_rhos": log_rhos}
    _checks.check_rollout("retrace", tensors, flags, gamma=gamma, retrace_lambda=retrace_lambda)


@torch.library.register_fake("fastrl::retrace")
def _retrace_fake(
    rewards: Tensor,
    q_values: Tensor,
    next_values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    retrace_lambda: float,
    valid: Tensor | None = None,
) -> Tensor:
    _check(rewards, q_values, next_values, log_rhos, terminated, truncated, gamma, retrace_lambda, valid)
    return rewards.new_empty(rewards.shape)
