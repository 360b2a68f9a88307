"""What every op promises, checked for each entry of OP_CASES: a new op is tested by adding its entry."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from fastrl.testing import (
    OP_CASES,
    OpCase,
    Refusal,
    assert_close_to_reference,
    layouts,
    map_tensors,
    outputs_of,
    replace_tensor,
    tensors_of,
)

CASES = list(OP_CASES.values())
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_refusal = pytest.mark.parametrize(
    ("case", "refusal"),
    [
        pytest.param(case, refusal, id=f"{case.name}: {refusal.what}")
        for case in CASES
        for refusal in case.refusals
    ],
)
each_dtype = pytest.mark.parametrize(
    ("case", "dtype"),
    [pytest.param(case, dtype, id=f"{case.name}-{dtype}") for case in CASES for dtype in case.dtypes],
)


def without_optional(case: OpCase, inputs: dict[str, Any]) -> dict[str, Any]:
    return {**inputs, **dict.fromkeys(case.optional)}


def native_op(case: OpCase) -> Any:
    return getattr(torch.ops.fastrl, case.name).default


def native_arguments(case: OpCase, inputs: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(inputs[argument.name] for argument in native_op(case)._schema.arguments)


def assert_equal(got: Any, expected: Any) -> None:
    for one, other in zip(outputs_of(got), outputs_of(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@each_dtype
def test_agrees_with_the_reference(case: OpCase, dtype: torch.dtype, device: torch.device) -> None:
    for seed, sizes in enumerate(case.sizes):
        inputs = case.inputs(sizes, dtype, device, seed)
        assert_close_to_reference(case, inputs, case.op(**inputs))
        inputs = without_optional(case, inputs)
        assert_close_to_reference(case, inputs, case.op(**inputs))


@each_case
def test_any_layout_gives_the_same_bits(case: OpCase, device: torch.device) -> None:
    for sizes in case.sizes:
        inputs = case.inputs(sizes, device=device)
        expected = case.op(**inputs)
        for layout in ("transposed", "gaps", "shifted"):
            assert_equal(case.op(**map_tensors(inputs, lambda tensor: layouts(tensor)[layout])), expected)  # noqa: B023
            for _, tensor in tensors_of(inputs):  # one at a time: no stride is taken from another tensor
                assert_equal(case.op(**replace_tensor(inputs, tensor, layouts(tensor)[layout])), expected)


def flag_names(case: OpCase) -> list[str]:
    return [
        name
        for name, value in case.inputs(case.small).items()
        if isinstance(value, torch.Tensor) and value.dtype == torch.bool
    ]


@pytest.mark.parametrize("case", [case for case in CASES if flag_names(case)], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_any_byte_but_zero_sets_a_flag(case: OpCase, dtype: torch.dtype, device: torch.device) -> None:
    """The same results and gradients: bytes of a bool tensor that was viewed or received are not always 0 and
    1."""

    def results(inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        variables = [inputs[name].detach().requires_grad_() for name in case.differentiable]
        outputs = outputs_of(case.op(**{**inputs, **dict(zip(case.differentiable, variables, strict=True))}))
        gradients = (
            torch.autograd.grad(outputs[0], variables, torch.ones_like(outputs[0])) if variables else ()
        )
        return *outputs, *gradients

    for sizes in case.sizes:
        inputs = case.inputs(sizes, dtype, device)
        expected = results(inputs)
        for shift, name in enumerate(flag_names(case)):
            flag = inputs[name]
            number = (
                torch.arange(flag.numel(), device=device).view(flag.shape) + shift
            )  # the bytes of flags that meet differ
            bytes_set = torch.tensor([2, 128, 255], dtype=torch.uint8, device=device)[number % 3]
            inputs[name] = (flag.byte() * bytes_set).view(torch.bool)
        assert_equal(results(inputs), expected)


@each_case
def test_empty_inputs_give_empty_outputs(case: OpCase, device: torch.device) -> None:
    for sizes in case.empty_sizes:
        inputs = case.inputs(sizes, device=device)
        for got, expected in zip(
            outputs_of(case.op(**inputs)), outputs_of(case.reference(**inputs)), strict=True
        ):
            assert got.shape == expected.shape and got.numel() == 0 and got.device.type == device.type


@each_case
def test_outputs_are_new_contiguous_and_constant_to_autograd(case: OpCase, device: torch.device) -> None:
    inputs = case.inputs(case.small, device=device)
    copies = map_tensors(inputs, torch.clone)
    for name, tensor in tensors_of(inputs):
        if tensor.is_floating_point() and name not in case.differentiable:
            tensor.requires_grad_()
    outputs = outputs_of(case.op(**inputs))
    for output in outputs:
        assert output.is_contiguous()
        if not case.differentiable:
            assert not output.requires_grad
    for (name, tensor), (_, copy) in zip(tensors_of(inputs), tensors_of(copies), strict=True):
        assert torch.equal(tensor, copy), f"{name} was changed"
        assert all(output.data_ptr() != tensor.data_ptr() for output in outputs)


@each_case
def test_every_run_gives_the_same_bits(case: OpCase, device: torch.device) -> None:
    for sizes in case.sizes:
        inputs = case.inputs(sizes, device=device)
        first = case.op(**inputs)
        for _ in range(3):
            assert_equal(case.op(**inputs), first)


@each_case
def test_any_number_of_threads_gives_the_same_bits(case: OpCase, torch_threads: None) -> None:
    for sizes in (*case.sizes, *case.large_sizes):
        inputs = case.inputs(sizes)
        torch.set_num_threads(1)
        expected = case.op(**inputs)
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            assert_equal(case.op(**inputs), expected)


DIGESTS = """
import hashlib, torch
from fastrl.testing import OP_CASES, outputs_of
for case in OP_CASES.values():
    digest = hashlib.sha256()
    for sizes in (*case.sizes, *case.large_sizes):  # large ones are streamed past the caches
        inputs = case.inputs(sizes)
        variables = [inputs[name].requires_grad_() for name in case.differentiable]
        outputs = outputs_of(case.op(**inputs))
        gradients = torch.autograd.grad(outputs[0].sum(), variables) if variables else ()
        for tensor in (*outputs, *gradients):
            digest.update(tensor.detach().numpy().tobytes())
    print(case.name, digest.hexdigest())
