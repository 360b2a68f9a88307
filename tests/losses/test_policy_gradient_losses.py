import math

import pytest
import torch

from fastrl.losses.policy_gradient import (
    adapted_kl_penalty,
    kl_penalty_loss,
    surrogate_loss,
    total_loss,
    vanilla_pg_loss,
)

LOG_PROBS = torch.tensor([math.log(0.3), math.log(0.5)], dtype=torch.float64)
OLD = torch.tensor([math.log(0.2), math.log(0.5)], dtype=torch.float64)
ADVANTAGES = torch.tensor([2.0, -1.0], dtype=torch.float64)


def test_the_policy_gradient_by_hand():
    log_probs = LOG_PROBS.clone().requires_grad_()
    loss = vanilla_pg_loss(log_probs, ADVANTAGES)
    loss.backward()
    assert loss.item() == pytest.approx(-(2 * math.log(0.3) - math.log(0.5)) / 2, abs=1e-14)
    assert log_probs.grad.tolist() == [-1.0, 0.5]


def test_the_surrogate_by_hand():
    log_probs = LOG_PROBS.clone().requires_grad_()
    loss = surrogate_loss(log_probs, OLD, ADVANTAGES)
    loss.backward()
    assert loss.item() == pytest.approx(-(1.5 * 2 - 1) / 2, abs=1e-14)
    torch.testing.assert_close(log_probs.grad, torch.tensor([-1.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("kl", "loss", "slope"), [(0.01, 0.03, 3.0), (0.05, 0.15 + 50 * 0.03**2, 3.0 + 100 * 0.03)]
)
def test_the_penalty_by_hand(kl, loss, slope):
    """β = 3, d = 0.01: above 2 d the hinge is added."""
    divergence = torch.tensor(kl, dtype=torch.float64, requires_grad=True)
    found = kl_penalty_loss(divergence, 3.0, 0.01)
    found.backward()
    assert (found.item(), divergence.grad.item()) == pytest.approx((loss, slope), abs=1e-12)


@pytest.mark.parametrize(
    ("penalty", "kl", "next_one"),
    [(1.0, 0.006, 0.5), (1.0, 0.01, 1.0), (1.0, 0.016, 2.0), (1e-4, 0.0, 1e-4), (1e4, 1.0, 1e4)],
)
def test_the_penalty_adapts_within_bounds(penalty, kl, next_one):
    assert adapted_kl_penalty(penalty, kl, 0.01) == next_one


def test_the_total_by_hand():
    policy, value = torch.tensor(1.0), torch.tensor(2.0)
    loss, metrics = total_loss(policy, value, torch.tensor([3.0, 5.0]), vf_coef=0.5, ent_coef=0.25)
    assert loss.item() == 1.0 + 1.0 - 1.0
    assert {name: number.item() for name, number in metrics.items()} == {
        "loss/total": 1.0,
        "loss/policy": 1.0,
        "loss/value": 2.0,
        "train/entropy": 4.0,
    }
    alone, metrics = total_loss(policy, None, None, vf_coef=0.5, ent_coef=0.0)
    assert (alone.item(), set(metrics)) == (1.0, {"loss/total", "loss/policy"})


@pytest.mark.parametrize("shapes", [((2, 1), (2,)), ((2, 1), (2, 1)), ((2,), (1,))])
def test_one_value_for_each_row(shapes):
    first, second = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="vanilla_pg_loss"):
        vanilla_pg_loss(first, second)
    with pytest.raises(ValueError, match="surrogate_loss"):
        surrogate_loss(first, first, second)
