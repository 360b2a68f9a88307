"""gae over inputs that nobody thought of."""

from __future__ import annotations

import pytest
import torch

from fastrl.ops import gae, gae_reference
from fastrl.testing import OP_CASES, assert_close_to_reference

hypothesis = pytest.importorskip(
    "hypothesis", reason="property tests need hypothesis (an extra: pip install 'fastrl[dev]')"
)
st = hypothesis.strategies
CASE = OP_CASES["gae"]

sizes = st.tuples(st.integers(0, 70), st.integers(0, 70))
fractions = st.floats(0, 1, width=32)
quickly = hypothesis.settings(max_examples=60, deadline=None)


@quickly
@hypothesis.given(
    sizes=sizes, gamma=fractions, gae_lambda=fractions, seed=st.integers(0, 2**31), masked=st.booleans()
)
def test_agrees_with_the_reference(
    sizes: tuple[int, int], gamma: float, gae_lambda: float, seed: int, masked: bool
) -> None:
    inputs = CASE.inputs(sizes, torch.float64, seed=seed, gamma=gamma, gae_lambda=gae_lambda)
    if not masked:
        inputs["valid"] = None
    assert_close_to_reference(CASE, inputs, gae(**inputs))


@quickly
@hypothesis.given(sizes=sizes, seed=st.integers(0, 2**31), scale=st.floats(-100, 100))
def test_is_linear_in_rewards_and_values(sizes: tuple[int, int], seed: int, scale: float) -> None:
    inputs = CASE.inputs(sizes, torch.float64, seed=seed)
    scaled = {**inputs, "rewards": scale * inputs["rewards"], "values": scale * inputs["values"]}
    for got, expected in zip(gae(**scaled), gae(**inputs), strict=True):
        torch.testing.assert_close(got, scale * expected, rtol=1e-9, atol=1e-9)


@quickly
@hypothesis.given(sizes=sizes, seed=st.integers(0, 2**31), data=st.data())
def test_columns_do_not_see_each_other(sizes: tuple[int, int], seed: int, data: st.DataObject) -> None:
    inputs = CASE.inputs(sizes, torch.float64, seed=seed)
    order = torch.tensor(data.draw(st.permutations(range(sizes[1]))), dtype=torch.int64)
    shuffled = {
        name: value[:, order] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()
    }
    for got, expected in zip(gae(**shuffled), gae(**inputs), strict=True):
        assert torch.equal(got, expected[:, order])


@quickly
@hypothesis.given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 2**31), data=st.data()
)
def test_poison_spreads_exactly_as_in_the_reference(
    sizes: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    inputs = CASE.inputs(sizes, torch.float64, seed=seed)
    for name in ("rewards", "values"):
        rows, columns = inputs[name].shape
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
            inputs[name][place] = data.draw(st.sampled_from([float("nan"), float("inf"), -float("inf")]))
    for got, expected in zip(gae(**inputs), gae_reference(**inputs), strict=True):
        assert torch.equal(got.isfinite(), expected.isfinite())
