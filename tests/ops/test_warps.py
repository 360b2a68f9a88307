"""What a GPU's warps do, run on the CPU lane by lane: indices, exchanges and panels are right before a GPU
has seen them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastrl import native
from fastrl.testing import OP_CASES, assert_close_to_reference

if not native.DEV_LIBRARY.exists():
    pytest.skip(
        "the development library is part of in-place builds only (make build)", allow_module_level=True
    )
torch.ops.load_library(str(native.DEV_LIBRARY))

CASE = OP_CASES["memory_attention"]
WARPS = torch.ops.fastrl_dev
# windows of less and more than a tile of 32, and than a block of 128; rows of less and more than a chunk of
# 32, and than a panel of 64
SIZES = (
    *CASE.sizes,
    (2, 20, 2, 31, 5, 31),
    (2, 20, 2, 32, 5, 32),
    (2, 20, 2, 33, 5, 33),
    (3, 40, 1, 64, 40, 128),
    (3, 9, 1, 65, 40, 129),
)


@pytest.mark.parametrize("dtype", CASE.dtypes, ids=str)
@pytest.mark.parametrize("masked", [True, False])
def test_emulated_warps_agree_with_the_reference(dtype: torch.dtype, masked: bool) -> None:
    for seed, sizes in enumerate(SIZES):
        inputs = CASE.inputs(sizes, dtype, seed=seed)
        if masked:
            inputs["index"] = torch.where(inputs["mask"], inputs["index"], -(2**40))
        else:
            inputs["mask"] = None
        assert_close_to_reference(CASE, inputs, WARPS.memory_attention_warps(*inputs_in_order(inputs))[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("masked", [True, False])
def test_emulated_warps_agree_with_the_cpu_about_gradients(masked: bool, dtype: torch.dtype) -> None:
    tolerance = (
        1e-11 if dtype == torch.float64 else 1e-2
    )  # what was added up in another order may be rounded to a neighbour
    for seed, sizes in enumerate(SIZES):
        inputs = CASE.inputs(sizes, dtype, seed=seed)
        if not masked:
            inputs["mask"] = None
        arguments = inputs_in_order(inputs)
        gradient = torch.randn(inputs["query"].shape).to(dtype)
        out, statistics = WARPS.memory_attention_warps(*arguments)
        saved = (gradient, *arguments, out, statistics)
        ops: Any = torch.ops.fastrl
        got = (WARPS.memory_attention_to_query_warps(*saved), *WARPS.memory_attention_to_bank_warps(*saved))
        expected = (ops.memory_attention_to_query(*saved), *ops.memory_attention_to_bank(*saved))
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shifted", [True, False])
def test_emulated_warps_normalise_rows_as_the_reference_does(shifted: bool) -> None:
    case = OP_CASES["layer_norm_tanh"]
    for dtype in case.dtypes:
        for seed, sizes in enumerate((*case.sizes, (2, 3, 31), (2, 3, 32), (3, 1, 129))):  # chunks of 32 here
            inputs = case.inputs(sizes, dtype, seed=seed)
            inputs["shift"] = inputs["shift"] if shifted else None
            assert_close_to_reference(case, inputs, WARPS.layer_norm_tanh_warps(*inputs.values()))


def inputs_in_order(inputs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        inputs[argument.name] for argument in torch.ops.fastrl.memory_attention.default._schema.arguments
    )
