"""Selection along an axis, every sample with indices of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_select = torch.ops.fastrl.batched_index_select.default
_backward_op = torch.ops.fastrl.batched_index_select_backward.default


def batched_index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Selects along `dim` with another list of indices for every sample of the batch.

    out[b, …, w, …] = input[b, …, index[b, w], …]

    Args:
        input: [B, …, S, …] of any dtype and strides, S the size of axis `dim`.
        dim: the axis selected from, any but the first; counted from the end if negative.
        index: [B, W] int64 in [0, S), any strides; a value may occur any number of times.

    Returns: [B, …, W, …], contiguous, of the dtype of input: input with axis `dim` of size W.
    Raises: TypeError, ValueError or IndexError, naming the argument. On CUDA values of index are looked at
        only if FASTRL_DEBUG=1, for that makes the GPU wait.
    Gradient: in input (float32, float64, bfloat16 or float16), any number of times; rows selected several
        times add up in a fixed order, in float32 for half precision. Derivatives that go forward, and those
        of `torch.func`: in plain torch.
    Edges: anything may be empty. An input whose axes before or behind `dim` cannot be flattened without
        copying is copied. Runs on the current CUDA stream. Bit-equal from run to run and for every number of
        threads.
    """
    if torch.compiler.is_compiling():
        _check(input, dim, index)
        return _select(input, dim, index)
    if transformed():
        _check(input, dim, index)
        return batched_index_select_reference(input, dim, index)
    try:
        if type(dim) is not int or _checks.debugging():
            _check(input, dim, index)
        return _select(input, dim, index)
    except (RuntimeError, AttributeError):
        _check(input, dim, index)
        raise


def batched_index_select_reference(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """What `batched_index_select` computes, sample by sample in plain torch: the oracle of the tests."""
    axis = dim % input.dim()
    selected = [input[b].index_select(axis - 1, index[b]) for b in range(input.shape[0])]
    return (
        torch.stack(selected)
        if selected
        else input.new_empty([*input.shape[:axis], index.shape[1], *input.shape[axis + 1 :]])
    )


def _check(
    input: Tensor, dim: int, index: Tensor, op: str = "batched_index_select", name: str = "input"
) -> None:
    _checks.check_tensors(op, {name: input, "index": index})
    if isinstance(dim, bool) or not isinstance(dim, (int, torch.SymInt)):
        raise TypeError(f"{op}: dim must be an int, got {type(dim).__name__}")
    if input.dim() < 2:
        raise ValueError(f"{op}: {name} must have shape [B, ..., S, ...], got {list(input.shape)}")
    if not -input.dim() <= dim < input.dim() or dim % input.dim() == 0:
        raise ValueError(
            f"{op}: dim must be an axis of {name} other than the first, got {dim} for {input.dim()} axes"
        )
    _checks.check_shape(op, "index", index, "[B, W]", input.shape[0], None)
    if name == "input":
        _checks.check_indices(op, "index", index, input.shape[dim], "S")


@torch.library.register_fake("fastrl::batched_index_select")
def _fake(input: Tensor, dim: int, index: Tensor) -> Tensor:
    _check(input, dim, index)
    return _with_axis(input, dim, index.shape[1])


@torch.library.register_fake("fastrl::batched_index_select_backward")
def _backward_fake(gradient: Tensor, dim: int, index: Tensor, size: int) -> Tensor:
    _check(gradient, dim, index, "batched_index_select_backward", "gradient")
    return _with_axis(gradient, dim, size)


def _with_axis(tensor: Tensor, dim: int, size: int) -> Tensor:
    axis = dim % tensor.dim()
    return tensor.new_empty([*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, ctx.dim, index = inputs
    ctx.size = input.shape[ctx.dim]
    ctx.save_for_backward(index)


def _call_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    return _backward_op(gradient, ctx.dim, index, ctx.size), None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dim, index, _ = inputs
    ctx.save_for_backward(index)


def _backward_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    return _select(gradient, ctx.dim, index), None, None, None


torch.library.register_autograd("fastrl::batched_index_select", _call_backward, setup_context=_save)
torch.library.register_autograd(
    "fastrl::batched_index_select_backward", _backward_backward, setup_context=_save_backward
)
