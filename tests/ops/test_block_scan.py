"""The GPU's scan run on the CPU, thread by thread: its indices and compositions are right before a GPU has
seen them."""

from __future__ import annotations

import pytest
import torch

from fastrl import native
from fastrl.testing import OP_CASES, OpCase, assert_close_to_reference

if not native.DEV_LIBRARY.exists():
    pytest.skip(
        "the development library is part of in-place builds only (make build)", allow_module_level=True
    )
torch.ops.load_library(str(native.DEV_LIBRARY))

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# tiles of up to 512 chunks of 8 steps: one step, a chunk and its neighbours, a tile and its neighbours,
# several tiles; columns likewise
SIZES = [(steps, envs) for steps in (1, 7, 8, 9, 127, 128, 129, 300) for envs in (1, 2, 31, 32, 33, 130)]
SIZES += [(4095, 1), (4096, 1), (4097, 2), (9000, 1)]
EMULATED = [
    (case, f"{name}_blocks")
    for name, case in OP_CASES.items()
    if hasattr(torch.ops.fastrl_dev, f"{name}_blocks")
]


@pytest.mark.parametrize(("case", "emulated"), EMULATED, ids=[name for _, name in EMULATED])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_emulated_blocks_agree_with_the_reference(case: OpCase, emulated: str, dtype: torch.dtype) -> None:
    op = getattr(torch.ops.fastrl_dev, emulated).default
    for sizes in SIZES:
        inputs = case.inputs(sizes, dtype)
        arguments = [inputs[argument.name] for argument in op._schema.arguments]
        assert_close_to_reference(case, inputs, op(*arguments))
        for name in case.optional:
            inputs[name] = None
        arguments = [inputs[argument.name] for argument in op._schema.arguments]
        assert_close_to_reference(case, inputs, op(*arguments))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_emulated_blocks_give_the_gradient_of_dae_targets(dtype: torch.dtype) -> None:
    case = OP_CASES["dae_targets"]
    relative, absolute = case.tolerances[dtype]
    for sizes in (*SIZES, (0, 3), (3, 0)):
        inputs = case.inputs(sizes, dtype)
        for valid in (inputs["valid"], None):
            arguments = inputs["rewards"], inputs["terminated"], inputs["truncated"], inputs["gamma"], valid
            # the CPU's own scan, which other tests hold against the gradients of the reference
            expected = torch.ops.fastrl.dae_targets_backward(*arguments)
            for got, right in zip(
                torch.ops.fastrl_dev.dae_targets_backward_blocks(*arguments), expected, strict=True
            ):
                torch.testing.assert_close(got, right, rtol=relative, atol=absolute)
