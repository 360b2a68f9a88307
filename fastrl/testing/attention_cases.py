"""Cases of the ops that attend."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import Inputs, OpCase, random_elements, refuse, refuse_one
from fastrl.testing.index_cases import WINDOW_REFUSALS, make_windows, unmasked


def _make_attention(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    """sizes: E, S, H, K, B, W."""
    episodes, slots, heads, size, batch, window = sizes
    return {
        "query": random_elements((batch, heads, size), dtype, device, generator),
        "key": random_elements((episodes, slots, heads, size), dtype, device, generator),
        "value": random_elements((episodes, slots, heads, size), dtype, device, generator),
        **make_windows(batch, window, episodes, slots, device, generator),
    }


_ATTENTION_REFUSALS = (
    *(unmasked(refusal) if refusal.by_value else refusal for refusal in WINDOW_REFUSALS),
    refuse(
        "integers",
        TypeError,
        "query must be float32, float64, bfloat16 or float16, got int64",
        query=Tensor.long,
    ),
    refuse("no queries", TypeError, "query must be a torch.Tensor, got NoneType", query=lambda _: None),
    refuse("sparse queries", TypeError, "query must be a dense tensor", query=Tensor.to_sparse),
    refuse(
        "queries of rank 2",
        ValueError,
        "query must have shape [B, H, K], got [2, 7]",
        query=lambda query: query[0],
    ),
    refuse(
        "fewer queries",
        ValueError,
        "index must have shape [B, W] = [5, any], got [6, 4]",
        query=lambda query: query[1:],
    ),
    refuse(
        "fewer indices",
        ValueError,
        "index must have shape [B, W] = [6, any], got [5, 4]",
        index=lambda index: index[1:],
    ),
    refuse_one(
        "key",
        "of another dtype",
        TypeError,
        "must have the dtype of query, float32, got float64",
        Tensor.double,
    ),
    refuse_one(
        "key",
        "of rank 3",
        ValueError,
        "must have shape [E, S, H, K] = [any, any, 2, 7], got [5, 2, 7]",
        lambda key: key[0],
    ),
    refuse_one(
        "key",
        "of other heads",
        ValueError,
        "must have shape [E, S, H, K] = [any, any, 2, 7], got [3, 5, 1, 7]",
        lambda k: k[:, :, 1:],
    ),
    refuse_one(
        "key",
        "of other features",
        ValueError,
        "must have shape [E, S, H, K] = [any, any, 2, 7]",
        lambda key: key[..., 1:],
    ),
    refuse_one(
        "key", "on another device", ValueError, "must be on the device of query", lambda key: key.to("meta")
    ),
    refuse_one(
        "value",
        "of another dtype",
        TypeError,
        "must have the dtype of query, float32, got bfloat16",
        Tensor.bfloat16,
    ),
    refuse_one(
        "value",
        "with a slot less",
        ValueError,
        "must have shape [E, S, H, K] = [3, 5, 2, 7], got [3, 4, 2, 7]",
        lambda v: v[:, 1:],
    ),
    refuse_one(
        "value",
        "with an episode less",
        ValueError,
        "must have shape [E, S, H, K] = [3, 5, 2, 7], got [2, 5, 2, 7]",
        lambda v: v[1:],
    ),
    refuse_one("scale", "infinite", ValueError, "must be finite, got inf", lambda _: float("inf")),
    refuse_one("scale", "not a number", ValueError, "must be finite, got nan", lambda _: float("nan")),
    refuse_one(
        "scale",
        "infinite in float32",
        ValueError,
        "must be at most 3.403e+38 in size for torch.float32, got 1e+39",
        lambda _: 1e39,
    ),
    refuse_one(
        "scale", "beyond floats", ValueError, "must be within the range of a float", lambda _: -(10**400)
    ),
    refuse_one("scale", "a string", TypeError, "must be a number, got str", str),
    refuse_one("scale", "a flag", TypeError, "must be a number, got bool", lambda _: True),
    refuse_one("scale", "a tensor", TypeError, "must be a number, got Tensor", torch.tensor),
)

ATTENTION_CASES = (
    OpCase(
        name="memory_attention",
        op=ops.memory_attention,
        reference=ops.memory_attention_reference,
        make=_make_attention,
        settings={"scale": 0.3},
        # one row, part of a tile of 16 or 32, several tiles, several blocks of tiles; sizes that fill chunks
        # of 16 or 32 and others
        sizes=(
            (1, 1, 1, 1, 1, 1),
            (3, 5, 2, 7, 6, 4),
            (2, 20, 3, 16, 9, 17),
            (3, 40, 4, 33, 20, 40),
            (2, 150, 2, 96, 5, 130),
            (2, 300, 1, 136, 4, 290),
        ),
        empty_sizes=(
            (3, 5, 2, 7, 0, 4),
            (3, 5, 0, 7, 6, 4),
            (3, 5, 2, 0, 6, 4),
            (0, 5, 2, 7, 0, 4),
            (3, 0, 2, 0, 6, 0),
        ),
        small=(3, 5, 2, 7, 6, 4),
        traced_sizes=((3, 5, 2, 7, 6, 4), (4, 8, 3, 6, 9, 5), (2, 11, 5, 4, 12, 3)),
        large_sizes=((8, 128, 4, 64, 600, 40), (40, 60, 2, 20, 1000, 60)),
        gradcheck_sizes=(2, 4, 2, 3, 5, 4),
        optional=("mask", "scale"),
        differentiable=("query", "key", "value"),
        twice_differentiable=False,
        refusals=_ATTENTION_REFUSALS,
        bench_sizes=((32, 512, 4, 96, 32, 119), (16, 512, 4, 96, 256, 119)),
        gpu_bench_sizes=((16, 512, 4, 96, 1024, 119), (64, 1024, 6, 64, 4096, 119)),
        # slots are read from cache where windows overlap: what a call that found each in memory would read
        bench_bytes=lambda sizes: (
            4 * sizes[2] * sizes[3] * (2 * sizes[4] + 2 * min(sizes[4] * sizes[5], sizes[0] * sizes[1]))
        ),
    ),
)