"""


def test_every_instruction_level_gives_the_same_bits() -> None:
    def digests(level: str) -> str:
        environment = {**os.environ, "FASTRL_CPU_LEVEL": level}
        run = subprocess.run([sys.executable, "-c", DIGESTS], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    best = digests("v4")
    assert len(best.splitlines()) == len(CASES)
    assert digests("v3") == best and digests("baseline") == best


@each_refusal
def test_bad_input_is_refused_by_name(
    case: OpCase, refusal: Refusal, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusal.by_value:
        monkeypatch.setenv(
            "FASTRL_DEBUG", "1"
        )  # reading elements of a GPU's tensors makes it wait: only on request
    good = case.inputs(case.small, device=device)
    with pytest.raises(refusal.error) as caught:
        case.op(**{**good, **refusal.change(good)})
    assert str(caught.value).startswith(f"{case.name}: {refusal.message}")


@each_refusal
def test_bad_input_is_refused_by_the_native_op_too(case: OpCase, refusal: Refusal) -> None:
    good = case.inputs(case.small)
    bad = {**good, **refusal.change(good)}
    if any(isinstance(bad[name], (bool, torch.Tensor)) for name in case.settings):
        pytest.skip(
            "the dispatcher takes flags and one-element tensors for numbers; only the wrapper refuses them"
        )
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        native_op(case)(*native_arguments(case, bad))


@each_refusal
def test_bad_input_is_refused_while_tracing(case: OpCase, refusal: Refusal) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    if refusal.by_value:
        pytest.skip("while tracing there are no elements to be wrong")
    good = case.inputs(case.small)
    bad = {**good, **refusal.change(good)}
    if any((value.layout != torch.strided or value.device.type == "meta") for _, value in tensors_of(bad)):
        pytest.skip("fake tensors cannot stand for this input")
    with FakeTensorMode() as mode:
        fakes = map_tensors(bad, mode.from_tensor)
        with pytest.raises(refusal.error) as caught:
            case.op(**fakes)
    assert f"{case.name}: {refusal.message.split(', got')[0]}" in str(caught.value)


FLAGS_FOR_NUMBERS = [
    (case, refusal) for case in CASES for refusal in case.refusals if refusal.what.endswith(" a flag")
]


@pytest.mark.parametrize(
    ("case", "refusal"),
    FLAGS_FOR_NUMBERS,
    ids=lambda value: getattr(value, "name", getattr(value, "what", None)),
)
def test_flags_for_numbers_are_refused_by_compiled_programs(case: OpCase, refusal: Refusal) -> None:
    torch.compiler.reset()
    good = case.inputs(case.small)
    bad = {**good, **refusal.change(good)}
    compiled = torch.compile(lambda: case.op(**bad), backend="aot_eager")
    with pytest.raises(TypeError, match=f"{case.name}: {refusal.message}"):
        compiled()


@each_dtype
def test_opcheck(case: OpCase, dtype: torch.dtype, device: torch.device) -> None:
    for sizes in (case.small, case.empty_sizes[0]):
        inputs = case.inputs(sizes, dtype, device)
        for given in (inputs, without_optional(case, inputs)):
            torch.library.opcheck(native_op(case), native_arguments(case, given))


@each_case
def test_compiles_whole_with_dynamic_shapes(case: OpCase, device: torch.device) -> None:
    torch.compiler.reset()

    def program(**inputs: Any) -> tuple[torch.Tensor, ...]:
        return tuple(2 * output for output in outputs_of(case.op(**inputs)))

    # the traced graph is run as it is: generated code would test the compiler's back end, which needs a
    # compiler at run time
    compiled = torch.compile(program, fullgraph=True, dynamic=True, backend="aot_eager")
    for sizes in case.traced_sizes:
        inputs = case.inputs(sizes, device=device)
        assert_equal(compiled(**inputs), program(**inputs))


@each_case
def test_compiles_with_the_default_back_end(case: OpCase) -> None:
    torch.compiler.reset()
    compiled = torch.compile(case.op, fullgraph=True, dynamic=True)
    inputs = case.inputs(case.small)
    assert_equal(compiled(**inputs), case.op(**inputs))


@each_case
@pytest.mark.cuda
def test_runs_on_the_current_stream_without_waiting(case: OpCase, device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("streams are a matter of GPUs")
    inputs = case.inputs(case.large_sizes[0], device=device)
    expected = case.op(**inputs)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        got = case.op(**inputs)
        assert not stream.query(), "the op waited for the GPU"
    stream.synchronize()
    assert_equal(got, expected)


@each_case
@pytest.mark.cuda
def test_can_be_captured_in_a_graph(case: OpCase, device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("graphs are a matter of GPUs")
    inputs = case.inputs(case.small, device=device)
    expected = case.op(**inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = case.op(**inputs)
    graph.replay()
    assert_equal(got, expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.differentiable], ids=lambda case: case.name)
def test_gradients_agree_with_finite_differences(case: OpCase) -> None:
    inputs = case.inputs(case.gradcheck_sizes, torch.float64)
    variables = {name: inputs[name].requires_grad_() for name in case.differentiable}

    def function(*values: torch.Tensor) -> Any:
        return case.op(**{**inputs, **dict(zip(variables, values, strict=True))})

    assert torch.autograd.gradcheck(function, tuple(variables.values()))
    if case.twice_differentiable:
        assert torch.autograd.gradgradcheck(function, tuple(variables.values()))
