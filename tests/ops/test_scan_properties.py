"""retrace, vtrace and dae_targets over inputs that nobody thought of; gae has a file of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastrl.testing import OP_CASES, Inputs, OpCase, assert_close_to_reference, outputs_of
from fastrl.testing.case import random_flags

hypothesis = pytest.importorskip(
    "hypothesis", reason="property tests need hypothesis (an extra: pip install 'fastrl[dev]')"
)
st = hypothesis.strategies
CASES = [OP_CASES[name] for name in ("retrace", "vtrace", "dae_targets")]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
quickly = hypothesis.settings(max_examples=60, deadline=None)
any_data = hypothesis.given(data=st.data())


def draw_inputs(data: Any, case: OpCase, least_steps: int = 0, most: int = 70) -> Inputs:
    """A rollout of any size with any share of flags, under any discount, λ and clips; with or without a
    mask."""
    sizes = data.draw(st.tuples(st.integers(least_steps, most), st.integers(0, most)), label="sizes")
    seed = data.draw(st.integers(0, 2**31), label="seed")
    inputs = case.inputs(sizes, torch.float64, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name in ("terminated", "truncated", "valid"):
        share = data.draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]), label=name)
        inputs[name] = random_flags(
            sizes, 1 - share if name == "valid" else share, torch.device("cpu"), generator
        )
    if data.draw(st.booleans(), label="unmasked"):
        inputs["valid"] = None
    for name in case.settings:
        inputs[name] = data.draw(st.floats(0, 2 if name.endswith("clip") else 1, width=32), label=name)
    return inputs


def part_of(inputs: Inputs, first: int, last: int) -> Inputs:
    """Steps first to last - 1, with the values of the step after."""
    rows = {
        name: value[first : last + (name == "values")]
        for name, value in inputs.items()
        if isinstance(value, Tensor)
    }
    return {**inputs, **rows}


@each_case
@quickly
@any_data
def test_agrees_with_the_reference(case: OpCase, data: Any) -> None:
    inputs = draw_inputs(data, case)
    assert_close_to_reference(case, inputs, case.op(**inputs))


@each_case
@quickly
@any_data
def test_a_rollout_cut_at_a_done_is_two_rollouts(case: OpCase, data: Any) -> None:
    inputs = draw_inputs(data, case, least_steps=2)
    steps = inputs["rewards"].shape[0]
    cut = data.draw(st.integers(1, steps - 1), label="cut")
    inputs[data.draw(st.sampled_from(["terminated", "truncated"]))][cut - 1] = True
    parts = [outputs_of(case.op(**part_of(inputs, *rows))) for rows in ((0, cut), (cut, steps))]
    for got, expected in zip(zip(*parts, strict=True), outputs_of(case.op(**inputs)), strict=True):
        torch.testing.assert_close(torch.cat(got), expected, rtol=1e-12, atol=1e-12)


@each_case
@quickly
@any_data
def test_columns_do_not_see_each_other(case: OpCase, data: Any) -> None:
    inputs = draw_inputs(data, case)
    order = torch.tensor(data.draw(st.permutations(range(inputs["rewards"].shape[1]))), dtype=torch.int64)
    shuffled = {
        name: value[:, order] if isinstance(value, Tensor) else value for name, value in inputs.items()
    }
    for got, expected in zip(outputs_of(case.op(**shuffled)), outputs_of(case.op(**inputs)), strict=True):
        assert torch.equal(got, expected[:, order])


@each_case
@quickly
@any_data
def test_poison_spreads_exactly_as_in_the_reference(case: OpCase, data: Any) -> None:
    inputs = draw_inputs(data, case, least_steps=1, most=40)
    for tensor in (
        value for value in inputs.values() if isinstance(value, Tensor) and value.is_floating_point()
    ):
        for _ in range(data.draw(st.integers(0, 3)) if tensor.numel() else 0):
            place = data.draw(st.integers(0, tensor.numel() - 1))
            tensor.view(-1)[place] = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
    for got, expected in zip(
        outputs_of(case.op(**inputs)), outputs_of(case.reference(**inputs)), strict=True
    ):
        assert torch.equal(got.isfinite(), expected.isfinite())
