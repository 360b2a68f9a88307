"""Derivatives that go forward, `torch.func`, autocast, and indices that another thread writes: for every op,
by its entry of OP_CASES."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrl.testing import OP_CASES, OpCase, outputs_of, replace_tensor, tensors_of

CASES = list(OP_CASES.values())
DIFFERENTIABLE = [case for case in CASES if case.differentiable]
CONSTANT = [case for case in CASES if not case.differentiable]
INDEXED = ["batched_index_select", "gather_sequences", "memory_attention", "memory_window_gather"]


def each(cases: list[OpCase]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def floating(inputs: dict[str, Any], names: tuple[str, ...]) -> list[Tensor]:
    return [inputs[name] for name in names]


def forward_derivatives(
    function: Any, inputs: dict[str, Any], names: tuple[str, ...], tangents: list[Tensor]
) -> list[Tensor | None]:
    with forward_ad.dual_level():
        duals = {
            name: forward_ad.make_dual(inputs[name], tangent)
            for name, tangent in zip(names, tangents, strict=True)
        }
        return [forward_ad.unpack_dual(output).tangent for output in outputs_of(function(**inputs | duals))]


@each(DIFFERENTIABLE)
def test_the_derivative_that_goes_forward_is_that_of_the_reference(case: OpCase) -> None:
    inputs = case.inputs(case.gradcheck_sizes, torch.float64)
    names = case.differentiable
    tangents = [
        torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.manual_seed(1))
        for tensor in floating(inputs, names)
    ]
    got = forward_derivatives(case.op, inputs, names, tangents)
    expected = forward_derivatives(case.reference, inputs, names, tangents)
    assert any(tangent is not None and bool(tangent.any()) for tangent in got)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@each(DIFFERENTIABLE)
def test_torch_func_gives_the_gradient_that_backward_gives(case: OpCase) -> None:
    inputs = case.inputs(case.gradcheck_sizes, torch.float64)
    names = case.differentiable

    def total(*tensors: Tensor) -> Tensor:
        outputs = outputs_of(case.op(**inputs | dict(zip(names, tensors, strict=True))))
        return torch.stack(
            [(output * torch.arange(output.numel()).view_as(output)).sum() for output in outputs]
        ).sum()

    by_func = torch.func.grad(total, argnums=tuple(range(len(names))))(*floating(inputs, names))
    leaves = [tensor.detach().clone().requires_grad_() for tensor in floating(inputs, names)]
    torch.testing.assert_close(
        list(by_func), list(torch.autograd.grad(total(*leaves), leaves)), rtol=1e-9, atol=1e-9
    )


@each(CONSTANT)
def test_results_that_are_constants_refuse_a_derivative_that_goes_forward(case: OpCase) -> None:
    inputs = case.inputs(case.small)
    tensor = next(tensor for _, tensor in tensors_of(inputs) if tensor.dtype == torch.float32)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(tensor, torch.ones_like(tensor))
        with pytest.raises(RuntimeError, match=rf"{case.name}: its results are constants to autograd"):
            case.op(**replace_tensor(inputs, tensor, dual))
        case.op(**inputs)  # without a derivative in sight all is as ever


@pytest.mark.parametrize(
    "name",
    [
        "gae",
        "retrace",
        "vtrace",
        "dae_targets",
        "memory_window_gather",
        "memory_attention",
        "layer_norm_tanh",
    ],
)
def test_autocast_brings_dtypes_together(name: str) -> None:
    case = OP_CASES[name]
    inputs = case.inputs(case.small)
    last = [key for key, tensor in tensors_of(inputs) if tensor.dtype == torch.float32][-1]
    mixed = inputs | {last: inputs[last].bfloat16()}
    with pytest.raises(TypeError, match=name):
        case.op(**mixed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = outputs_of(case.op(**mixed))
    expected = outputs_of(case.op(**inputs | {last: inputs[last].bfloat16().float()}))
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)


def test_autocast_leaves_float64_alone():
    case = OP_CASES["gae"]
    inputs = case.inputs(case.small, torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert outputs_of(case.op(**inputs))[0].dtype == torch.float64
        with pytest.raises(
            TypeError, match="gae: values must have the dtype of rewards, float64, got bfloat16"
        ):
            case.op(**inputs | {"values": inputs["values"].bfloat16()})


WRITTEN_MEANWHILE = """
import sys, threading, time, torch
from fastrl.testing import OP_CASES
torch.set_num_threads(1)
for name in sys.argv[1:]:
    case = OP_CASES[name]
    inputs = case.inputs(case.large_sizes[0])
    index = inputs["start" if name == "gather_sequences" else "index"]
    good, bad, stop = index.clone(), index.clone().fill_(2**40), []
    def write():
        while not stop:
            index.copy_(bad), index.copy_(good)
    thread = threading.Thread(target=write)
    thread.start()
    calls, end = 0, time.monotonic() + 0.7
    while time.monotonic() < end or calls == 0:
        try:
            case.op(**inputs)
            calls += 1
        except (IndexError, RuntimeError):
            calls += 1
    stop.append(True)
    thread.join()
print("survived")
"""


def test_indices_that_another_thread_writes_are_read_once() -> None:
    """Memory far outside the tensors would be read, and the process end, if values were looked at first and
    read again later."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN_MEANWHILE, *INDEXED],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.stdout.strip() == "survived", (done.returncode, done.stderr[-500:])
