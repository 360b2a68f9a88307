"""What tests and benches need to know about an op, and the helpers that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]  # tensors, lists of tensors and numbers by argument name
Outputs = Tensor | tuple[Tensor, ...] | list[Tensor]
Sizes = tuple[int, ...]

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
EVERY_KIND = (*FLOATING, torch.uint8, torch.int64, torch.bool)  # for ops that only move data
# how far a result may lie from the float64 reference: (relative, absolute)
TOLERANCES = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (1e-5, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
    torch.float16: (2e-3, 2e-3),
}
EXACT = (0.0, 0.0)  # for whatever is not floating


@dataclass(frozen=True)
class Refusal:
    """A call that must raise.

    `change` of good inputs of sizes `small`, the exception, and how its message starts after the op's name.

    `by_value` says that elements have to be read to find it: it passes while tracing, and on a GPU unless
    FASTRL_DEBUG=1.
    """

    what: str
    change: Callable[[Inputs], Mapping[str, Any]]
    error: type[Exception]
    message: str
    by_value: bool = False


def refuse(
    what: str,
    error: type[Exception],
    message: str,
    *,
    by_value: bool = False,
    **changes: Callable[[Any], Any],
) -> Refusal:
    """A refusal of good inputs in which every argument named is replaced by what its function makes of it."""
    return Refusal(
        what,
        lambda good: {name: change(good[name]) for name, change in changes.items()},
        error,
        message,
        by_value,
    )


def refuse_one(
    name: str,
    what: str,
    error: type[Exception],
    message: str,
    change: Callable[[Any], Any],
    by_value: bool = False,
) -> Refusal:
    """A refusal of good inputs with one argument replaced; `what` and `message` go on from its name."""
    return Refusal(
        f"{name} {what}", lambda good: {name: change(good[name])}, error, f"{name} {message}", by_value
    )


@dataclass(frozen=True)
class OpCase:
    """An op as tests and benches see it.

    `make(sizes, dtype, device, generator)` gives tensors by argument name, `settings` the rest.
    """

    name: str
    op: Callable[..., Outputs]
    reference: Callable[..., Outputs]
    make: Callable[[Sizes, torch.dtype, torch.device, torch.Generator], Inputs]
    settings: Mapping[str, Any]
    sizes: tuple[
        Sizes, ...
    ]  # every way through the kernels: vectors and what is left over, one tile and several
    empty_sizes: tuple[Sizes, ...]
    small: Sizes = (12, 8)  # refusals speak of these
    traced_sizes: tuple[Sizes, ...] = ((12, 8), (20, 5), (33, 17))  # for one compiled program
    large_sizes: tuple[Sizes, ...] = ((1100, 670), (64, 9000))  # enough to be shared among threads
    gradcheck_sizes: Sizes = (4, 3)
    dtypes: tuple[torch.dtype, ...] = FLOATING
    tolerances: Mapping[torch.dtype, tuple[float, float]] = field(default_factory=lambda: TOLERANCES)
    optional: tuple[str, ...] = ()  # arguments that may be None
    differentiable: tuple[str, ...] = ()  # arguments that receive gradients
    twice_differentiable: bool = True  # if differentiable at all
    refusals: tuple[Refusal, ...] = ()
    bench_sizes: tuple[Sizes, ...] = ()
    gpu_bench_sizes: tuple[Sizes, ...] = ()  # on top, for a GPU: too large for a quick bench of the CPU
    bench_bytes: Callable[[Sizes], int] = field(
        default=lambda sizes: 0
    )  # that must be read and written in float32

    def inputs(
        self,
        sizes: Sizes,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
        **changes: Any,
    ) -> Inputs:
        """Keyword arguments for `op` and `reference`: tensors drawn from `seed`, settings, `changes`."""
        generator = torch.Generator().manual_seed(seed)
        return {**self.make(sizes, dtype, torch.device(device), generator), **self.settings, **changes}


def outputs_of(result: Outputs) -> tuple[Tensor, ...]:
    """The results of an op as a tuple, also where there is only one."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def map_tensors(inputs: Inputs, function: Callable[[Tensor], Any]) -> Inputs:
    """The inputs with every tensor, in lists too, replaced by what `function` makes of it."""

    def mapped(value: Any) -> Any:
        if isinstance(value, Tensor):
            return function(value)
        return [mapped(item) for item in value] if isinstance(value, list) else value

    return {name: mapped(value) for name, value in inputs.items()}


def tensors_of(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
    """Every tensor among the inputs, in lists too, with its argument's name."""
    for name, value in inputs.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Tensor):
                yield name, item


def replace_tensor(inputs: Inputs, old: Tensor, new: Tensor) -> Inputs:
    """The inputs with one tensor exchanged."""
    return map_tensors(inputs, lambda tensor: new if tensor is old else tensor)


def assert_close_to_reference(case: OpCase, inputs: Inputs, result: Outputs) -> None:
    """Raise AssertionError unless `result` is as close to the float64 reference as its dtype allows."""
    expected = outputs_of(case.reference(**map_tensors(inputs, Tensor.cpu)))
    for got, right in zip(outputs_of(result), expected, strict=True):
        relative, absolute = case.tolerances.get(got.dtype, EXACT)
        torch.testing.assert_close(got.cpu(), right, rtol=relative, atol=absolute, equal_nan=True)


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """The same numbers in other memory layouts: transposed, with gaps in each dimension, at an offset."""
    transposed = tensor.movedim(0, -1).contiguous().movedim(-1, 0)
    wide = tensor.new_zeros([2 * size + 1 for size in tensor.shape])
    gaps = wide[tuple(slice(1, 2 * size + 1, 2) for size in tensor.shape)]
    gaps.copy_(tensor)
    long = tensor.new_zeros(tensor.numel() + 1)
    shifted = long[1:].view(tensor.shape)
    shifted.copy_(tensor)
    return {"transposed": transposed, "gaps": gaps, "shifted": shifted}


def random_flags(
    sizes: Sizes, probability: float, device: torch.device, generator: torch.Generator
) -> Tensor:
    """bool of shape `sizes`, each set with `probability`."""
    return (torch.rand(sizes, generator=generator) < probability).to(device)


def random_elements(
    sizes: Sizes, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    """Standard normal numbers, or whole numbers for dtypes that hold no others."""
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator).to(device, dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, sizes, generator=generator).to(device, dtype)


def random_indices(sizes: Sizes, below: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """int64 in [0, below)."""
    return torch.randint(0, max(below, 1), sizes, generator=generator).to(device)
