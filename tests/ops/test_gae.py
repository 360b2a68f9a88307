"""gae: numbers worked out by hand, identities, and what must never leak."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from fastrl.ops import gae, gae_reference
from fastrl.testing import OP_CASES

CASE = OP_CASES["gae"]
NAN, INF = float("nan"), float("inf")


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)[:, None]


def test_two_environments_by_hand(device: torch.device) -> None:
    rewards = torch.tensor([[0, 1, 3, 0, 0, 0, 1, 2], [1, 0, 0, 0, 2, 1, 0, 1]], dtype=torch.float64).t()
    terminated = torch.tensor([[0, 0, 0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 0, 0]], dtype=torch.bool).t()
    values = torch.full((9, 2), 5.0, dtype=torch.float64)
    values[8] = 42.0
    expected = torch.tensor(
        [
            [-0.1054219850, 0.626315, 0.2005, -3.65, -5.0, -1.3757, -1.39, -3.0],
            [-4.0, -2.7995, -3.65, -5.0, -3.0, 13.60022, 20.794, 33.8],
        ],
        dtype=torch.float64,
    ).t()
    given = [tensor.to(device) for tensor in (rewards, values, terminated, torch.zeros_like(terminated))]
    advantages, returns = gae(*given, gamma=0.9, gae_lambda=0.7)
    torch.testing.assert_close(advantages.cpu(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(returns.cpu(), expected + values[:-1], rtol=0, atol=1e-6)


def test_truncation_bootstraps_and_cuts_where_termination_only_cuts(device: torch.device) -> None:
    rewards, values = column(1, 2, 4).to(device), column(10, 20, 30, 40).to(device)
    none, middle = flags(0, 0, 0).to(device), flags(0, 1, 0).to(device)
    # last step: 4 + 0.5 * 40 - 30 = -6; truncated: 2 + 0.5 * 30 - 20 = -3; terminated: 2 - 20 = -18; first: 1
    # + 0.5 * 20 - 10 + 0.25 * next
    for terminated, truncated, second in (
        (none, middle, -3.0),
        (middle, none, -18.0),
        (middle, middle, -18.0),
    ):
        advantages, returns = gae(rewards, values, terminated, truncated, gamma=0.5, gae_lambda=0.5)
        assert advantages.flatten().tolist() == [1.0 + 0.25 * second, second, -6.0]
        assert returns.flatten().tolist() == [11.0 + 0.25 * second, 20.0 + second, 24.0]


def test_reset_rows_give_nothing_and_let_nothing_through(device: torch.device) -> None:
    rewards, values = column(1, 1e9, 3).to(device), column(10, 20, 30, 40).to(device)
    none, valid = flags(0, 0, 0).to(device), flags(1, 0, 1).to(device)
    advantages, returns = gae(rewards, values, none, none, gamma=0.5, gae_lambda=1.0, valid=valid)
    assert advantages.flatten().tolist() == [
        1.0,
        0.0,
        -7.0,
    ]  # 1 + 10 - 10, nothing from beyond the reset row; 3 + 20 - 30
    assert returns.flatten().tolist() == [11.0, 20.0, 23.0]


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_what_is_not_finite_stays_where_it_is(poison: float, envs: int, device: torch.device) -> None:
    steps, end, reset = 60, 30, 31
    inputs = CASE.inputs((steps, envs), torch.float64, device)
    for flag, fill in (("terminated", False), ("truncated", False), ("valid", True)):
        inputs[flag].fill_(fill)
    inputs["terminated"][end] = True
    inputs["valid"][reset] = False
    clean = gae(**inputs)
    poisoned = {name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    poisoned["rewards"][reset] = poison
    poisoned["values"][reset] = poison  # V after the terminal step, and V of the reset row
    advantages, returns = gae(**poisoned)
    assert torch.equal(advantages, clean[0])
    assert torch.equal(returns[:reset], clean[1][:reset]) and torch.equal(
        returns[reset + 1 :], clean[1][reset + 1 :]
    )
    poisoned["rewards"][reset + 1 :] = (
        poison  # a whole broken episode after the end does not reach the one before it
    )
    assert torch.equal(gae(**poisoned)[0][: reset + 1], clean[0][: reset + 1])


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
def test_what_is_not_finite_in_an_episode_shows(envs: int, device: torch.device) -> None:
    inputs = CASE.inputs((40, envs), device=device, valid=None)
    inputs["terminated"].fill_(False)
    inputs["truncated"].fill_(False)
    inputs["rewards"][20] = NAN
    advantages, _ = gae(**inputs)
    assert advantages[:21].isnan().all() and not advantages[21:].isnan().any()


def test_lambda_one_gives_discounted_returns(device: torch.device) -> None:
    inputs = CASE.inputs((50, 6), torch.float64, device, gae_lambda=1.0, gamma=0.9, valid=None)
    _, returns = gae(**inputs)
    expected = inputs["values"][-1]
    for t in reversed(range(50)):
        bootstrap = torch.where(inputs["truncated"][t], inputs["values"][t + 1], expected)
        expected = inputs["rewards"][t] + 0.9 * torch.where(inputs["terminated"][t], 0.0, bootstrap)
        torch.testing.assert_close(returns[t], expected, rtol=1e-12, atol=1e-12)


def test_lambda_zero_gives_one_step_residuals(device: torch.device) -> None:
    inputs = CASE.inputs((50, 6), torch.float64, device, gae_lambda=0.0, gamma=0.9, valid=None)
    advantages, _ = gae(**inputs)
    next_values = torch.where(inputs["terminated"], 0.0, inputs["values"][1:])
    assert torch.equal(advantages, inputs["rewards"] + 0.9 * next_values - inputs["values"][:-1])


@pytest.mark.parametrize("envs", [1, 5, 20, 80])
def test_a_rollout_cut_at_a_done_is_two_rollouts(envs: int, device: torch.device) -> None:
    inputs = CASE.inputs((90, envs), torch.float64, device)
    inputs["truncated"][39] = True
    whole = gae(**inputs)
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    for first, last in ((0, 40), (40, 90)):
        rows = slice(first, last)
        part = {
            **inputs,
            **{name: value[rows] for name, value in tensors.items()},
            "values": inputs["values"][first : last + 1],
        }
        for got, expected in zip(gae(**part), whole, strict=True):
            torch.testing.assert_close(got, expected[rows], rtol=1e-12, atol=1e-12)


def test_integers_are_numbers_too() -> None:
    inputs = CASE.inputs((9, 4), gamma=1, gae_lambda=0)
    for got, expected in zip(gae(**inputs), gae_reference(**inputs), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_large_outputs_streamed_past_the_cache(masked: bool) -> None:
    for steps, envs in ((800, 4100), (60, 100_001)):
        inputs = CASE.inputs((steps, envs))
        if not masked:
            inputs["valid"] = None
        for got, expected in zip(gae(**inputs), gae_reference(**inputs), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements(device: torch.device) -> None:
    envs = 2**30 + 24
    needed = 2 * 2 * envs * 2 + 2**30
    if device.type == "cuda":
        available = torch.cuda.mem_get_info()[0]
    else:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if available < needed:
        pytest.skip(f"needs {needed >> 30} GiB of free memory, {available >> 30} GiB are")
    ones = torch.ones(1, 1, dtype=torch.bfloat16, device=device)
    no = torch.zeros(1, 1, dtype=torch.bool, device=device).expand(2, envs)
    advantages, returns = gae(ones.expand(2, envs), ones.expand(3, envs), no, no, gamma=1.0, gae_lambda=1.0)
    for row, expected in ((0, 2.0), (1, 1.0)):
        for columns in (slice(0, 1000), slice(2**30 - 1000, envs)):
            assert (advantages[row, columns] == expected).all() and (
                returns[row, columns] == expected + 1
            ).all()
        assert advantages[row].min() == expected == advantages[row].max()
