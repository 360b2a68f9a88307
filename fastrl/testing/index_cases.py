"""Cases of the ops that gather rows by index."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import (
    EVERY_KIND,
    Inputs,
    OpCase,
    Refusal,
    random_elements,
    random_flags,
    random_indices,
    refuse,
    refuse_one,
)


def _make_select(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    """sizes: B, axes before, S, axes behind, W; axes of size 1 are left away before S."""
    batch, before, size, behind, selected = sizes
    shape = (batch, *((before,) if before != 1 else ()), size, behind)
    return {
        "input": random_elements(shape, dtype, device, generator),
        "dim": len(shape) - 2,
        "index": random_indices((batch, selected), size, device, generator),
    }


def _outside(index: Tensor) -> Tensor:
    changed = index.clone()
    changed.view(-1)[-1] = 10**6
    return changed


_INDEX_REFUSALS = (
    refuse_one("index", "a list", TypeError, "must be a torch.Tensor, got list", lambda _: [[0]]),
    refuse_one("index", "sparse", TypeError, "must be a dense tensor", Tensor.to_sparse),
    refuse_one("index", "as numbers", TypeError, "must be int64, got float32", Tensor.float),
    refuse_one("index", "as int32", TypeError, "must be int64, got int32", Tensor.int),
    refuse_one(
        "index",
        "negative",
        IndexError,
        "must be in [0, S) = [0, 5), got -1",
        lambda index: index * 0 - 1,
        by_value=True,
    ),
    refuse_one(
        "index", "too large", IndexError, "must be in [0, S) = [0, 5), got 1000000", _outside, by_value=True
    ),
    refuse_one(
        "index", "on another device", ValueError, "must be on the device of", lambda index: index.to("meta")
    ),
)

_SELECT_REFUSALS = (
    *_INDEX_REFUSALS,
    refuse_one(
        "index", "of rank 1", ValueError, "must have shape [B, W] = [4, any], got [6]", lambda index: index[0]
    ),
    refuse_one(
        "index",
        "of another batch",
        ValueError,
        "must have shape [B, W] = [4, any], got [3, 6]",
        lambda index: index[1:],
    ),
    refuse_one("input", "None", TypeError, "must be a torch.Tensor, got NoneType", lambda _: None),
    refuse_one("input", "sparse", TypeError, "must be a dense tensor", Tensor.to_sparse),
    refuse_one(
        "input",
        "of rank 1",
        ValueError,
        "must have shape [B, ..., S, ...], got [4]",
        lambda input: input[:, 0, 0, 0],
    ),
    refuse_one(
        "dim",
        "first",
        ValueError,
        "must be an axis of input other than the first, got 0 for 4 axes",
        lambda _: 0,
    ),
    refuse_one(
        "dim",
        "first from the end",
        ValueError,
        "must be an axis of input other than the first, got -4",
        lambda _: -4,
    ),
    refuse_one(
        "dim",
        "too large",
        ValueError,
        "must be an axis of input other than the first, got 4 for 4 axes",
        lambda _: 4,
    ),
    refuse_one("dim", "a flag", TypeError, "must be an int, got bool", lambda _: True),
    refuse_one("dim", "a fraction", TypeError, "must be an int, got float", lambda _: 1.0),
)


def make_windows(
    batch: int,
    window: int,
    episodes: int,
    slots: int,
    device: torch.device,
    generator: torch.Generator,
    visible: float = 0.7,
) -> Inputs:
    """Which windows a call reads: episodes, slots, mask; what is masked points nowhere."""
    index = random_indices((batch, window), slots, device, generator)
    mask = random_flags((batch, window), visible if slots else 0.0, device, generator)
    return {
        "episode": random_indices((batch,), episodes, device, generator),
        "index": index if slots else index * 0,
        "mask": mask,
    }


def _make_gather(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    """sizes: E, S, L, D, B, W."""
    episodes, slots, layers, dim, batch, window = sizes
    floating = dtype.is_floating_point
    return {
        "memory": random_elements((episodes, slots, layers, dim), dtype, device, generator),
        **make_windows(batch, window, episodes, slots, device, generator),
        "position": random_elements((slots, dim), dtype, device, generator) if floating else None,
    }


WINDOW_REFUSALS: tuple[Refusal, ...] = (
    *_INDEX_REFUSALS,
    refuse_one("index", "of rank 1", ValueError, "must have shape [B, W], got [4]", lambda index: index[0]),
    refuse_one("index", "of another window", ValueError, "must have shape", lambda index: index[0]),
    refuse_one("episode", "a list", TypeError, "must be a torch.Tensor, got list", lambda _: [0]),
    refuse_one("episode", "as numbers", TypeError, "must be int64, got float32", Tensor.float),
    refuse_one(
        "episode",
        "of another batch",
        ValueError,
        "must have shape [B] = [6], got [5]",
        lambda episode: episode[1:],
    ),
    refuse_one(
        "episode",
        "negative",
        IndexError,
        "must be in [0, E) = [0, 3), got -1",
        lambda episode: episode * 0 - 1,
        by_value=True,
    ),
    refuse_one(
        "episode", "too large", IndexError, "must be in [0, E) = [0, 3), got 1000000", _outside, by_value=True
    ),
    refuse_one("mask", "as numbers", TypeError, "must be bool, got float32", Tensor.float),
    refuse_one(
        "mask", "of rank 1", ValueError, "must have shape [B, W] = [6, 4], got [4]", lambda mask: mask[0]
    ),
    refuse_one("mask", "a number", TypeError, "must be a torch.Tensor, got int", lambda _: 1),
)


def unmasked(refusal: Refusal) -> Refusal:
    """The refusal without a mask, which might hide the values that are wrong."""
    return dataclasses.replace(refusal, change=lambda good: {**refusal.change(good), "mask": None})


_GATHER_REFUSALS = (
    *(unmasked(refusal) if refusal.by_value else refusal for refusal in WINDOW_REFUSALS),
    refuse_one("memory", "None", TypeError, "must be a torch.Tensor, got NoneType", lambda _: None),
    refuse_one(
        "memory",
        "of rank 3",
        ValueError,
        "must have shape [E, S, L, D], got [5, 2, 7]",
        lambda memory: memory[0],
    ),
    refuse(
        "a position on integers",
        TypeError,
        "memory must be float32, float64, bfloat16 or float16, got int64",
        memory=Tensor.long,
    ),
    refuse_one(
        "position",
        "of another dtype",
        TypeError,
        "must have the dtype of memory, float32, got float64",
        Tensor.double,
    ),
    refuse_one(
        "position",
        "of another size",
        ValueError,
        "must have shape [S, D] = [5, 7], got [4, 7]",
        lambda position: position[1:],
    ),
    refuse_one(
        "position",
        "on another device",
        ValueError,
        "must be on the device of memory",
        lambda position: position.to("meta"),
    ),
)

INDEX_CASES = (
    OpCase(
        name="batched_index_select",
        op=ops.batched_index_select,
        reference=ops.batched_index_select_reference,
        make=_make_select,
        settings={},
        sizes=(
            (1, 1, 1, 1, 1),
            (3, 1, 4, 5, 6),
            (2, 3, 5, 4, 1),
            (4, 2, 7, 33, 20),
            (5, 1, 300, 1, 40),
            (2, 1, 3, 1500, 9),
        ),
        empty_sizes=((0, 1, 3, 2, 4), (3, 1, 4, 5, 0), (2, 1, 3, 0, 4), (2, 1, 0, 3, 0)),
        small=(4, 3, 5, 2, 6),
        traced_sizes=((4, 3, 5, 2, 6), (7, 4, 9, 3, 2), (2, 5, 3, 6, 11)),
        large_sizes=((64, 3, 50, 64, 120), (600, 1, 64, 96, 64)),
        gradcheck_sizes=(2, 2, 3, 2, 4),
        dtypes=EVERY_KIND,
        differentiable=("input",),
        refusals=_SELECT_REFUSALS,
        bench_sizes=((64, 1, 16, 256, 16), (512, 1, 119, 1152, 119)),
        bench_bytes=lambda sizes: 8 * sizes[0] * sizes[1] * sizes[3] * sizes[4],
    ),
    OpCase(
        name="memory_window_gather",
        op=ops.memory_window_gather,
        reference=ops.memory_window_gather_reference,
        make=_make_gather,
        settings={},
        sizes=(
            (1, 1, 1, 1, 1, 1),
            (3, 5, 2, 7, 6, 4),
            (2, 9, 1, 64, 5, 3),
            (4, 30, 3, 33, 20, 17),
            (2, 40, 2, 300, 9, 12),
        ),
        empty_sizes=(
            (3, 5, 2, 7, 0, 4),
            (3, 5, 2, 7, 6, 0),
            (3, 5, 2, 0, 6, 4),
            (0, 5, 2, 7, 0, 4),
            (3, 0, 2, 7, 6, 0),
        ),
        small=(3, 5, 2, 7, 6, 4),
        traced_sizes=((3, 5, 2, 7, 6, 4), (4, 8, 3, 6, 9, 5), (2, 11, 5, 4, 12, 3)),
        large_sizes=((8, 64, 3, 96, 64, 40), (16, 32, 1, 384, 600, 16)),
        gradcheck_sizes=(2, 3, 2, 2, 3, 4),
        dtypes=EVERY_KIND,
        optional=("mask", "position"),
        differentiable=("memory", "position"),
        refusals=_GATHER_REFUSALS,
        bench_sizes=((64, 16, 4, 64, 64, 16), (32, 256, 3, 384, 128, 119)),
        gpu_bench_sizes=((32, 1024, 3, 384, 512, 119),),
        bench_bytes=lambda sizes: 8 * sizes[2] * sizes[3] * sizes[4] * sizes[5],
    ),
)
