"""Cases of the ops that scan a rollout from its last step to its first."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import Inputs, OpCase, random_elements, random_flags, refuse

TIME_MAJOR_SIZES = ((1, 1), (5, 3), (2048, 1), (700, 7), (37, 15), (33, 16), (6, 24), (20, 37), (6, 50), (64, 64), (9, 100), (3, 4200))
SCAN_BENCH_SIZES = ((128, 8), (128, 64), (2048, 1), (2048, 64), (1024, 4096))
SCAN_GPU_BENCH_SIZES = ((16, 4096), (256, 4096), (4096, 128), (2048, 16384))


def _make_gae(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Inputs:
    steps, envs = sizes
    return {
        "rewards": random_elements(sizes, dtype, device, generator),
        "values": random_elements((steps + 1, envs), dtype, device, generator),
        "terminated": random_flags(sizes, 0.05, device, generator),
        "truncated": random_flags(sizes, 0.05, device, generator),
        "valid": random_flags(sizes, 0.9, device, generator),
    }


_GAE_REFUSALS = (
    refuse("a list for rewards", TypeError, "rewards must be a torch.Tensor, got list", rewards=lambda _: [1.0]),
    refuse("None for values", TypeError, "values must be a torch.Tensor, got NoneType", values=lambda _: None),
    refuse("a number for valid", TypeError, "valid must be a torch.Tensor, got int", valid=lambda _: 1),
    refuse("sparse rewards", TypeError, "rewards must be a dense tensor", rewards=Tensor.to_sparse),
    refuse("sparse values", TypeError, "values must be a dense tensor", values=Tensor.to_sparse),
    refuse("integer rewards", TypeError, "rewards must be float32, float64, bfloat16 or float16, got int64", rewards=Tensor.long),
    refuse("complex rewards", TypeError, "rewards must be float32, float64, bfloat16 or float16, got complex64", rewards=lambda r: r + 1j),
    refuse("mixed dtypes", TypeError, "values must have the dtype of rewards, float32, got float64", values=Tensor.double),
    refuse("rewards of rank 1", ValueError, "rewards must have shape [T, N], got [8]", rewards=lambda r: r[0]),
    refuse("rewards of rank 3", ValueError, "rewards must have shape [T, N], got [1, 12, 8]", rewards=lambda r: r[None]),
    refuse("a row of values missing", ValueError, "values must have shape [T+1, N] = [13, 8], got [12, 8]", values=lambda v: v[1:]),
    refuse("values of rank 1", ValueError, "values must have shape [T+1, N] = [13, 8], got [8]", values=lambda v: v[0]),
    refuse("terminated as numbers", TypeError, "terminated must be bool, got float32", terminated=Tensor.float),
    refuse("truncated as bytes", TypeError, "truncated must be bool, got uint8", truncated=Tensor.byte),
    refuse("valid as numbers", TypeError, "valid must be bool, got int32", valid=Tensor.int),
    refuse("one column", ValueError, "terminated must have shape [T, N] = [12, 8], got [12, 1]", terminated=lambda flag: flag[:, :1]),
    refuse("truncated transposed", ValueError, "truncated must have shape [T, N] = [12, 8], got [8, 12]", truncated=Tensor.t),
    refuse("valid of rank 1", ValueError, "valid must have shape [T, N] = [12, 8], got [8]", valid=lambda flag: flag[0]),
    refuse("values on another device", ValueError, "values must be on the device of rewards", values=lambda v: v.to("meta")),
    refuse("gamma above 1", ValueError, "gamma must be in [0, 1], got 1.5", gamma=lambda _: 1.5),
    refuse("gamma not a number", ValueError, "gamma must be in [0, 1], got nan", gamma=lambda _: float("nan")),
    refuse("gamma a tensor", TypeError, "gamma must be a number, got Tensor", gamma=torch.tensor),
    refuse("gamma a string", TypeError, "gamma must be a number, got str", gamma=str),
    refuse("gae_lambda below 0", ValueError, "gae_lambda must be in [0, 1], got -0.1", gae_lambda=lambda _: -0.1),
    refuse("gae_lambda a flag", TypeError, "gae_lambda must be a number, got bool", gae_lambda=lambda _: True),
)

SCAN_CASES = (
    OpCase(
        name="gae",
        op=ops.gae,
        reference=ops.gae_reference,
        make=_make_gae,
        settings={"gamma": 0.99, "gae_lambda": 0.95},
        sizes=TIME_MAJOR_SIZES,
        empty_sizes=((0, 3), (4, 0), (0, 0)),
        optional=("valid",),
        refusals=_GAE_REFUSALS,
        bench_sizes=SCAN_BENCH_SIZES,
        gpu_bench_sizes=SCAN_GPU_BENCH_SIZES,
        # rewards, values, two flags in; advantages and returns out
        bench_bytes=lambda sizes: sizes[0] * sizes[1] * (4 + 4 + 1 + 1 + 4 + 4),
    ),
)
