"""What is special about gather_sequences: a case worked out by hand, `out`, many fields, odd layouts, the
GPU's way run on the CPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fastrl import native, ops
from fastrl.testing import EVERY_KIND, OP_CASES, layouts, map_tensors

CASE = OP_CASES["gather_sequences"]
Gather = Callable[..., list[torch.Tensor]]


def lanes() -> Gather:
    """How a GPU copies, thread by thread on the CPU."""
    if not native.DEV_LIBRARY.exists():
        pytest.skip("the development library is part of in-place builds only (make build)")
    torch.ops.load_library(str(native.DEV_LIBRARY))
    op: Any = torch.ops.fastrl_dev.gather_sequences_lanes.default
    return lambda fields, start, env, seq_len: op(fields, start, env, seq_len)


@pytest.fixture(params=["op", "lanes"])
def gather(request: pytest.FixtureRequest) -> Gather:
    return ops.gather_sequences if request.param == "op" else lanes()


def assert_same(got: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype and one.is_contiguous()
        assert torch.equal(one, other)


def test_a_case_worked_out_by_hand(gather: Gather) -> None:
    # stream n holds 10 n + c at position c
    field = torch.arange(4)[:, None] + 10 * torch.arange(2)  # [C=4, N=2]
    (out,) = gather([field], torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), 3)
    assert out.tolist() == [[0, 12, 13], [1, 13, 10], [2, 10, 11]]  # the last two go round the end


@pytest.mark.parametrize("dtype", EVERY_KIND, ids=str)
def test_lanes_agree_with_the_reference_for_any_layout(dtype: torch.dtype) -> None:
    for seed, sizes in enumerate((*CASE.sizes, *CASE.empty_sizes)):
        inputs = CASE.inputs(sizes, dtype, seed=seed)
        expected = ops.gather_sequences_reference(**inputs)
        assert_same(lanes()(**inputs), expected)
        for layout in ("transposed", "gaps", "shifted"):
            assert_same(lanes()(**map_tensors(inputs, lambda tensor: layouts(tensor)[layout])), expected)  # noqa: B023


def test_more_fields_than_a_launch_takes(gather: Gather) -> None:
    fields = [torch.randn(9, 3, *([width] if width else [])) for width in range(40)]
    start, env = torch.tensor([8, 0, 3, 3]), torch.tensor([2, 0, 1, 1])
    assert_same(gather(fields, start, env, 5), ops.gather_sequences_reference(fields, start, env, 5))


def test_rows_scattered_over_many_dimensions(gather: Gather) -> None:
    """No two dimensions lie together, so that none can be copied as one."""
    wide = torch.randn(5, 3, 4, 4, 4, 4, 4, 4)
    field = wide[:, :, ::2, 1::2, ::2, ::2, 1::2, ::2]
    turned = torch.randn(2, 3, 2, 3, 2, 5, 3).permute(
        5, 6, 4, 3, 2, 1, 0
    )  # [5, 3, ...], the last dimension first in memory
    spread = torch.randn(5, 3, 2, 1, 1).expand(5, 3, 2, 7, 4)
    start, env = torch.tensor([4, 1]), torch.tensor([2, 0])
    fields = [field, turned, spread]
    assert_same(gather(fields, start, env, 3), ops.gather_sequences_reference(fields, start, env, 3))


def test_fields_without_elements(gather: Gather) -> None:
    fields = [torch.zeros(4, 2, 0), torch.zeros(4, 2, 3, 0, 5)]
    assert [out.shape for out in gather(fields, torch.tensor([0, 3]), torch.tensor([1, 0]), 3)] == [
        (3, 2, 0),
        (3, 2, 3, 0, 5),
    ]


def test_complex_and_conjugated_fields() -> None:
    fields = [
        torch.randn(6, 2, 3, dtype=torch.complex64).conj(),
        torch.randn(6, 2, dtype=torch.complex64).imag,
    ]
    start, env = torch.tensor([4, 1]), torch.tensor([0, 1])
    assert_same(
        ops.gather_sequences(fields, start, env, 4), ops.gather_sequences_reference(fields, start, env, 4)
    )


@pytest.mark.parametrize("sizes", CASE.sizes, ids=str)
def test_out_is_written_and_returned(sizes: tuple[int, ...]) -> None:
    inputs = CASE.inputs(sizes)
    expected = ops.gather_sequences(**inputs)
    out = [torch.full_like(tensor, 1) for tensor in expected]
    returned = ops.gather_sequences(**inputs, out=out)
    assert all(one is other for one, other in zip(returned, out, strict=True))
    assert_same(out, expected)


def test_large_results_written_past_the_caches_are_right() -> None:
    """Above 12 MB, with rows of whole cache lines, of parts of lines, and of widths that no such store
    fits."""
    start, env = torch.randint(0, 50, (256,)), torch.randint(0, 2, (256,))
    fields = [torch.randn(50, 2, width) for width in (384, 376, 377)]
    fields += [torch.randint(0, 255, (50, 2, width), dtype=torch.uint8) for width in (1501, 300, 255)]
    expected = ops.gather_sequences_reference(fields, start, env, 20)
    assert sum(tensor.nbytes for tensor in expected) > 12 << 20
    assert_same(ops.gather_sequences(fields, start, env, 20), expected)
    shifted = [layouts(tensor)["shifted"] for tensor in expected]  # off the alignment that new tensors have
    assert_same(
        ops.gather_sequences(fields, start, env, 20, out=[tensor.zero_() for tensor in shifted]), expected
    )


def replaced(out: list[torch.Tensor], last: Any) -> list[Any]:
    return [*out[:-1], last]


@pytest.mark.parametrize(
    ("what", "change", "error", "message"),
    [
        ("a tensor", lambda out: out[0], TypeError, "out must be a list of tensors, got Tensor"),
        ("too few", lambda out: out[1:], ValueError, "out must hold 5 tensors, one a field, got 4"),
        (
            "None inside",
            lambda out: replaced(out, None),
            TypeError,
            "out[4] must be a torch.Tensor, got NoneType",
        ),
        (
            "a shape",
            lambda out: replaced(out, out[-1][1:]),
            ValueError,
            "out[4] must have shape [seq_len, B, ...] = [3, 8, 5], got [2, 8, 5]",
        ),
        (
            "a dtype",
            lambda out: replaced(out, out[-1].bool()),
            TypeError,
            "out[4] must have the dtype of fields[4], torch.uint8",
        ),
        (
            "strides",
            lambda out: replaced(out, layouts(out[-1])["gaps"]),
            ValueError,
            "out[4] must be contiguous",
        ),
        (
            "a device",
            lambda out: replaced(out, out[-1].to("meta")),
            ValueError,
            "out[4] must be on the device of fields[0], cpu, got meta",
        ),
        (
            "a negated view",
            lambda out: [torch._neg_view(out[0]), *out[1:]],
            ValueError,
            "out[0] must not be a negated view",
        ),
        (
            "a variable",
            lambda out: [out[0].requires_grad_(), *out[1:]],
            ValueError,
            "out[0] must not require a gradient",
        ),
    ],
)
def test_bad_out_is_refused_by_name(
    what: str, change: Callable[..., Any], error: type[Exception], message: str
) -> None:
    inputs = CASE.inputs(CASE.small)
    out = change(ops.gather_sequences(**inputs))
    with pytest.raises(error) as caught:
        ops.gather_sequences(**inputs, out=out)
    assert str(caught.value).startswith(f"gather_sequences: {message}")
    if what != "a variable":  # the native op takes it, without harm
        with pytest.raises((RuntimeError, TypeError, ValueError)):
            torch.ops.fastrl.gather_sequences.out(*inputs.values(), out=out)


def test_out_may_not_share_memory() -> None:
    field, start, env = torch.arange(8.0).view(4, 2), torch.tensor([0, 1]), torch.tensor([0, 1])
    target = torch.zeros(3, 2)
    calls = {
        "out[1] must not share memory with out[0]": [target, target],
        "out[0] must not share memory with fields[0]": [field[:3], target],
    }
    for message, out in calls.items():
        with pytest.raises(ValueError, match=re.escape(f"gather_sequences: {message}")):
            ops.gather_sequences([field, field], start, env, 3, out=out)
    assert field.flatten().tolist() == list(range(8)) and not target.any()


def test_a_conjugated_out_is_refused() -> None:
    field, zero = torch.ones(4, 2, dtype=torch.complex64), torch.tensor([0])
    with pytest.raises(ValueError, match=r"^gather_sequences: out\[0\] must not be a conjugated view"):
        ops.gather_sequences([field], zero, zero, 3, out=[torch.zeros(3, 1, dtype=torch.complex64).conj()])


def test_a_gradient_of_what_out_held_before_is_refused() -> None:
    fields, zero = [torch.arange(8.0).view(4, 2), torch.arange(8.0, 16.0).view(4, 2)], torch.tensor([0])
    weights = torch.ones(3, 1, requires_grad=True)
    for held in (0, 1):
        out = [torch.empty(3, 1), torch.empty(3, 1)]
        loss = (ops.gather_sequences(fields, zero, zero, 3, out=out)[held] * weights).sum()
        assert torch.equal(torch.autograd.grad(loss, weights, retain_graph=True)[0], out[held])
        ops.gather_sequences(fields, zero, zero, 3, out=out)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(loss, weights)


def test_nothing_is_written_when_an_index_is_out_of_range() -> None:
    field, out = torch.ones(4, 2), torch.zeros(2, 3)
    with pytest.raises(IndexError, match=r"gather_sequences: env must be in \[0, N\) = \[0, 2\), got 2"):
        ops.gather_sequences([field], torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), 2, out=[out])
    assert not out.any()


def test_out_works_traced_and_passes_opcheck() -> None:
    inputs = CASE.inputs(CASE.small)
    expected = ops.gather_sequences(**inputs)
    torch.library.opcheck(
        torch.ops.fastrl.gather_sequences.out,
        tuple(inputs.values()),
        {"out": [torch.zeros_like(e) for e in expected]},
    )
    torch.compiler.reset()

    def program(out: list[torch.Tensor]) -> list[torch.Tensor]:
        return [2 * tensor for tensor in ops.gather_sequences(**inputs, out=out)]

    out = [torch.zeros_like(tensor) for tensor in expected]
    doubled = torch.compile(program, fullgraph=True, dynamic=True, backend="aot_eager")(out)
    assert_same(out, expected)
    assert all(torch.equal(one, 2 * other) for one, other in zip(doubled, expected, strict=True))


def test_offsets_beyond_two_to_the_31() -> None:
    """More elements than a 32-bit offset reaches; what is never written takes no memory."""
    field = torch.empty(2**31 + 8, 1, dtype=torch.uint8)
    field[-4:, 0] = torch.tensor([1, 2, 3, 4], dtype=torch.uint8)
    field[:2, 0] = torch.tensor([5, 6], dtype=torch.uint8)
    (out,) = ops.gather_sequences([field], torch.tensor([2**31 + 4, 2**31 + 6]), torch.tensor([0, 0]), 4)
    assert out.T.tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]
