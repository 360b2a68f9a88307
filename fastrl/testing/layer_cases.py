"""Cases of the ops that are a part of a network's layer."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import Inputs, OpCase, random_elements, refuse, refuse_one


def _make_layer(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    """sizes: G, rows of a group, D."""
    groups, each, features = sizes
    return {
        "x": random_elements((groups * each, features), dtype, device, generator),
        "weight": random_elements((features,), dtype, device, generator),
        "bias": random_elements((features,), dtype, device, generator),
        "shift": random_elements((groups, features), dtype, device, generator),
    }


_LAYER_REFUSALS = (
    refuse_one("x", "a list", TypeError, "must be a torch.Tensor, got list", lambda _: [[1.0]]),
    refuse_one("x", "sparse", TypeError, "must be a dense tensor", Tensor.to_sparse),
    refuse_one(
        "x", "as integers", TypeError, "must be float32, float64, bfloat16 or float16, got int64", Tensor.long
    ),
    refuse_one("x", "of rank 1", ValueError, "must have shape [R, D], got [8]", lambda x: x[0]),
    *(
        refusal
        for name in ("weight", "bias")
        for refusal in (
            refuse_one(
                name,
                "of another dtype",
                TypeError,
                "must have the dtype of x, float32, got float64",
                Tensor.double,
            ),
            refuse_one(
                name,
                "of rank 2",
                ValueError,
                "must have shape [D] = [8], got [1, 8]",
                lambda weight: weight[None],
            ),
            refuse_one(
                name, "too short", ValueError, "must have shape [D] = [8], got [7]", lambda weight: weight[1:]
            ),
            refuse_one(
                name,
                "on another device",
                ValueError,
                "must be on the device of x",
                lambda weight: weight.to("meta"),
            ),
        )
    ),
    refuse_one("shift", "a number", TypeError, "must be a torch.Tensor, got int", lambda _: 1),
    refuse_one(
        "shift",
        "of another dtype",
        TypeError,
        "must have the dtype of x, float32, got bfloat16",
        Tensor.bfloat16,
    ),
    refuse_one(
        "shift", "of rank 1", ValueError, "must have shape [G, D] = [any, 8], got [8]", lambda shift: shift[0]
    ),
    refuse_one(
        "shift",
        "of other features",
        ValueError,
        "must have shape [G, D] = [any, 8], got [4, 7]",
        lambda shift: shift[:, 1:],
    ),
    refuse(
        "groups that do not come out even",
        ValueError,
        "shift must have a number of rows that divides R = 11, got 4",
        x=lambda x: x[1:],
    ),
    refuse_one(
        "shift",
        "empty",
        ValueError,
        "must have a number of rows that divides R = 12, got 0",
        lambda shift: shift[:0],
    ),
    refuse_one("eps", "negative", ValueError, "must not be negative, got -1.0", lambda _: -1.0),
    refuse_one("eps", "not a number", ValueError, "must not be negative, got nan", lambda _: float("nan")),
    refuse_one("eps", "beyond floats", ValueError, "must be within the range of a float", lambda _: 10**400),
    refuse_one("eps", "a string", TypeError, "must be a number, got str", str),
    refuse_one("eps", "a flag", TypeError, "must be a number, got bool", lambda _: True),
    refuse_one("eps", "a tensor", TypeError, "must be a number, got Tensor", torch.tensor),
)

LAYER_CASES = (
    OpCase(
        name="layer_norm_tanh",
        op=ops.layer_norm_tanh,
        reference=ops.layer_norm_tanh_reference,
        make=_make_layer,
        settings={"eps": 1e-3},
        # rows of less and more than a chunk of 16 lanes, with and without whole chunks, and than the four
        # that are added up together
        sizes=((1, 1, 1), (3, 2, 5), (2, 3, 16), (4, 1, 33), (1, 7, 64), (2, 2, 200), (16, 20, 512)),
        empty_sizes=((0, 3, 4), (2, 3, 0)),
        small=(4, 3, 8),
        traced_sizes=((4, 3, 8), (5, 3, 20), (17, 3, 33)),
        large_sizes=((64, 20, 670), (3, 1000, 512)),
        gradcheck_sizes=(2, 2, 3),
        optional=("shift",),
        differentiable=("x", "weight", "bias", "shift"),
        refusals=_LAYER_REFUSALS,
        bench_sizes=((256, 1, 512), (51, 20, 512)),
        bench_bytes=lambda sizes: sizes[0] * sizes[1] * sizes[2] * (4 + 4),
    ),
)
