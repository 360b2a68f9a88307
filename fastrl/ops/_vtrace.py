"""V-trace: off-policy targets for V and advantages for the policy."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_vtrace = torch.ops.fastrl.vtrace.default


def vtrace(
    rewards: Tensor,
    values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    vtrace_lambda: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    pg_rho_clip: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """V-trace targets of V, and policy-gradient advantages, from sequences that another policy acted.

    vs_t = V_t + ρ_t (r_t + γ nt_t V_{t+1} − V_t) + γ go_t c_t (vs_{t+1} − V_{t+1})
    ρ_t = min(ρ̄, exp log ρ_t),  c_t = λ min(c̄, exp log ρ_t)
    pg_t = min(ρ̂, exp log ρ_t) (r_t + γ nt_t next_t − V_t),  next_t = vs_{t+1} where the trace goes on,
    V_{t+1} where it is cut with nt_t = 1 − terminated_t and go_t = 1 − (terminated_t or truncated_t)

    Args:
        rewards: [T, N], float32, float64, bfloat16 or float16 (half precision accumulates in float32).
            Tensors here may have any strides.
        values: [T+1, N], dtype of rewards; values[t+1] is V of the observation that followed step t, before
            any reset.
        log_rhos: [T, N], dtype of rewards, nats: log π(a_t|s_t) − log μ(a_t|s_t), the learned policy over the
            one that acted.
        terminated: [T, N] bool; the episode ended in a terminal state: no bootstrap, whatever values[t+1]
            holds.
        truncated: [T, N] bool; the episode was cut off: bootstraps from values[t+1], and the trace ends.
            Termination wins over truncation.
        gamma: discount per environment step, in [0, 1].
        vtrace_lambda: λ, in [0, 1].
        rho_clip: ρ̄, not negative, may be infinite; decides what the targets converge to: V of a policy
            between μ and π.
        c_clip: c̄, not negative, may be infinite; decides how far corrections travel.
        pg_rho_clip: ρ̂, not negative, may be infinite; clips the ratio in the advantages.
        valid: [T, N] bool, or None if every row is a transition. Where False (a reset row) the target is
            values[t], the advantage 0, and nothing flows through.

    Returns: targets [T, N] and policy-gradient advantages [T, N], contiguous, of the dtype of rewards.
    Raises: TypeError or ValueError, naming the argument. On CUDA too: no check reads an element.
    Gradient: none, the results are constants to autograd.
    Edges: T = 0 or N = 0 gives empty results. On-policy (log_rhos 0) and with ρ̄, c̄ ≥ 1 the targets are the
        returns of `gae` with the same λ. Runs on the current CUDA stream. Bit-equal from run to run and for
        every number of threads.
    Reference: Espeholt et al. 2018, IMPALA, eq. 1 and section 4.2.
    """
    numbers = (gamma, vtrace_lambda, rho_clip, c_clip, pg_rho_clip)
    arguments = (rewards, values, log_rhos, terminated, truncated, *numbers, valid)
    return _checks.call_on_constants("vtrace", _vtrace, 3, _check, arguments, numbers)


def vtrace_reference(
    rewards: Tensor,
    values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    vtrace_lambda: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    pg_rho_clip: float = 1.0,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `vtrace` computes, step by step in plain torch and float64: the oracle of the tests."""
    dtype = rewards.dtype
    rewards, values, log_rhos = rewards.double(), values.double(), log_rhos.double()
    valid = torch.ones_like(terminated) if valid is None else valid
    ratios = log_rhos.exp()
    targets, advantages = torch.zeros_like(rewards), torch.zeros_like(rewards)
    following = torch.zeros_like(values[0])  # vs_{t+1} − V_{t+1}, [N]
    for t in reversed(range(rewards.shape[0])):
        ends = terminated[t] | truncated[t]
        residual = rewards[t] + torch.where(terminated[t], 0.0, gamma * values[t + 1]) - values[t]
        trace = gamma * vtrace_lambda * ratios[t].clamp(max=float(c_clip))
        carried = torch.where(ends | (trace == 0.0), 0.0, trace * following)
        advantage = ratios[t].clamp(max=float(pg_rho_clip)) * (
            residual + torch.where(ends, 0.0, gamma * following)
        )
        following = torch.where(valid[t], ratios[t].clamp(max=float(rho_clip)) * residual + carried, 0.0)
        targets[t], advantages[t] = values[t] + following, torch.where(valid[t], advantage, 0.0)
    return targets.to(dtype), advantages.to(dtype)


def _check(
    rewards: Tensor,
    values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    vtrace_lambda: float,
    rho_clip: float,
    c_clip: float,
    pg_rho_clip: float,
    valid: Tensor | None = None,
) -> None:
    flags = {"terminated": terminated, "truncated": truncated, "valid": valid}
    tensors = {"rewards": rewards, "values": values, "log_rhos": log_rhos}
    _checks.check_rollout(
        "vtrace", tensors, flags, bootstrapped=("values",), gamma=gamma, vtrace_lambda=vtrace_lambda
    )
    _checks.check_not_negative("vtrace", rho_clip=rho_clip, c_clip=c_clip, pg_rho_clip=pg_rho_clip)


@torch.library.register_fake("fastrl::vtrace")
def _vtrace_fake(
    rewards: Tensor,
    values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    vtrace_lambda: float,
    rho_clip: float,
    c_clip: float,
    pg_rho_clip: float,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _check(
        rewards,
        values,
        log_rhos,
        terminated,
        truncated,
        gamma,
        vtrace_lambda,
        rho_clip,
        c_clip,
        pg_rho_clip,
        valid,
    )
    return rewards.new_empty(rewards.shape), rewards.new_empty(rewards.shape)
