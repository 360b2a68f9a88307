"""Cases of the ops that read a replay storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import EVERY_KIND, Inputs, OpCase, random_elements, random_indices, refuse

# capacity C, streams N, batch B, length of an observation
Sizes = tuple[int, ...]
SEQ_LEN = 3


def _make_gather_sequences(
    sizes: Sizes, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    capacity, envs, batch, features = sizes
    ring = (capacity, envs)
    fields = [
        random_elements((*ring, features), dtype, device, generator),  # observations
        random_elements((*ring, 2, 3), dtype, device, generator),  # of rank 4
        random_elements(ring, dtype, device, generator),  # rewards
        random_elements(ring, torch.bool, device, generator),  # flags
        random_elements((*ring, 5), torch.uint8, device, generator),
    ]
    start = random_indices((batch,), capacity, device, generator)
    start[: batch // 4] = capacity - 1  # these windows go round the end
    return {"fields": fields, "start": start, "env": random_indices((batch,), envs, device, generator)}


def _first(change: Callable[[Tensor], Any]) -> Callable[[list[Tensor]], list[Any]]:
    return lambda fields: [change(fields[0]), *fields[1:]]


def _last(change: Callable[[Tensor], Any]) -> Callable[[list[Tensor]], list[Any]]:
    return lambda fields: [*fields[:-1], change(fields[-1])]


def _one(value: int) -> Callable[[Tensor], Tensor]:
    """The index with its last element replaced."""
    return lambda index: torch.cat([index[:-1], index.new_tensor([value])])


_REFUSALS = (
    refuse(
        "a tensor for fields",
        TypeError,
        "fields must be a list of tensors, got Tensor",
        fields=lambda fields: fields[0],
    ),
    refuse(
        "None for fields", TypeError, "fields must be a list of tensors, got NoneType", fields=lambda _: None
    ),
    refuse("no fields", ValueError, "fields must hold at least one tensor", fields=lambda _: []),
    refuse(
        "a number among fields",
        TypeError,
        "fields[4] must be a torch.Tensor, got float",
        fields=_last(lambda _: 1.0),
    ),
    refuse("a sparse field", TypeError, "fields[0] must be a dense tensor", fields=_first(Tensor.to_sparse)),
    refuse(
        "a field of rank 1",
        ValueError,
        "fields[0] must have shape [C, N, ...], got [12]",
        fields=_first(lambda f: f[:, 0, 0]),
    ),
    refuse(
        "a shorter field",
        ValueError,
        "fields[4] must have shape [C, N, ...] = [12, 4, ...], got [11, 4, 5]",
        fields=_last(lambda f: f[1:]),
    ),
    refuse(
        "a field of other streams",
        ValueError,
        "fields[4] must have shape [C, N, ...] = [12, 4, ...], got [12, 3, 5]",
        fields=_last(lambda f: f[:, 1:]),
    ),
    refuse(
        "a field on another device",
        ValueError,
        "fields[4] must be on the device of fields[0]",
        fields=_last(lambda f: f.to("meta")),
    ),
    refuse("start as int32", TypeError, "start must be int64, got int32", start=Tensor.int),
    refuse("env as numbers", TypeError, "env must be int64, got float32", env=Tensor.float),
    refuse("a list for start", TypeError, "start must be a torch.Tensor, got list", start=Tensor.tolist),
    refuse("start of rank 0", ValueError, "start must have shape [B], got []", start=lambda start: start[0]),
    refuse(
        "env of rank 2", ValueError, "env must have shape [B] = [8], got [8, 1]", env=lambda env: env[:, None]
    ),
    refuse("env too short", ValueError, "env must have shape [B] = [8], got [7]", env=lambda env: env[1:]),
    refuse("seq_len 0", ValueError, "seq_len must be in [1, C] = [1, 12], got 0", seq_len=lambda _: 0),
    refuse(
        "seq_len above C", ValueError, "seq_len must be in [1, C] = [1, 12], got 13", seq_len=lambda _: 13
    ),
    refuse(
        "seq_len huge",
        ValueError,
        "seq_len must be in [1, C] = [1, 12], got 9223372036854775807",
        seq_len=lambda _: 2**63 - 1,
    ),
    refuse("seq_len a number", TypeError, "seq_len must be an int, got float", seq_len=float),
    refuse("seq_len a flag", TypeError, "seq_len must be an int, got bool", seq_len=bool),
    refuse(
        "start below 0",
        IndexError,
        "start must be in [0, C) = [0, 12), got -1",
        by_value=True,
        start=_one(-1),
    ),
    refuse("start C", IndexError, "start must be in [0, C) = [0, 12), got 12", by_value=True, start=_one(12)),
    refuse(
        "env below 0",
        IndexError,
        f"env must be in [0, N) = [0, 4), got {-(2**63)}",
        by_value=True,
        env=_one(-(2**63)),
    ),
    refuse("env N", IndexError, "env must be in [0, N) = [0, 4), got 4", by_value=True, env=_one(4)),
)


def _bytes(sizes: Sizes) -> int:
    _, _, batch, features = sizes
    return 2 * SEQ_LEN * batch * (4 * features + 4 * 6 + 4 + 1 + 5)


REPLAY_CASES = (
    OpCase(
        name="gather_sequences",
        op=ops.gather_sequences,
        reference=ops.gather_sequences_reference,
        make=_make_gather_sequences,
        settings={"seq_len": SEQ_LEN},
        # rows of every width that is copied in its own way, tiles that are full and tiles that are not
        sizes=(
            (3, 1, 1, 1),
            (5, 3, 7, 2),
            (40, 2, 100, 3),
            (9, 5, 23, 17),
            (50, 1, 300, 20),
            (33, 4, 65, 70),
            (64, 3, 40, 401),
            (7, 2, 9, 9000),
        ),
        empty_sizes=((4, 3, 0, 5), (3, 0, 0, 2)),
        small=(12, 4, 8, 6),
        traced_sizes=((12, 4, 8, 6), (20, 5, 16, 3), (33, 3, 5, 7)),
        large_sizes=((100, 30, 4000, 90),),
        dtypes=EVERY_KIND,
        refusals=_REFUSALS,
        bench_sizes=((100_000, 1, 256, 17), (100_000, 1, 256, 376)),
        gpu_bench_sizes=((100_000, 8, 4096, 376),),
        bench_bytes=_bytes,
    ),
)
