"""Windows of a Transformer-XL memory, gathered without building anything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_gather = torch.ops.fastrl.memory_window_gather.default
_gather_out = torch.ops.fastrl.memory_window_gather.out
_backward_op = torch.ops.fastrl.memory_window_gather_backward.default
_NAME = "memory_window_gather"


def memory_window_gather(
    memory: Tensor,
    episode: Tensor,
    index: Tensor,
    *,
    mask: Tensor | None = None,
    position: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The memory window of every sample, position added and masked in the same pass.

    out[b, w, l, :] = memory[episode[b], index[b, w], l, :] + position[index[b, w], :],  0 where mask[b, w] is
    False

    Args:
        memory: [E, S, L, D]: E episodes, S slots (episode steps), L layers, D features; any strides. Any
            dtype; with position float32, float64, bfloat16 or float16 (half precision is added in float32).
        episode: [B] int64 in [0, E).
        index: [B, W] int64, the slots of each window, in [0, S) wherever mask is True; elsewhere nothing is
            read, and it may be anything.
        mask: [B, W] bool, True where the slot is part of the window, or None if all are.
        position: [S, D], dtype of memory: what is added to every layer of a slot; or None.
        out: [B, W, L, D] contiguous, dtype and device of memory, sharing no memory with the inputs: written
            and returned. A fresh result of hundreds of megabytes costs several times the gather in page
            faults; a loop should keep one. Not together with gradients.

    Returns: windows [B, W, L, D], contiguous. Nothing of the size of memory[episode] is ever built.
    Raises: TypeError, ValueError or IndexError, naming the argument. On CUDA values of episode and index are
        looked at only if FASTRL_DEBUG=1, for that makes the GPU wait.
    Gradient: in memory and position (float32, float64, bfloat16 or float16), any number of times; what
        several windows read adds up in a fixed order, in float32 for half precision. Derivatives that go
        forward, and those of `torch.func`: in plain torch, without `out`.
    Edges: anything may be empty. Runs on the current CUDA stream. Bit-equal from run to run and for every
        number of threads.
    Reference: Dai et al. 2019, Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context (the
        memory).
    """
    if (
        _checks.autocasting()
        and (together := _checks.same_dtype_under_autocast(memory, position)) is not None
    ):
        memory, position = together
    if torch.compiler.is_compiling():
        _check(memory, episode, index, mask, position, out)
        return _call(memory, episode, index, mask, position, out)
    if transformed():
        _check(memory, episode, index, mask, position, out)
        if out is not None:
            raise ValueError(
                f"{_NAME}: out must not be given while derivatives are taken forward, or by torch.func"
            )
        return memory_window_gather_reference(memory, episode, index, mask=mask, position=position)
    try:
        if _checks.debugging() or (out is not None and _needs_gradient(memory, position, out)):
            _check(memory, episode, index, mask, position, out)
        return _call(memory, episode, index, mask, position, out)
    except (RuntimeError, AttributeError):
        _check(memory, episode, index, mask, position, out)
        raise


def _call(
    memory: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None,
    position: Tensor | None,
    out: Tensor | None,
) -> Tensor:
    if out is None:
        return _gather(memory, episode, index, mask, position)
    _gather_out(memory, episode, index, mask, position, out=out)
    if not torch.compiler.is_compiling():
        increment_version(out)  # what autograd has saved of it is no longer there
    return out


def memory_window_gather_reference(
    memory: Tensor,
    episode: Tensor,
    index: Tensor,
    *,
    mask: Tensor | None = None,
    position: Tensor | None = None,
) -> Tensor:
    """What `memory_window_gather` computes, as published: whole episodes, then their windows; for tests."""
    dtype = memory.dtype
    index = index if mask is None else torch.where(mask, index, 0)
    if position is not None:
        memory = memory.double() + position.double()[:, None, :]
    slots, layers, dim = memory.shape[1:]
    episodes = memory[episode]  # [B, S, L, D]
    where = index[:, :, None, None].expand(-1, -1, layers, dim)
    windows = episodes.gather(1, where) if slots else memory.new_empty(*index.shape, layers, dim)
    if mask is not None:
        windows = torch.where(mask[:, :, None, None], windows, torch.zeros((), dtype=windows.dtype))
    return windows.to(dtype)


