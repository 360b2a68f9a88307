"""The GPU's way of gathering run on the CPU, element by element: its places and sums are right before a GPU
has seen them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastrl import native
from fastrl.testing import EVERY_KIND, FLOATING, OP_CASES, OpCase, layouts, map_tensors

if not native.DEV_LIBRARY.exists():
    pytest.skip(
        "the development library is part of in-place builds only (make build)", allow_module_level=True
    )
torch.ops.load_library(str(native.DEV_LIBRARY))

CASES = [OP_CASES["batched_index_select"], OP_CASES["memory_window_gather"]]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def on_lanes(name: str, *arguments: Any) -> Any:
    return getattr(torch.ops.fastrl_dev, f"{name}_lanes")(*arguments)


def arguments_of(case: OpCase, inputs: dict[str, Any]) -> list[Any]:
    return [
        inputs[argument.name] for argument in getattr(torch.ops.fastrl, case.name).default._schema.arguments
    ]


@each_case
@pytest.mark.parametrize("dtype", [*EVERY_KIND, torch.complex128], ids=str)
def test_lanes_gather_what_the_op_does(case: OpCase, dtype: torch.dtype) -> None:
    for sizes in case.sizes:
        inputs = case.inputs(sizes, dtype)
        for given in (inputs, {**inputs, **dict.fromkeys(case.optional)}):
            for layout in ("as made", "transposed", "gaps", "shifted"):
                lying = (
                    given
                    if layout == "as made"
                    else map_tensors(given, lambda tensor: layouts(tensor)[layout])  # noqa: B023
                )
                arguments = arguments_of(case, lying)
                assert torch.equal(on_lanes(case.name, *arguments), case.op(**given)), (sizes, layout)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_lanes_add_up_selected_gradients_as_the_op_does(dtype: torch.dtype) -> None:
    """On a CPU short rows are added in the order in which they come, on a GPU by destination: the same sums,
    bit for bit."""
    case = CASES[0]
    backward = torch.ops.fastrl.batched_index_select_backward
    for sizes in (*case.sizes, *case.empty_sizes):
        inputs = case.inputs(sizes, dtype)
        gradient = torch.randn(case.op(**inputs).shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        arguments = gradient, inputs["dim"], inputs["index"], inputs["input"].shape[inputs["dim"]]
        assert torch.equal(on_lanes("batched_index_select_backward", *arguments), backward(*arguments))


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_lanes_add_up_the_gradients_of_windows_as_the_op_does(dtype: torch.dtype) -> None:
    case = CASES[1]
    backward = torch.ops.fastrl.memory_window_gather_backward
    for sizes in (*case.sizes, *case.empty_sizes):
        inputs = case.inputs(sizes, dtype)
        gradient = torch.randn(case.op(**inputs).shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        for mask in (inputs["mask"], None) if sizes[1] else (inputs["mask"],):
            arguments = gradient, inputs["episode"], inputs["index"], mask, sizes[0], sizes[1], True, True
            for got, expected in zip(
                on_lanes("memory_window_gather_backward", *arguments), backward(*arguments), strict=True
            ):
                assert torch.equal(got, expected)


def test_divisions_by_multiplication_are_exact() -> None:
    """Up to 2^63, around every multiple where rounding could go wrong, for divisors of every size."""
    generator = torch.Generator().manual_seed(0)
    most = 2**63 - 1
    powers = [2**k + step for k in range(63) for step in (-1, 0, 1) if 0 < 2**k + step <= most]
    drawn = [1 + int(torch.randint(2**k, (1,), generator=generator)) for k in range(1, 62) for _ in range(4)]
    for d in (*powers, *drawn, most, most - 1):
        multiples = (
            [most // d * d, d, *(int(x) * d for x in torch.randint(most // d, (20,), generator=generator))]
            if most // d
            else [0]
        )
        numbers = [n + step for n in multiples for step in (-1, 0, 1) if 0 <= n + step <= most]
        numbers += [0, most, *torch.randint(most, (20,), generator=generator).tolist()]
        quotients, remainders = torch.ops.fastrl_dev.split(torch.tensor(numbers), d)
        assert quotients.tolist() == [n // d for n in numbers] and remainders.tolist() == [
            n % d for n in numbers
        ], d
