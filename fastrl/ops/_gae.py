"""Generalized advantage estimation."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_gae = torch.ops.fastrl.gae.default


def gae(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates and the returns that belong to them.

    δ_t = r_t + γ nt_t V_{t+1} − V_t,  A_t = δ_t + γ λ go_t A_{t+1},  R_t = A_t + V_t
    with nt_t = 1 − terminated_t and go_t = 1 − (terminated_t or truncated_t)

    Args:
        rewards: [T, N], float32, float64, bfloat16 or float16 (half precision accumulates in float32).
            Tensors here may have any strides.
        values: [T+1, N], dtype of rewards; values[t+1] is V of the observation that followed step t, before
            any reset.
        terminated: [T, N] bool; the episode ended in a terminal state: no bootstrap, whatever values[t+1]
            holds.
        truncated: [T, N] bool; the episode was cut off: bootstraps from values[t+1], and the trace ends.
            Termination wins over truncation.
        gamma: discount per environment step, in [0, 1].
        gae_lambda: λ, in [0, 1]: 1 gives bootstrapped Monte-Carlo returns, 0 the one-step residuals.
        valid: [T, N] bool, or None if every row is a transition. Where False (a reset row) the advantage is
            0, the return values[t], and nothing flows through.

    Returns: advantages [T, N] and returns [T, N], contiguous, of the dtype of rewards.
    Raises: TypeError or ValueError, naming the argument. On CUDA too: no check reads an element.
    Gradient: none, the results are constants to autograd.
    Edges: T = 0 or N = 0 gives empty results. Runs on the current CUDA stream. Bit-equal from run to run and
        for every number of threads.
    Reference: Schulman et al. 2016, High-Dimensional Continuous Control Using Generalized Advantage
        Estimation, eq. 16.
    """
    if _checks.autocasting() and (together := _checks.same_dtype_under_autocast(rewards, values)) is not None:
        rewards, values = together
    if torch.compiler.is_compiling():  # a traced program meets its checks while it is traced
        _check(rewards, values, terminated, truncated, gamma, gae_lambda, valid)
        return _gae(rewards.detach(), values.detach(), terminated, truncated, gamma, gae_lambda, valid)
    try:
        if (
            type(gamma) is not float or type(gae_lambda) is not float
        ):  # the dispatcher would take tensors and flags for numbers
            _checks.check_fractions("gae", gamma=gamma, gae_lambda=gae_lambda)
        if transformed():
            _checks.refuse_tangents("gae", rewards, values)
        if rewards.requires_grad or values.requires_grad:
            rewards, values = rewards.detach(), values.detach()
        return _gae(rewards, values, terminated, truncated, gamma, gae_lambda, valid)
    except (RuntimeError, AttributeError):
        # the native code has refused: only now is time spent on finding out what to say
        _check(rewards, values, terminated, truncated, gamma, gae_lambda, valid)
        raise


def gae_reference(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `gae` computes, step by step in plain torch and float64: the oracle of the tests."""
    dtype = rewards.dtype
    rewards, values = rewards.double(), values.double()
    valid = torch.ones_like(terminated) if valid is None else valid
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(values[0])  # A_{t+1}, [N]
    trace = gamma * gae_lambda
    for t in reversed(range(rewards.shape[0])):
        bootstrap = torch.where(terminated[t], 0.0, gamma * values[t + 1])
        carried = torch.where(terminated[t] | truncated[t] | (trace == 0.0), 0.0, trace * following)
        following = torch.where(valid[t], rewards[t] + bootstrap - values[t] + carried, 0.0)
        advantages[t] = following
    return advantages.to(dtype), (advantages + values[:-1]).to(dtype)


def _check(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
    valid: Tensor | None,
) -> None:
    flags = {"terminated": terminated, "truncated": truncated, "valid": valid}
    tensors = {"rewards": rewards, "values": values}
    _checks.check_rollout("gae", tensors, flags, bootstrapped=("values",), gamma=gamma, gae_lambda=gae_lambda)


@torch.library.register_fake("fastrl::gae")
def _gae_fake(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _check(rewards, values, terminated, truncated, gamma, gae_lambda, valid)
    return rewards.new_empty(rewards.shape), rewards.new_empty(rewards.shape)
