"""The GPU's scan run on the CPU, thread by thread: its indices and compositions are right before a GPU has seen them."""

from __future__ import annotations

import pytest
import torch

from fastrl import native
from fastrl.testing import OP_CASES, OpCase, assert_close_to_reference

if not native.DEV_LIBRARY.exists():
    pytest.skip("the development library is part of in-place builds only (make build)", allow_module_level=True)
torch.ops.load_library(str(native.DEV_LIBRARY))

EMULATED = [(case, f"{name}_blocks") for name, case in OP_CASES.items() if hasattr(torch.ops.fastrl_dev, f"{name}_blocks")]


@pytest.mark.parametrize(("case", "emulated"), EMULATED, ids=[name for _, name in EMULATED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_emulated_blocks_agree_with_the_reference(case: OpCase, emulated: str, dtype: torch.dtype) -> None:
    op = getattr(torch.ops.fastrl_dev, emulated).default
    # tiles of up to 512 chunks of 8 steps: one step, a chunk and its neighbours, a tile and its neighbours, several tiles; columns likewise
    steps_and_envs = [(steps, envs) for steps in (1, 7, 8, 9, 127, 128, 129, 300) for envs in (1, 2, 31, 32, 33, 130)]
    for sizes in (*steps_and_envs, (4095, 1), (4096, 1), (4097, 2), (9000, 1)):
        inputs = case.inputs(sizes, dtype)
        arguments = [inputs[argument.name] for argument in op._schema.arguments]
        assert_close_to_reference(case, inputs, op(*arguments))
        for name in case.optional:
            inputs[name] = None
        arguments = [inputs[argument.name] for argument in op._schema.arguments]
        assert_close_to_reference(case, inputs, op(*arguments))
