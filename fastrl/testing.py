"""OP_CASES: what tests and benches need to know about every op. A new op is one more entry.

An entry gives the op, its reference, a maker of inputs, the calls that must be refused, and the sizes worth timing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastrl import ops

Inputs = dict[str, Any]
Outputs = Tensor | tuple[Tensor, ...]

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# how far a result may lie from the float64 reference: (relative, absolute)
TOLERANCES = {torch.float64: (1e-12, 1e-12), torch.float32: (1e-5, 1e-5), torch.bfloat16: (2e-2, 2e-2), torch.float16: (2e-3, 2e-3)}


@dataclass(frozen=True)
class Refusal:
    """A call that must raise: what is changed in good inputs of sizes [12, 8], the exception, and how its message starts after the op."""

    what: str
    change: Callable[[Inputs], Mapping[str, Any]]
    error: type[Exception]
    message: str


@dataclass(frozen=True)
class OpCase:
    """An op as tests and benches see it. `make(sizes, dtype, device, generator)` gives tensors by argument name, `settings` the numbers."""

    name: str
    op: Callable[..., Outputs]
    reference: Callable[..., Outputs]
    make: Callable[[tuple[int, ...], torch.dtype, torch.device, torch.Generator], Inputs]
    settings: Mapping[str, float]
    sizes: tuple[tuple[int, ...], ...]  # every way through the kernels: vectors and what is left over, one tile and several
    empty_sizes: tuple[tuple[int, ...], ...]
    optional: tuple[str, ...] = ()  # arguments that may be None
    differentiable: tuple[str, ...] = ()  # arguments that receive gradients
    refusals: tuple[Refusal, ...] = ()
    bench_sizes: tuple[tuple[int, ...], ...] = ()
    bench_bytes: Callable[[tuple[int, ...]], int] = field(default=lambda sizes: 0)  # that must be read and written in float32

    def inputs(
        self,
        sizes: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
        **changes: Any,
    ) -> Inputs:
        """Keyword arguments for `op` and `reference`: tensors drawn from `seed`, settings, and `changes` on top."""
        generator = torch.Generator().manual_seed(seed)
        return {**self.make(sizes, dtype, torch.device(device), generator), **self.settings, **changes}


def outputs_of(result: Outputs) -> tuple[Tensor, ...]:
    """The results of an op as a tuple, also where there is only one."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def assert_close_to_reference(case: OpCase, inputs: Inputs, result: Outputs) -> None:
    """`result` agrees with the case's float64 reference as closely as its dtype allows; raises AssertionError with the numbers."""
    on_cpu = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    for got, expected in zip(outputs_of(result), outputs_of(case.reference(**on_cpu)), strict=True):
        relative, absolute = TOLERANCES[got.dtype]
        torch.testing.assert_close(got.cpu(), expected, rtol=relative, atol=absolute, equal_nan=True)


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """The same numbers lying differently in memory: transposed, with gaps in every direction, off the start of their storage."""
    transposed = tensor.movedim(0, -1).contiguous().movedim(-1, 0)
    wide = tensor.new_zeros([2 * size + 1 for size in tensor.shape])
    gaps = wide[tuple(slice(1, 2 * size + 1, 2) for size in tensor.shape)]
    gaps.copy_(tensor)
    long = tensor.new_zeros(tensor.numel() + 1)
    shifted = long[1:].view(tensor.shape)
    shifted.copy_(tensor)
    return {"transposed": transposed, "gaps": gaps, "shifted": shifted}


