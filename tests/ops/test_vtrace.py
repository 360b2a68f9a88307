"""vtrace by hand, its identities, and what must not get through."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from fastrl.ops import gae, vtrace, vtrace_reference
from fastrl.testing import OP_CASES, Inputs

CASE = OP_CASES["vtrace"]
NAN, INF = math.nan, math.inf


def make(steps: int, envs: int, **changes: object) -> Inputs:
    return CASE.inputs((steps, envs), torch.float64, **changes)


def plain(steps: int, envs: int, **changes: object) -> Inputs:
    """Nothing ends, every row counts."""
    inputs = make(steps, envs, **changes)
    for flag, fill in (("terminated", False), ("truncated", False), ("valid", True)):
        inputs[flag].fill_(fill)
    return inputs


def by_hand(
    terminated: list[int], truncated: list[int], **settings: float
) -> tuple[list[float], list[float]]:
    """γ = 1/2, r = 1 2, V = 10 20 40, ratios 2 and 1/4."""
    flag = lambda numbers: torch.tensor(numbers, dtype=torch.bool)[:, None]  # noqa: E731
    given = (
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[10.0], [20.0], [40.0]]),
        torch.tensor([[math.log(2.0)], [math.log(0.25)]]),
        flag(terminated),
        flag(truncated),
    )
    targets, advantages = vtrace(*given, gamma=0.5, **settings)
    for got, expected in zip(
        (targets, advantages), vtrace_reference(*given, gamma=0.5, **settings), strict=True
    ):
        torch.testing.assert_close(got, expected)
    return targets.flatten().tolist(), advantages.flatten().tolist()


def test_numbers_worked_out_by_hand() -> None:
    # residuals 1 and 2; clipped ratios 1 and 1/4: vs − V = 1 + 1/2 · 0.5 and 0.5; the policy's residual of
    # step 0 sees vs_1 = 20.5
    assert by_hand([0, 0], [0, 0]) == (pytest.approx([11.25, 20.5]), pytest.approx([1.25, 0.5]))
    assert by_hand([0, 0], [0, 0], rho_clip=4.0) == (pytest.approx([12.25, 20.5]), pytest.approx([1.25, 0.5]))
    assert by_hand([0, 0], [0, 0], c_clip=4.0) == (pytest.approx([11.5, 20.5]), pytest.approx([1.25, 0.5]))
    assert by_hand([0, 0], [0, 0], pg_rho_clip=INF) == (
        pytest.approx([11.25, 20.5]),
        pytest.approx([2.5, 0.5]),
    )
    assert by_hand([0, 0], [0, 0], vtrace_lambda=0.5) == (
        pytest.approx([11.125, 20.5]),
        pytest.approx([1.25, 0.5]),
    )


def test_terminations_and_truncations() -> None:
    assert by_hand([1, 0], [0, 0]) == (pytest.approx([1.0, 20.5]), pytest.approx([-9.0, 0.5]))
    assert by_hand([0, 0], [1, 0]) == (pytest.approx([11.0, 20.5]), pytest.approx([1.0, 0.5]))
    assert by_hand([1, 0], [1, 0]) == by_hand([1, 0], [0, 0])


@pytest.mark.parametrize("envs", [1, 6, 40])
def test_on_policy_targets_are_the_returns_of_gae(envs: int) -> None:
    inputs = make(70, envs, vtrace_lambda=0.9)
    inputs["log_rhos"].zero_()
    targets, advantages = vtrace(**inputs)
    rollout = {name: inputs[name] for name in ("rewards", "values", "terminated", "truncated", "valid")}
    _, returns = gae(**rollout, gamma=0.99, gae_lambda=0.9)
    torch.testing.assert_close(targets, returns)
    following = torch.cat([targets[1:], inputs["values"][-1:]])
    with_next = torch.where(inputs["terminated"] | inputs["truncated"], inputs["values"][1:], following)
    expected = (
        inputs["rewards"] + torch.where(inputs["terminated"], 0.0, 0.99 * with_next) - inputs["values"][:-1]
    )
    torch.testing.assert_close(advantages, torch.where(inputs["valid"], expected, 0.0))


def test_numbers_that_no_float_holds_are_refused_whatever_their_kind() -> None:
    for number in (10**400, 10**5000, Fraction(10**400, 3)):
        for name in ("gamma", "rho_clip", "c_clip", "pg_rho_clip"):
            with pytest.raises(ValueError, match=f"^vtrace: {name} must be within the range of a float"):
                vtrace(**{**make(3, 2), name: number})


def test_without_clipping_targets_are_importance_sampled_returns() -> None:
    """With infinite clips and λ = 1 each residual is weighted by the product of all ratios up to it."""
    steps = 12
    inputs = plain(steps, 3, rho_clip=INF, c_clip=INF)
    targets, _ = vtrace(**inputs)
    residuals = inputs["rewards"] + 0.99 * inputs["values"][1:] - inputs["values"][:-1]
    for t in range(steps):
        products = inputs["log_rhos"][t:].cumsum(0).exp()
        powers = 0.99 ** torch.arange(steps - t, dtype=torch.float64)[:, None]
        torch.testing.assert_close(
            targets[t], inputs["values"][t] + (powers * products * residuals[t:]).sum(0)
        )


@pytest.mark.parametrize("envs", [1, 5, 20, 80])
def test_a_rollout_cut_at_a_done_is_two_rollouts(envs: int) -> None:
    inputs = make(90, envs)
    inputs["truncated"][39] = True
    whole = vtrace(**inputs)
    for first, last in ((0, 40), (40, 90)):
        part = {
            name: value[first:last] if isinstance(value, Tensor) else value for name, value in inputs.items()
        }
        for got, expected in zip(
            vtrace(**{**part, "values": inputs["values"][first : last + 1]}), whole, strict=True
        ):
            torch.testing.assert_close(got, expected[first:last], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_what_is_not_finite_stays_where_it_is(poison: float, envs: int) -> None:
    end, reset = 30, 31
    inputs = plain(60, envs)
    inputs["terminated"][end] = True
    inputs["valid"][reset] = False
    clean = vtrace(**inputs)
    poisoned = {name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    for name in ("rewards", "values", "log_rhos"):
        poisoned[name][reset] = poison  # V after the terminal step is V of the reset row
    targets, advantages = vtrace(**poisoned)
    assert torch.equal(advantages, clean[1])
    assert torch.equal(targets[:reset], clean[0][:reset]) and torch.equal(
        targets[reset + 1 :], clean[0][reset + 1 :]
    )


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
@pytest.mark.parametrize("name", ["rewards", "log_rhos"])
def test_nan_in_an_episode_shows(name: str, envs: int) -> None:
    inputs = plain(40, envs)
    inputs[name][20] = NAN
    for output in vtrace(**inputs):
        assert output[:21].isnan().all() and not output[21:].isnan().any()


def test_ratios_beyond_float32_are_clipped() -> None:
    inputs = CASE.inputs((20, 4))
    for flag, fill in (("terminated", False), ("truncated", False), ("valid", True)):
        inputs[flag].fill_(fill)
    inputs["log_rhos"].fill_(1000.0)
    expected = vtrace(**{**inputs, "log_rhos": torch.zeros_like(inputs["log_rhos"])})
    for got, right in zip(vtrace(**inputs), expected, strict=True):
        assert torch.equal(got, right)
    inputs["log_rhos"].fill_(-1000.0)  # a ratio of 0: nothing to learn
    targets, advantages = vtrace(**inputs)
    assert torch.equal(targets, inputs["values"][:-1]) and not advantages.any()
