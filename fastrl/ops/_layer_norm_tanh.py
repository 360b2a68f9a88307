"""Layer norm and tanh behind it, in one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_layer_norm_tanh = torch.ops.fastrl.layer_norm_tanh.default
_NAME = "layer_norm_tanh"


def layer_norm_tanh(
    x: Tensor, weight: Tensor, bias: Tensor, *, shift: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """tanh of the layer norm of every row, with a row in common added to groups of rows before it.

    z_r = x_r + shift_⌊r G / R⌋
    y_r = tanh(weight (z_r − μ_r) / √(σ²_r + eps) + bias),  μ_r and σ²_r mean and variance (of all D, not D −
    1) of the row

    Args:
        x: [R, D], float32, float64, bfloat16 or float16 (half precision is computed in float32). Tensors here
            may have any strides.
        weight: [D], dtype of x.
        bias: [D], dtype of x.
        shift: [G, D], dtype of x, G a divisor of R: its row g is added to rows g R / G up to (g + 1) R / G of
            x; or None.
        eps: what is added to the variance; not negative.

    Returns: y [R, D], contiguous, of the dtype of x.
    Raises: TypeError or ValueError, naming the argument. On CUDA too: no check reads an element.
    Gradient: in x, weight, bias and shift, any number of times, in plain torch and from x anew: the op is
        made for passes without gradient. Derivatives that go forward, and those of `torch.func`: by torch's
        functions.
    Edges: R = 0 or D = 0 gives an empty result. With eps = 0 a row of equal numbers has no result: NaN, or
        anything in [−1, 1]. A row with NaN or ∞ gives NaN. Runs on the current CUDA stream. The result is
        bit-equal from run to run and for every number of threads.
    Reference: Ba, Kiros, Hinton 2016, Layer Normalization; tanh behind it: Hoffman et al. 2020, "Acme: A
        Research Framework for Distributed Reinforcement Learning" (LayerNormMLP).
    """
    if (
        _checks.autocasting()
        and (together := _checks.same_dtype_under_autocast(x, weight, bias, shift)) is not None
    ):
        x, weight, bias, shift = together
    if torch.compiler.is_compiling():
        _check(x, weight, bias, shift, eps)
        return _layer_norm_tanh(x, weight, bias, shift, eps)
    if transformed():
        _check(x, weight, bias, shift, eps)
        return layer_norm_tanh_reference(x, weight, bias, shift=shift, eps=eps)
    try:
        if type(eps) is not float:  # the dispatcher would take tensors and flags for numbers
            _checks.check_not_negative(_NAME, eps=eps)
            eps = float(eps)
        return _layer_norm_tanh(x, weight, bias, shift, eps)
    except (RuntimeError, AttributeError):
        _check(x, weight, bias, shift, eps)
        raise


def layer_norm_tanh_reference(
    x: Tensor, weight: Tensor, bias: Tensor, *, shift: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """What `layer_norm_tanh` computes, by torch's functions in float64: the oracle of the tests."""
    z = _shifted(x.double(), None if shift is None else shift.double())
    return (
        functional.layer_norm(z, z.shape[1:], weight.double(), bias.double(), float(eps)).tanh().to(x.dtype)
    )


def _shifted(x: Tensor, shift: Tensor | None) -> Tensor:
    if shift is None or x.numel() == 0:
        return x
    return (x.reshape(shift.shape[0], -1, x.shape[1]) + shift[:, None]).flatten(0, 1)


def _check(x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, eps: float) -> None:
    _checks.check_tensors(_NAME, {"x": x, "weight": weight, "bias": bias}, {"shift": shift})
    _checks.check_floating(
        _NAME, "x", x, weight=weight, bias=bias, **({} if shift is None else {"shift": shift})
    )
    _checks.check_shape(_NAME, "x", x, "[R, D]", None, None)
    rows, features = x.shape
    _checks.check_shape(_NAME, "weight", weight, "[D]", features)
    _checks.check_shape(_NAME, "bias", bias, "[D]", features)
    if shift is not None:
        _checks.check_shape(_NAME, "shift", shift, "[G, D]", None, features)
        groups = shift.shape[0]
        if rows % groups != 0 if groups != 0 else rows != 0:
            raise ValueError(
                f"{_NAME}: shift must have a number of rows that divides R = {rows}, got {groups}"
            )
    _checks.check_not_negative(_NAME, eps=eps)


@torch.library.register_fake("fastrl::layer_norm_tanh")
def _fake(x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    _check(x, weight, bias, shift, eps)
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, shift, ctx.eps = inputs
    ctx.save_for_backward(x, weight, shift, output)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, shift, y = ctx.saved_tensors
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    z = _shifted(x.to(wide), None if shift is None else shift.to(wide))
    differs = z - z.mean(1, keepdim=True)
    scale = (differs.square().mean(1, keepdim=True) + ctx.eps).rsqrt()
    normal = differs * scale
    to_affine = gradient.to(wide) * (1 - y.to(wide).square())
    to_normal = to_affine * weight.to(wide)
    along = (to_normal * normal).mean(1, keepdim=True)  # what a larger variance takes back
    to_z = scale * (to_normal - to_normal.mean(1, keepdim=True) - normal * along)
    to_weight, to_bias = (to_affine * normal).sum(0), to_affine.sum(0)
    to_shift = None if shift is None else _group_sums(to_z, shift)
    return to_z.to(x.dtype), to_weight.to(x.dtype), to_bias.to(x.dtype), to_shift, None


def _group_sums(to_z: Tensor, shift: Tensor) -> Tensor:
    if to_z.numel() == 0:
        return torch.zeros_like(shift)
    return to_z.view(shift.shape[0], -1, shift.shape[1]).sum(1).to(shift.dtype)


torch.library.register_autograd("fastrl::layer_norm_tanh", _backward, setup_context=_save)
