"""Targets of direct advantage estimation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_dae_targets = torch.ops.fastrl.dae_targets.default
_backward_op = torch.ops.fastrl.dae_targets_backward.default


def dae_targets(
    rewards: Tensor,
    advantages: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    valid: Tensor | None = None,
) -> Tensor:
    """What V(s_t) should be if every action's estimated advantage is taken out of the rewards that followed.

    y_t = r_t − Â_t + γ y_{t+1},  y_T = V_T;  y_t = r_t − Â_t + γ V_{t+1} where t is truncated,  y_t = r_t −
    Â_t where it terminates

    Args:
        rewards: [T, N], float32, float64, bfloat16 or float16 (half precision accumulates in float32).
            Tensors here may have any strides.
        advantages: [T, N], dtype of rewards: Â(s_t, a_t), centred under the policy that acted, Σ_a π(a|s)
            Â(s, a) = 0.
        values: [T+1, N], dtype of rewards; values[t+1] is V of the observation that followed step t, before
            any reset.
        terminated: [T, N] bool; the episode ended in a terminal state: no bootstrap, whatever values[t+1]
            holds.
        truncated: [T, N] bool; the episode was cut off: bootstraps from values[t+1]. Termination wins over
            truncation.
        gamma: discount per environment step, in [0, 1].
        valid: [T, N] bool, or None if every row is a transition. Where False (a reset row) the target is
            values[t], and nothing flows through.

    Returns: targets y [T, N], contiguous, of the dtype of rewards; the loss of direct advantage estimation is
        mean (y_t − V(s_t))².
    Raises: TypeError or ValueError, naming the argument. On CUDA too: no check reads an element.
    Gradient: in advantages and values, any number of times, not in rewards. Give values.detach() to keep the
        bootstrap constant. Derivatives that go forward, and those of `torch.func`: in plain torch.
    Edges: T = 0 or N = 0 gives empty targets. It is not the one-step residual, which is `gae` with λ = 0.
        Runs on the current CUDA stream. Bit-equal from run to run and for every number of threads, gradients
        too.
    Reference: Pan, Gürtler, Neitz, Schölkopf 2022, Direct Advantage Estimation; the multi-step objective.
    """
    if (
        _checks.autocasting()
        and (together := _checks.same_dtype_under_autocast(rewards, advantages, values)) is not None
    ):
        rewards, advantages, values = together
    if torch.compiler.is_compiling():
        _check(rewards, advantages, values, terminated, truncated, gamma, valid)
        return _dae_targets(rewards.detach(), advantages, values, terminated, truncated, gamma, valid)
    if transformed():
        _check(rewards, advantages, values, terminated, truncated, gamma, valid)
        return dae_targets_reference(
            rewards.detach(), advantages, values, terminated, truncated, gamma=gamma, valid=valid
        )
    try:
        if type(gamma) is not float:  # the dispatcher would take tensors and flags for numbers
            _checks.check_fractions("dae_targets", gamma=gamma)
        if rewards.requires_grad:
            rewards = rewards.detach()
        return _dae_targets(rewards, advantages, values, terminated, truncated, gamma, valid)
    except (RuntimeError, AttributeError):
        _check(rewards, advantages, values, terminated, truncated, gamma, valid)
        raise


def dae_targets_reference(
    rewards: Tensor,
    advantages: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    valid: Tensor | None = None,
) -> Tensor:
    """What `dae_targets` computes, step by step in plain torch and float64: the oracle of the tests."""
    dtype = rewards.dtype
    rewards, advantages, values = rewards.double(), advantages.double(), values.double()
    valid = torch.ones_like(terminated) if valid is None else valid
    targets = []
    following = values[-1]  # y_{t+1}, [N]
    for t in reversed(range(rewards.shape[0])):
        carried = torch.zeros_like(following) if gamma == 0.0 else gamma * following
        bootstrap = torch.where(truncated[t], gamma * values[t + 1], carried)
        target = rewards[t] - advantages[t] + torch.where(terminated[t], 0.0, bootstrap)
        following = torch.where(valid[t], target, values[t])
        targets.append(following)
    return torch.stack(targets[::-1]).to(dtype) if targets else rewards.to(dtype)


def _check(
    rewards: Tensor,
    advantages: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    valid: Tensor | None = None,
) -> None:
    flags = {"terminated": terminated, "truncated": truncated, "valid": valid}
    tensors = {"rewards": rewards, "advantages": advantages, "values": values}
    _checks.check_rollout("dae_targets", tensors, flags, bootstrapped=("values",), gamma=gamma)


@torch.library.register_fake("fastrl::dae_targets")
def _dae_targets_fake(
    rewards: Tensor,
    advantages: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    valid: Tensor | None = None,
) -> Tensor:
    _check(rewards, advantages, values, terminated, truncated, gamma, valid)
    return rewards.new_empty(rewards.shape)


@torch.library.register_fake("fastrl::dae_targets_backward")
def _backward_fake(
    gradient: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    flags = {"terminated": terminated, "truncated": truncated, "valid": valid}
    _checks.check_rollout("dae_targets_backward", {"gradient": gradient}, flags, gamma=gamma)
    steps, envs = gradient.shape
    return gradient.new_empty((steps, envs)), gradient.new_empty((steps + 1, envs))


def _save_call(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, _, terminated, truncated, gamma, valid = inputs
    ctx.save_for_backward(terminated, truncated, valid)
    ctx.gamma = gamma


def _call_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    terminated, truncated, valid = ctx.saved_tensors
    to_advantages, to_values = _backward_op(gradient, terminated, truncated, ctx.gamma, valid)
    return None, to_advantages, to_values, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, terminated, truncated, gamma, valid = inputs
    ctx.save_for_backward(terminated, truncated, valid)
    ctx.gamma = gamma


def _backward_backward(ctx: Any, to_advantages: Tensor, to_values: Tensor) -> tuple[Any, ...]:
    # targets are linear in what their gradient was taken of, and the transposed map of the gradient is that
    # very map
    terminated, truncated, valid = ctx.saved_tensors
    gradient = _dae_targets(
        torch.zeros_like(to_advantages), to_advantages, to_values, terminated, truncated, ctx.gamma, valid
    )
    return gradient, None, None, None, None


torch.library.register_autograd("fastrl::dae_targets", _call_backward, setup_context=_save_call)
torch.library.register_autograd(
    "fastrl::dae_targets_backward", _backward_backward, setup_context=_save_backward
)
