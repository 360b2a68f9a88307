"""Cases of the ops that work element by element."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl import ops
from fastrl.testing.case import Inputs, OpCase, refuse


def _make_activation(
    sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Inputs:
    return {"x": (4 * torch.randn(sizes, generator=generator)).to(device, dtype)}


_ACTIVATION_REFUSALS = (
    refuse("a list", TypeError, "x must be a torch.Tensor, got list", x=lambda _: [1.0]),
    refuse("sparse", TypeError, "x must be a dense tensor", x=Tensor.to_sparse),
    refuse(
        "integers", TypeError, "x must be float32, float64, bfloat16 or float16, got int64", x=Tensor.long
    ),
)


def _activation(name: str) -> OpCase:
    return OpCase(
        name=name,
        op=getattr(ops, name),
        reference=getattr(ops, f"{name}_reference"),
        make=_make_activation,
        settings={},
        sizes=((1, 1), (5, 3), (33, 16), (64, 1024), (700, 7, 3)),
        empty_sizes=((0, 3), (4, 0)),
        differentiable=("x",),
        refusals=_ACTIVATION_REFUSALS,
        bench_sizes=((16, 512), (1024, 512)),
        bench_bytes=lambda sizes: sizes[0] * sizes[1] * (4 + 4),
    )


POINTWISE_CASES = (_activation("tanh"), _activation("elu"))