def _check(
    memory: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None,
    position: Tensor | None,
    out: Tensor | None = None,
) -> None:
    _checks.check_tensors(
        _NAME,
        {"memory": memory, "episode": episode, "index": index},
        {"mask": mask, "position": position, "out": out},
    )
    _checks.check_shape(_NAME, "memory", memory, "[E, S, L, D]", None, None, None, None)
    _checks.check_windows(_NAME, memory, episode, index, mask)
    if position is not None:
        _checks.check_floating(_NAME, "memory", memory, position=position)
        _checks.check_shape(_NAME, "position", position, "[S, D]", memory.shape[1], memory.shape[3])
    if out is not None:
        _check_out(memory, episode, index, mask, position, out)


def _check_out(
    memory: Tensor, episode: Tensor, index: Tensor, mask: Tensor | None, position: Tensor | None, out: Tensor
) -> None:
    if out.dtype != memory.dtype:
        raise TypeError(f"{_NAME}: out must have the dtype of memory, {memory.dtype}, got {out.dtype}")
    _checks.check_shape(_NAME, "out", out, "[B, W, L, D]", *index.shape, *memory.shape[2:])
    if not out.is_contiguous():
        raise ValueError(f"{_NAME}: out must be contiguous, got strides {list(out.stride())}")
    _checks.check_materialized(_NAME, "out", out)
    if _needs_gradient(memory, position, out):
        raise ValueError(
            f"{_NAME}: out must not be given where gradients are wanted: detach memory, position and out, "
            "or leave out away"
        )
    for name, tensor in (
        ("memory", memory),
        ("episode", episode),
        ("index", index),
        ("mask", mask),
        ("position", position),
    ):
        if tensor is not None and tensor.numel() and out.numel() and _checks.share_memory(tensor, out):
            raise ValueError(f"{_NAME}: out must not share memory with {name}")


def _needs_gradient(memory: Tensor, position: Tensor | None, out: Tensor) -> bool:
    given = memory.requires_grad or out.requires_grad or (position is not None and position.requires_grad)
    return given and torch.is_grad_enabled()


@torch.library.register_fake("fastrl::memory_window_gather")
def _fake(
    memory: Tensor, episode: Tensor, index: Tensor, mask: Tensor | None = None, position: Tensor | None = None
) -> Tensor:
    _check(memory, episode, index, mask, position)
    return memory.new_empty([*index.shape, *memory.shape[2:]])


@torch.library.register_fake("fastrl::memory_window_gather.out")
def _out_fake(
    memory: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None = None,
    position: Tensor | None = None,
    *,
    out: Tensor,
) -> None:
    _check(memory, episode, index, mask, position, out)


@torch.library.register_fake("fastrl::memory_window_gather_backward")
def _backward_fake(
    gradient: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None,
    episodes: int,
    slots: int,
    to_memory: bool,
    to_position: bool,
) -> tuple[Tensor, Tensor]:
    _checks.check_shape(
        "memory_window_gather_backward", "gradient", gradient, "[B, W, L, D]", *index.shape, None, None
    )
    layers, dim = gradient.shape[2:]
    return gradient.new_empty([episodes if to_memory else 0, slots, layers, dim]), gradient.new_empty(
        [slots if to_position else 0, dim]
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    memory, episode, index, mask, position = inputs
    ctx.save_for_backward(episode, index, mask)
    ctx.episodes, ctx.slots = memory.shape[:2]
    ctx.has_position = position is not None


def _call_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    episode, index, mask = ctx.saved_tensors
    to_memory, to_position = ctx.needs_input_grad[0], ctx.has_position and ctx.needs_input_grad[4]
    memory, position = _backward_op(
        gradient, episode, index, mask, ctx.episodes, ctx.slots, to_memory, to_position
    )
    return memory if to_memory else None, None, None, None, position if to_position else None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, episode, index, mask, _, _, ctx.to_memory, ctx.to_position = inputs
    ctx.save_for_backward(episode, index, mask)
    ctx.episodes, ctx.slots = inputs[4], inputs[5]


def _backward_backward(ctx: Any, memory: Tensor, position: Tensor) -> tuple[Any, ...]:
    # gathering is linear: what the gradient of the gather gathers from is a gather again
    episode, index, mask = ctx.saved_tensors
    if not ctx.to_memory:
        memory = position.new_zeros(1, 1, 1, 1).expand(
            ctx.episodes, ctx.slots, memory.shape[2], memory.shape[3]
        )
    gradient = _gather(memory, episode, index, mask, position if ctx.to_position else None)
    return gradient, None, None, None, None, None, None, None


torch.library.register_autograd("fastrl::memory_window_gather", _call_backward, setup_context=_save)
torch.library.register_autograd(
    "fastrl::memory_window_gather_backward", _backward_backward, setup_context=_save_backward
)
