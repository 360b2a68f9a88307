"""Multipliers of MPO against closed forms."""

import math

import pytest
import torch

from fastrl.losses.mpo import Dual, multiplier_loss


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
