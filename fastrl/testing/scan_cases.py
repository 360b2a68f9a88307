"""Cases of the ops that scan a rollout from its last step to its first."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import Inputs, OpCase, Refusal, random_elements, random_flags, refuse, refuse_one

TIME_MAJOR_SIZES = (
    (1, 1),
    (5, 3),
    (2048, 1),
    (700, 7),
    (37, 15),
    (33, 16),
    (6, 24),
    (20, 37),
    (6, 50),
    (64, 64),
    (9, 100),
    (3, 4200),
)


def _make_flags(sizes: tuple[int, ...], device: torch.device, generator: torch.Generator) -> Inputs:
    return {
        "terminated": random_flags(sizes, 0.05, device, generator),
        "truncated": random_flags(sizes, 0.05, device, generator),
        "valid": random_flags(sizes, 0.9, device, generator),
    }


def _maker(*names: str, log_rhos: bool = False) -> Callable[..., Inputs]:
    """A maker of the tensors named, [T, N] each, `values` with a row more, then log-ratios, then flags."""

    def make(
        sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
    ) -> Inputs:
        steps, envs = sizes
        inputs = {
            name: random_elements((steps + (name == "values"), envs), dtype, device, generator)
            for name in (*names, *(("log_rhos",) if log_rhos else ()))
        }
        return {**inputs, **_make_flags(sizes, device, generator)}

    return make


def _rollout_refusals(*others: str) -> tuple[Refusal, ...]:
    """What every op over a rollout refuses; `others` are its floating arguments besides rewards."""
    kinds = "rewards must be float32, float64, bfloat16 or float16, got"
    longer = {"values": ("[T+1, N] = [13, 8]", "[12, 8]", lambda v: v[1:])}
    of_each = []
    for name in others:
        wanted, got, wrong = longer.get(name, ("[T, N] = [12, 8]", "[11, 8]", lambda x: x[1:]))
        of_each += [
            refuse_one(name, "None", TypeError, "must be a torch.Tensor, got NoneType", lambda _: None),
            refuse_one(name, "sparse", TypeError, "must be a dense tensor", Tensor.to_sparse),
            refuse_one(
                name,
                "of mixed dtype",
                TypeError,
                "must have the dtype of rewards, float32, got float64",
                Tensor.double,
            ),
            refuse_one(name, "with a row missing", ValueError, f"must have shape {wanted}, got {got}", wrong),
            refuse_one(name, "of rank 1", ValueError, f"must have shape {wanted}, got [8]", lambda x: x[0]),
            refuse_one(
                name,
                "on another device",
                ValueError,
                "must be on the device of rewards",
                lambda x: x.to("meta"),
            ),
        ]
    return (
        refuse(
            "a list for rewards",
            TypeError,
            "rewards must be a torch.Tensor, got list",
            rewards=lambda _: [1.0],
        ),
        refuse("a number for valid", TypeError, "valid must be a torch.Tensor, got int", valid=lambda _: 1),
        refuse("sparse rewards", TypeError, "rewards must be a dense tensor", rewards=Tensor.to_sparse),
        refuse("integer rewards", TypeError, f"{kinds} int64", rewards=Tensor.long),
        refuse("complex rewards", TypeError, f"{kinds} complex64", rewards=lambda r: r + 1j),
        refuse(
            "rewards of rank 1", ValueError, "rewards must have shape [T, N], got [8]", rewards=lambda r: r[0]
        ),
        refuse(
            "rewards of rank 3",
            ValueError,
            "rewards must have shape [T, N], got [1, 12, 8]",
            rewards=lambda r: r[None],
        ),
        refuse(
            "terminated as numbers",
            TypeError,
            "terminated must be bool, got float32",
            terminated=Tensor.float,
        ),
        refuse("truncated as bytes", TypeError, "truncated must be bool, got uint8", truncated=Tensor.byte),
        refuse("valid as numbers", TypeError, "valid must be bool, got int32", valid=Tensor.int),
        refuse(
            "one column",
            ValueError,
            "terminated must have shape [T, N] = [12, 8], got [12, 1]",
            terminated=lambda flag: flag[:, :1],
        ),
        refuse(
            "truncated transposed",
            ValueError,
            "truncated must have shape [T, N] = [12, 8], got [8, 12]",
            truncated=Tensor.t,
        ),
        refuse(
            "valid of rank 1",
            ValueError,
            "valid must have shape [T, N] = [12, 8], got [8]",
            valid=lambda flag: flag[0],
        ),
        *of_each,
        *_fraction_refusals("gamma"),
    )


def _fraction_refusals(name: str) -> tuple[Refusal, ...]:
    return (
        refuse_one(name, "above 1", ValueError, "must be in [0, 1], got 1.5", lambda _: 1.5),
        refuse_one(name, "below 0", ValueError, "must be in [0, 1], got -0.1", lambda _: -0.1),
        refuse_one(name, "not a number", ValueError, "must be in [0, 1], got nan", lambda _: float("nan")),
        refuse_one(name, "a tensor", TypeError, "must be a number, got Tensor", torch.tensor),
        refuse_one(name, "a string", TypeError, "must be a number, got str", str),
        refuse_one(name, "a flag", TypeError, "must be a number, got bool", lambda _: True),
    )


def _clip_refusals(name: str) -> tuple[Refusal, ...]:
    return (
        refuse_one(name, "below 0", ValueError, "must not be negative, got -0.5", lambda _: -0.5),
        refuse_one(name, "not a number", ValueError, "must not be negative, got nan", lambda _: float("nan")),
        refuse_one(
            name, "beyond floats", ValueError, "must be within the range of a float", lambda _: 10**400
        ),
        refuse_one(name, "None", TypeError, "must be a number, got NoneType", lambda _: None),
    )


# what they share: sizes for every way through the scan, what is empty, what is optional, what is timed
_scan_case = functools.partial(
    OpCase,
    sizes=TIME_MAJOR_SIZES,
    empty_sizes=((0, 3), (4, 0), (0, 0)),
    large_sizes=((1100, 670), (64, 9000), (900, 4200)),
    optional=("valid",),
    bench_sizes=((128, 8), (128, 64), (2048, 1), (2048, 64), (1024, 4096)),
    gpu_bench_sizes=((16, 4096), (256, 4096), (4096, 128), (2048, 16384)),
)


def _bytes(floats: int) -> Callable[[tuple[int, ...]], int]:
    """Bytes of an op that reads and writes so many float32 and reads two flags for each element."""
    return lambda sizes: sizes[0] * sizes[1] * (4 * floats + 2)


SCAN_CASES = (
    _scan_case(
        name="gae",
        op=ops.gae,
        reference=ops.gae_reference,
        make=_maker("rewards", "values"),
        settings={"gamma": 0.99, "gae_lambda": 0.95},
        refusals=(*_rollout_refusals("values"), *_fraction_refusals("gae_lambda")),
        bench_bytes=_bytes(4),
    ),
    _scan_case(
        name="retrace",
        op=ops.retrace,
        reference=ops.retrace_reference,
        make=_maker("rewards", "q_values", "next_values", log_rhos=True),
        settings={"gamma": 0.99, "retrace_lambda": 0.95},
        refusals=(
            *_rollout_refusals("q_values", "next_values", "log_rhos"),
            *_fraction_refusals("retrace_lambda"),
        ),
        bench_bytes=_bytes(5),
    ),
    _scan_case(
        name="vtrace",
        op=ops.vtrace,
        reference=ops.vtrace_reference,
        make=_maker("rewards", "values", log_rhos=True),
        settings={"gamma": 0.99, "vtrace_lambda": 1.0, "rho_clip": 1.0, "c_clip": 1.0, "pg_rho_clip": 1.0},
        refusals=(
            *_rollout_refusals("values", "log_rhos"),
            *_fraction_refusals("vtrace_lambda"),
            *_clip_refusals("rho_clip"),
            *_clip_refusals("c_clip"),
            *_clip_refusals("pg_rho_clip"),
        ),
        bench_bytes=_bytes(5),
    ),
    _scan_case(
        name="dae_targets",
        op=ops.dae_targets,
        reference=ops.dae_targets_reference,
        make=_maker("rewards", "advantages", "values"),
        settings={"gamma": 0.99},
        differentiable=("advantages", "values"),
        refusals=_rollout_refusals("advantages", "values"),
        bench_bytes=_bytes(4),
    ),
)
