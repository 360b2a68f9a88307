"""Attention over windows of a Transformer-XL memory, without building the windows."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import torch
from torch import Tensor

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_attention = torch.ops.fastrl.memory_attention.default
_to_query_op = torch.ops.fastrl.memory_attention_to_query.default
_to_bank_op = torch.ops.fastrl.memory_attention_to_bank.default
_NAME = "memory_attention"


def memory_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    episode: Tensor,
    index: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Softmax attention of each sample's query over its window of a memory bank, read where it lies.

    out[b, h, :] = Σ_w p_w value[e, s_w, h, :],  p = softmax_w(scale · query[b, h, :] · key[e, s_w, h, :])
    with e = episode[b] and s_w = index[b, w]

    Neither windows nor scores become tensors. Keys and values are projected once for each of the E·S slots of
    the bank, not once for each of the B·W slots of all windows.

    Args:
        query: [B, H, K]: a query of K features for each of H heads; float32, float64, bfloat16 or float16
            (half precision accumulates in float32). Tensors here may have any strides, parts of one fused
            projection too.
        key: [E, S, H, K], dtype of query: E episodes, S slots (episode steps).
        value: shape and dtype of key.
        episode: [B] int64 in [0, E).
        index: [B, W] int64, the slots of each window in any order, in [0, S) wherever mask is True; elsewhere
            nothing is read, and it may be anything. A slot that is there twice counts twice.
        mask: [B, W] bool, True where the slot is part of the window, or None if all are.
        scale: a number that the scores are multiplied with, finite in float32 unless query is float64; None:
            1/√K.

    Returns: out [B, H, K], contiguous, of the dtype of query. A sample that sees no slot at all gets zeros.
    Raises: TypeError, ValueError or IndexError, naming the argument. On CUDA values of episode and index are
        looked at only if FASTRL_DEBUG=1, for that makes the GPU wait.
    Gradient: in query, key and value, once: a gradient of a gradient raises an error. Weights are computed
        anew; what a slot gets from the windows that see it adds up in the order of the samples, in float32
        for half precision. Derivatives that go forward, and those of `torch.func`: in plain torch.
    Edges: anything may be empty; W = 0 gives zeros. What is not finite in a slot that no window sees stays
        there; in one that is seen it shows, as it does in torch's softmax. Runs on the current CUDA stream.
        Bit-equal from run to run and for every number of threads.
    Reference: Dai et al. 2019, Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context (the
        memory); the softmax that is
        never stored: Milakov, Gimelshein 2018, Online normalizer calculation for softmax.
    """
    if (
        _checks.autocasting()
        and (together := _checks.same_dtype_under_autocast(query, key, value)) is not None
    ):
        query, key, value = together
    if torch.compiler.is_compiling():
        _check(query, key, value, episode, index, mask, scale)
        return _attention(query, key, value, episode, index, mask, scale)[0]
    if transformed():
        _check(query, key, value, episode, index, mask, scale)
        return memory_attention_reference(query, key, value, episode, index, mask=mask, scale=scale)
    try:
        if (
            scale is not None and type(scale) is not float
        ) or _checks.debugging():  # the dispatcher would take tensors for numbers
            _check(query, key, value, episode, index, mask, scale)
            scale = None if scale is None else float(scale)  # an int may be too large for it
        return _attention(query, key, value, episode, index, mask, scale)[0]
    except (RuntimeError, AttributeError):
        _check(query, key, value, episode, index, mask, scale)
        raise


