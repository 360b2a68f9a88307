"""retrace by hand, its identities, and what must not get through."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastrl.ops import retrace, retrace_reference
from fastrl.testing import OP_CASES, Inputs

CASE = OP_CASES["retrace"]
NAN, INF = math.nan, math.inf


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)[:, None]


def by_hand(
    log_rhos: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor | None = None
) -> list[float]:
    """γ = λ = 1/2, r = 1 2 4 8, Q = 10 20 30 40, E = 50 60 70 80."""
    given = (
        column(1, 2, 4, 8),
        column(10, 20, 30, 40),
        column(50, 60, 70, 80),
        log_rhos,
        terminated,
        truncated,
    )
    targets = retrace(*given, gamma=0.5, retrace_lambda=0.5, valid=valid)
    assert torch.equal(targets, retrace_reference(*given, gamma=0.5, retrace_lambda=0.5, valid=valid))
    return targets.flatten().tolist()


NONE = flags(0, 0, 0, 0)
ON_POLICY = column(0, 0, 0, 0)


def test_numbers_worked_out_by_hand() -> None:
    # δ = r + E/2 − Q = 16 12 9 8; target − Q = δ + 1/2 · 1/2 · the next one's = 16+3.6875=..., 12+2.75, 9+2,
    # 8
    assert by_hand(ON_POLICY, NONE, NONE) == [
        10 + 16 + (12 + (9 + 8 / 4) / 4) / 4,
        20 + 12 + (9 + 8 / 4) / 4,
        30 + 9 + 8 / 4,
        48,
    ]


def test_a_trace_is_cut_with_the_ratio_of_the_step_after() -> None:
    quarter = math.log(0.25)
    # the ratio of the first step matters to nobody; those above 1 count as 1; that of step 2 shortens what
    # step 1 takes from it
    assert by_hand(column(5.0, 3.0, 0, 0), NONE, NONE) == by_hand(ON_POLICY, NONE, NONE)
    assert by_hand(column(0, 0, quarter, 0), NONE, NONE)[1] == pytest.approx(
        20 + 12 + 0.5 * 0.125 * (9 + 8 / 4)
    )
    assert by_hand(column(0, -INF, 0, 0), NONE, NONE)[0] == 26


def test_terminations_truncations_and_rows_that_are_no_transitions() -> None:
    # step 1 terminates: no bootstrap, no trace beyond; truncated it keeps its bootstrap alone
    assert by_hand(ON_POLICY, flags(0, 1, 0, 0), NONE)[:2] == [10 + 16 + 0.25 * -18, 2]
    assert by_hand(ON_POLICY, NONE, flags(0, 1, 0, 0))[:2] == [10 + 16 + 0.25 * 12, 32]
    assert by_hand(ON_POLICY, flags(0, 1, 0, 0), flags(0, 1, 0, 0))[:2] == [10 + 16 + 0.25 * -18, 2]
    assert by_hand(ON_POLICY, flags(0, 1, 0, 0), NONE, valid=flags(1, 1, 0, 1)) == [
        10 + 16 + 0.25 * -18,
        2,
        30,
        48,
    ]


def make(steps: int, envs: int, **changes: object) -> Inputs:
    return CASE.inputs((steps, envs), torch.float64, **changes)


def test_lambda_zero_is_the_one_step_backup() -> None:
    inputs = make(40, 7, retrace_lambda=0.0, valid=None)
    bootstrap = torch.where(inputs["terminated"], 0.0, 0.99 * inputs["next_values"])
    torch.testing.assert_close(retrace(**inputs), inputs["rewards"] + bootstrap)


def test_ratios_of_zero_are_the_one_step_backup() -> None:
    inputs = make(40, 7, valid=None)
    inputs["log_rhos"].fill_(-INF)
    bootstrap = torch.where(inputs["terminated"], 0.0, 0.99 * inputs["next_values"])
    torch.testing.assert_close(retrace(**inputs), inputs["rewards"] + bootstrap)


def test_on_policy_with_v_equal_to_q_it_is_the_n_step_return() -> None:
    """With c = 1 and E_{t+1} = Q_{t+1} the corrections telescope: rewards to the end, and the last value."""
    inputs = make(30, 5, retrace_lambda=1.0, valid=None)
    inputs["log_rhos"].zero_()
    inputs["terminated"].fill_(False)
    inputs["truncated"].fill_(False)
    inputs["next_values"][:-1] = inputs["q_values"][1:]
    expected = inputs["next_values"][-1]
    targets = retrace(**inputs)
    for t in reversed(range(30)):
        expected = inputs["rewards"][t] + 0.99 * expected
        torch.testing.assert_close(targets[t], expected)


@pytest.mark.parametrize("envs", [1, 5, 20, 80])
def test_a_sequence_cut_at_a_done_is_two_sequences(envs: int) -> None:
    inputs = make(90, envs)
    inputs["truncated"][39] = True
    whole = retrace(**inputs)
    for rows in (slice(0, 40), slice(40, 90)):
        part = {name: value[rows] if isinstance(value, Tensor) else value for name, value in inputs.items()}
        torch.testing.assert_close(retrace(**part), whole[rows], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_what_is_not_finite_stays_where_it_is(poison: float, envs: int) -> None:
    steps, end, reset = 60, 30, 31
    inputs = make(steps, envs)
    for flag, fill in (("terminated", False), ("truncated", False), ("valid", True)):
        inputs[flag].fill_(fill)
    inputs["terminated"][end] = True
    inputs["valid"][reset] = False
    clean = retrace(**inputs)
    poisoned = {name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    poisoned["next_values"][end] = poison
    for name in ("rewards", "next_values", "log_rhos"):
        poisoned[name][reset] = poison
    assert torch.equal(retrace(**poisoned), clean)
    for name in ("rewards", "q_values", "next_values", "log_rhos"):
        poisoned[name][reset:] = poison  # whatever comes after the end does not reach the episode before it
    assert torch.equal(retrace(**poisoned)[:reset], clean[:reset])
    poisoned["log_rhos"][0] = poison  # the first ratio has nobody to cut
    assert torch.equal(retrace(**poisoned)[:reset], clean[:reset])


@pytest.mark.parametrize("name", ["rewards", "q_values", "next_values", "log_rhos"])
@pytest.mark.parametrize("envs", [1, 3, 16, 70])
def test_nan_in_an_episode_shows(envs: int, name: str) -> None:
    inputs = make(40, envs, valid=None)
    inputs["terminated"].fill_(False)
    inputs["truncated"].fill_(False)
    inputs[name][20] = NAN
    targets = retrace(**inputs)
    reached = 20 if name == "log_rhos" else 21
    assert targets[:reached].isnan().all() and not targets[21:].isnan().any()
