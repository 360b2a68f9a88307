"""dae_targets by hand, its identities, its gradients against those of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastrl.ops import dae_targets, dae_targets_reference, gae
from fastrl.testing import OP_CASES, Inputs

CASE = OP_CASES["dae_targets"]


def make(steps: int, envs: int, **changes: object) -> Inputs:
    return CASE.inputs((steps, envs), torch.float64, **changes)


def by_hand(terminated: list[int], truncated: list[int], valid: list[int] | None = None) -> list[float]:
    """γ = 1/2, r − Â = 1 2 4, V = 10 20 30 40."""
    flag = lambda numbers: torch.tensor(numbers, dtype=torch.bool)[:, None]  # noqa: E731
    column = lambda *numbers: torch.tensor(numbers)[:, None]  # noqa: E731
    targets = dae_targets(
        column(2.0, 4.0, 8.0),
        column(1.0, 2.0, 4.0),
        column(10.0, 20.0, 30.0, 40.0),
        flag(terminated),
        flag(truncated),
        gamma=0.5,
        valid=None if valid is None else flag(valid),
    )
    return targets.flatten().tolist()


def test_numbers_worked_out_by_hand() -> None:
    assert by_hand([0, 0, 0], [0, 0, 0]) == [1 + 0.5 * (2 + 0.5 * 24), 2 + 0.5 * 24, 4 + 0.5 * 40]
    assert by_hand([0, 1, 0], [0, 0, 0]) == [2, 2, 24]
    assert by_hand([0, 0, 0], [0, 1, 0]) == [1 + 0.5 * 17, 2 + 0.5 * 30, 24]
    assert by_hand([0, 1, 0], [0, 1, 0]) == [2, 2, 24]
    assert by_hand([0, 1, 0], [0, 0, 0], [1, 1, 0]) == [2, 2, 30]


@pytest.mark.parametrize("envs", [1, 6, 40])
def test_without_advantages_targets_are_monte_carlo_returns(envs: int) -> None:
    inputs = make(70, envs)
    inputs["advantages"].zero_()
    rollout = {name: inputs[name] for name in ("rewards", "values", "terminated", "truncated", "valid")}
    _, returns = gae(**rollout, gamma=0.99, gae_lambda=1.0)
    torch.testing.assert_close(dae_targets(**inputs), returns)


@pytest.mark.parametrize("envs", [1, 3, 40])
def test_with_the_true_advantages_every_target_is_the_value(envs: int) -> None:
    """If Â_t is what the step gained over V, every target is V(s_t), whatever happened later."""
    inputs = make(70, envs, valid=None)
    bootstrap = torch.where(inputs["terminated"], 0.0, 0.99 * inputs["values"][1:])
    inputs["advantages"] = inputs["rewards"] + bootstrap - inputs["values"][:-1]
    torch.testing.assert_close(dae_targets(**inputs), inputs["values"][:-1])


@pytest.mark.parametrize("envs", [1, 5, 20, 80])
def test_a_rollout_cut_at_a_done_is_two_rollouts(envs: int) -> None:
    inputs = make(90, envs)
    inputs["truncated"][39] = True
    whole = dae_targets(**inputs)
    for first, last in ((0, 40), (40, 90)):
        part = {
            name: value[first:last] if isinstance(value, Tensor) else value for name, value in inputs.items()
        }
        torch.testing.assert_close(
            dae_targets(**{**part, "values": inputs["values"][first : last + 1]}), whole[first:last]
        )


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("sizes", [*CASE.sizes, (0, 3), (3, 0)], ids=str)
def test_gradients_are_those_of_the_reference(sizes: tuple[int, int], masked: bool) -> None:
    weights = torch.randn(sizes, dtype=torch.float64)
    gradients = []
    for function in (dae_targets, dae_targets_reference):
        inputs = make(*sizes) if masked else make(*sizes, valid=None)
        advantages, values = inputs["advantages"].requires_grad_(), inputs["values"].requires_grad_()
        ((function(**inputs) * weights).sum() + 0 * (advantages.sum() + values.sum())).backward()
        gradients.append((advantages.grad, values.grad))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_rewards_receive_no_gradient() -> None:
    inputs = make(5, 2)
    inputs["rewards"].requires_grad_()
    assert not dae_targets(**inputs).requires_grad
    inputs["advantages"].requires_grad_()
    dae_targets(**inputs).sum().backward()
    assert inputs["rewards"].grad is None and inputs["advantages"].grad is not None


@pytest.mark.parametrize("envs", [1, 3, 16, 70])
def test_what_is_not_finite_stays_where_it_is(envs: int) -> None:
    inputs = make(60, envs)
    for flag, fill in (("terminated", False), ("truncated", False), ("valid", True)):
        inputs[flag].fill_(fill)
    inputs["terminated"][30] = True
    inputs["valid"][31] = False
    clean = dae_targets(**inputs)
    inputs["values"][31] = float("nan")
    inputs["rewards"][31] = inputs["advantages"][31] = float("inf")
    inputs["values"][5] = float("nan")  # V within an episode is no part of any target
    targets = dae_targets(**inputs)
    assert torch.equal(targets[:31], clean[:31]) and torch.equal(targets[32:], clean[32:])
    assert targets[31].isnan().all()  # the reset row's target is its value
    inputs["advantages"][20] = float("nan")
    assert dae_targets(**inputs)[:21].isnan().all()