def _make_gae(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Inputs:
    steps, envs = sizes

    def flags(probability: float) -> Tensor:
        return (torch.rand(steps, envs, generator=generator) < probability).to(device)

    return {
        "rewards": torch.randn(steps, envs, generator=generator).to(device, dtype),
        "values": torch.randn(steps + 1, envs, generator=generator).to(device, dtype),
        "terminated": flags(0.05),
        "truncated": flags(0.05),
        "valid": flags(0.9),
    }


_TIME_MAJOR_SIZES = ((1, 1), (5, 3), (2048, 1), (700, 7), (37, 15), (33, 16), (6, 24), (20, 37), (6, 50), (64, 64), (9, 100), (3, 4200))


def _refuse(what: str, error: type[Exception], message: str, **changes: Callable[[Any], Any]) -> Refusal:
    return Refusal(what, lambda good: {name: change(good[name]) for name, change in changes.items()}, error, message)


_GAE_REFUSALS = (
    _refuse("a list for rewards", TypeError, "rewards must be a torch.Tensor, got list", rewards=lambda _: [1.0]),
    _refuse("None for values", TypeError, "values must be a torch.Tensor, got NoneType", values=lambda _: None),
    _refuse("a number for valid", TypeError, "valid must be a torch.Tensor, got int", valid=lambda _: 1),
    _refuse("sparse rewards", TypeError, "rewards must be a dense tensor", rewards=Tensor.to_sparse),
    _refuse("sparse values", TypeError, "values must be a dense tensor", values=Tensor.to_sparse),
    _refuse("integer rewards", TypeError, "rewards must be float32, float64, bfloat16 or float16, got int64", rewards=Tensor.long),
    _refuse("complex rewards", TypeError, "rewards must be float32, float64, bfloat16 or float16, got complex64", rewards=lambda r: r + 1j),
    _refuse("mixed dtypes", TypeError, "values must have the dtype of rewards, float32, got float64", values=Tensor.double),
    _refuse("rewards of rank 1", ValueError, "rewards must have shape [T, N], got [8]", rewards=lambda r: r[0]),
    _refuse("rewards of rank 3", ValueError, "rewards must have shape [T, N], got [1, 12, 8]", rewards=lambda r: r[None]),
    _refuse("a row of values missing", ValueError, "values must have shape [T+1, N] = [13, 8], got [12, 8]", values=lambda v: v[1:]),
    _refuse("values of rank 1", ValueError, "values must have shape [T+1, N] = [13, 8], got [8]", values=lambda v: v[0]),
    _refuse("terminated as numbers", TypeError, "terminated must be bool, got float32", terminated=Tensor.float),
    _refuse("truncated as bytes", TypeError, "truncated must be bool, got uint8", truncated=Tensor.byte),
    _refuse("valid as numbers", TypeError, "valid must be bool, got int32", valid=Tensor.int),
    _refuse("one column", ValueError, "terminated must have shape [T, N] = [12, 8], got [12, 1]", terminated=lambda flag: flag[:, :1]),
    _refuse("truncated transposed", ValueError, "truncated must have shape [T, N] = [12, 8], got [8, 12]", truncated=Tensor.t),
    _refuse("valid of rank 1", ValueError, "valid must have shape [T, N] = [12, 8], got [8]", valid=lambda flag: flag[0]),
    _refuse("values on another device", ValueError, "values must be on the device of rewards", values=lambda v: v.to("meta")),
    _refuse("gamma above 1", ValueError, "gamma must be in [0, 1], got 1.5", gamma=lambda _: 1.5),
    _refuse("gamma not a number", ValueError, "gamma must be in [0, 1], got nan", gamma=lambda _: float("nan")),
    _refuse("gamma a tensor", TypeError, "gamma must be a number, got Tensor", gamma=torch.tensor),
    _refuse("gamma a string", TypeError, "gamma must be a number, got str", gamma=str),
    _refuse("gae_lambda below 0", ValueError, "gae_lambda must be in [0, 1], got -0.1", gae_lambda=lambda _: -0.1),
    _refuse("gae_lambda a flag", TypeError, "gae_lambda must be a number, got bool", gae_lambda=lambda _: True),
)


def _make_tanh(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Inputs:
    return {"x": (4 * torch.randn(sizes, generator=generator)).to(device, dtype)}


_TANH_REFUSALS = (
    _refuse("a list", TypeError, "x must be a torch.Tensor, got list", x=lambda _: [1.0]),
    _refuse("sparse", TypeError, "x must be a dense tensor", x=Tensor.to_sparse),
    _refuse("integers", TypeError, "x must be float32, float64, bfloat16 or float16, got int64", x=Tensor.long),
)

OP_CASES: dict[str, OpCase] = {
    "gae": OpCase(
        name="gae",
        op=ops.gae,
        reference=ops.gae_reference,
        make=_make_gae,
        settings={"gamma": 0.99, "gae_lambda": 0.95},
        sizes=_TIME_MAJOR_SIZES,
        empty_sizes=((0, 3), (4, 0), (0, 0)),
        optional=("valid",),
        refusals=_GAE_REFUSALS,
        bench_sizes=((128, 8), (128, 64), (2048, 1), (2048, 64), (1024, 4096)),
        # rewards, values, two flags in; advantages and returns out
        bench_bytes=lambda sizes: sizes[0] * sizes[1] * (4 + 4 + 1 + 1 + 4 + 4),
    ),
    "tanh": OpCase(
        name="tanh",
        op=ops.tanh,
        reference=ops.tanh_reference,
        make=_make_tanh,
        settings={},
        sizes=((1, 1), (5, 3), (33, 16), (64, 1024), (700, 7, 3)),
        empty_sizes=((0, 3), (4, 0)),
        differentiable=("x",),
        refusals=_TANH_REFUSALS,
        bench_sizes=((16, 512), (1024, 512)),
        bench_bytes=lambda sizes: sizes[0] * sizes[1] * (4 + 4),
    ),
}