def memory_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    episode: Tensor,
    index: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """What `memory_attention` computes, over gathered windows, in plain torch and float64, for tests."""
    dtype, size = query.dtype, query.shape[2]
    scale = 1 / math.sqrt(max(size, 1)) if scale is None else float(scale)
    mask = torch.ones_like(index, dtype=torch.bool) if mask is None else mask
    if not mask.any():
        return (query.double() * 0.0).nan_to_num(0.0).to(dtype)
    visible = mask[:, :, None, None]  # [B, W, 1, 1]
    where = (episode[:, None], torch.where(mask, index, 0))
    keys = torch.where(visible, key[where].double(), 0.0)  # [B, W, H, K]
    values = torch.where(visible, value[where].double(), 0.0)
    products = _held(_held(query.double()[:, None] * keys, dtype).sum(-1), dtype).movedim(1, 2)  # [B, H, W]
    scores = _held(scale * products, dtype).masked_fill(~mask[:, None, :], -math.inf)
    seeing = mask.any(1)[:, None, None]  # [B, 1, 1]
    scores = torch.where(seeing, scores, 0.0)
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    sums = _held(torch.einsum("bhw,bwhk->bhk", weights, values), dtype)
    return torch.where(seeing, sums / weights.sum(-1, keepdim=True), 0.0).to(dtype)


def _held(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Infinite where the type that accumulates for `dtype` cannot hold x."""
    most = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).max
    return torch.where(x.abs() > most, math.inf * x.detach().sign(), x)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: float | None = None,
) -> None:
    tensors = {"query": query, "key": key, "value": value, "episode": episode, "index": index}
    _checks.check_tensors(_NAME, tensors, {"mask": mask})
    _checks.check_floating(_NAME, "query", query, key=key, value=value)
    _checks.check_shape(_NAME, "query", query, "[B, H, K]", None, None, None)
    _checks.check_shape(_NAME, "key", key, "[E, S, H, K]", None, None, query.shape[1], query.shape[2])
    _checks.check_shape(_NAME, "value", value, "[E, S, H, K]", *key.shape)
    _checks.check_shape(_NAME, "index", index, "[B, W]", None, None)
    _checks.check_shape(_NAME, "index", index, "[B, W]", query.shape[0], None)
    _checks.check_windows(_NAME, key, episode, index, mask)
    if scale is not None:
        _checks.check_finite(_NAME, scale=scale)
        most = torch.finfo(torch.float64 if query.dtype == torch.float64 else torch.float32).max
        if abs(scale) > most:
            raise ValueError(
                f"{_NAME}: scale must be at most {most:.4g} in size for {query.dtype}, got {scale}"
            )


@torch.library.register_fake("fastrl::memory_attention")
def _fake(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    _check(query, key, value, episode, index, mask, scale)
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    statistics = 2 if query.dtype == dtype else 2 + query.shape[2]  # with the result before it was rounded
    return query.new_empty(query.shape), query.new_empty((*query.shape[:2], statistics), dtype=dtype)


@torch.library.register_fake("fastrl::memory_attention_to_query")
def _to_query_fake(gradient: Tensor, query: Tensor, *call: Any) -> Tensor:
    return query.new_empty(query.shape)


@torch.library.register_fake("fastrl::memory_attention_to_bank")
def _to_bank_fake(gradient: Tensor, query: Tensor, key: Tensor, *call: Any) -> tuple[Tensor, Tensor]:
    return key.new_empty(key.shape), key.new_empty(key.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, episode, index, mask, ctx.scale = inputs
    out, statistics = output
    ctx.save_for_backward(query, key, value, episode, index, mask, out, statistics)
    ctx.mark_non_differentiable(statistics)


def _call_backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    query, key, value, episode, index, mask, out, statistics = ctx.saved_tensors
    call = (gradient, query, key, value, episode, index, mask, ctx.scale, out, statistics)
    to_query = _to_query_op(*call) if ctx.needs_input_grad[0] else None
    to_key, to_value = (
        _to_bank_op(*call) if ctx.needs_input_grad[1] or ctx.needs_input_grad[2] else (None, None)
    )
    return to_query, to_key, to_value, None, None, None, None


def _refuse(ctx: Any, *gradients: Tensor) -> NoReturn:
    raise RuntimeError(f"{_NAME}: the gradient of its gradient is not there: it is differentiable once")


torch.library.register_autograd("fastrl::memory_attention", _call_backward, setup_context=_save)
torch.library.register_autograd("fastrl::memory_attention_to_query", _refuse)
torch.library.register_autograd("fastrl::memory_attention_to_bank", _refuse)
