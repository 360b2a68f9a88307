"""E-step weights, temperature and multipliers against closed forms and numerical minima."""

import math

import pytest
import torch

from fastrl.losses.mpo import Dual, e_step_weights, multiplier_loss, temperature_loss, top_fraction


@pytest.mark.parametrize("initial", [1e-6, 0.01, 1.0, 10.0, 1000.0])
def test_dual_starts_where_it_is_told_in_real_units(initial):
    assert Dual(initial)().item() == pytest.approx(initial, rel=1e-6)


def test_dual_recovers_after_being_driven_to_its_floor():
    dual = Dual(1.0)
    optimizer = torch.optim.Adam(dual.parameters(), lr=0.1)
    for sign in (1.0, -1.0):  # 60 steps down, then 60 steps up
        for _ in range(60):
            optimizer.zero_grad()
            (sign * dual()).backward()
            optimizer.step()
            dual.project_()
        if sign > 0:
            assert dual().item() == pytest.approx(1e-8)
    assert dual().item() > 1.0


@pytest.mark.parametrize("initial", [0.0, -1.0, math.nan, math.inf])
def test_dual_refuses_what_is_not_positive(initial):
    with pytest.raises(ValueError, match="initial"):
        Dual(initial)


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.5, 5), (11, 0.5, 5), (1, 0.5, 1), (100, 0.29, 29), (7, 1.0, 7), (3, 0.1, 1)],
)
def test_top_fraction_takes_exactly_k_rows_even_among_ties(count, fraction, expected):
    assert top_fraction(torch.zeros(count), fraction).numel() == expected
    advantages = torch.arange(count, dtype=torch.float32)
    assert sorted(top_fraction(advantages, fraction).tolist()) == list(range(count - expected, count))


def test_weights_are_the_softmax_of_advantages_over_temperature():
    advantages = torch.tensor([0.0, math.log(2.0), math.log(5.0)]) * 0.5
    weights = e_step_weights(advantages, torch.tensor(0.5))
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 5.0]) / 8.0)
    with_importance = e_step_weights(advantages, torch.tensor(0.5), torch.tensor([5.0, 2.5, 1.0]).log())
    torch.testing.assert_close(with_importance, torch.full((3,), 1 / 3))


def test_weights_and_temperature_loss_survive_extreme_advantages():
    advantages = torch.tensor([1e6, -1e6, 0.0])
    temperature = torch.tensor(1e-3, requires_grad=True)
    loss = temperature_loss(advantages, temperature, 0.1)
    loss.backward()
    assert math.isfinite(loss.item()) and math.isfinite(temperature.grad.item())
    assert e_step_weights(advantages, temperature).tolist() == [1.0, 0.0, 0.0]


def test_temperature_loss_by_hand():
    eta, epsilon = 2.0, 0.1
    advantages = torch.tensor([1.0, 3.0, -2.0])
    expected = eta * epsilon + eta * math.log(sum(math.exp(a / eta) for a in (1.0, 3.0, -2.0)) / 3)
    assert temperature_loss(advantages, torch.tensor(eta), epsilon).item() == pytest.approx(expected)


def test_the_minimum_of_the_temperature_loss_meets_the_bound():
    """At the minimising η the weights are exactly ε away from uniform: KL(ψ ‖ uniform) = ε."""
    torch.manual_seed(0)
    advantages, epsilon = torch.randn(500, dtype=torch.float64), 0.3
    log_eta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_eta], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )

    def closure():
        optimizer.zero_grad()
        loss = temperature_loss(advantages, log_eta.exp(), epsilon)
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = e_step_weights(advantages, log_eta.exp())
    kl = (weights * (weights * 500).log()).sum().item()
    assert kl == pytest.approx(epsilon, abs=1e-4)


def test_multiplier_rises_above_the_bound_and_falls_below():
    for kl, sign in ((0.2, -1.0), (0.05, 1.0)):  # gradient descent moves against the sign
        multiplier = torch.tensor(1.5, requires_grad=True)
        measured = torch.tensor(kl, requires_grad=True)
        multiplier_loss(multiplier, 0.1, measured).backward()
        assert (
            multiplier.grad.item() == pytest.approx(0.1 - kl)
            and math.copysign(1, multiplier.grad.item()) == sign
        )
        assert measured.grad is None  # the KL is a constant here


def test_a_frozen_multiplier_is_left_where_it_was_put():
    dual = Dual(1.0).requires_grad_(False)
    dual.multiplier.zero_()
    dual.project_()
    assert dual.multiplier.item() == 0.0
