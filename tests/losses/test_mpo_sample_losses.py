"""MPO's E-step and M-step over sampled actions, against sums written out."""

import math

import pytest
import torch

from fastrl.losses.mpo import (
    decoupled_gaussian_loss,
    gaussian_kl_parts,
    out_of_bounds_cost,
    sample_temperature_loss,
    sample_weights,
)


def test_weights_by_hand():
    q = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]])
    torch.testing.assert_close(sample_weights(q, torch.tensor(1.0)), torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    torch.testing.assert_close(sample_weights(q, torch.tensor(0.5))[0], torch.tensor([0.1, 0.9]))
    prior = torch.tensor([[0.75, 0.25], [0.9, 0.1]]).log()
    torch.testing.assert_close(
        sample_weights(q, torch.tensor(1.0), prior), torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    )


def test_the_temperature_loss_is_its_formula_and_large_values_do_no_harm():
    torch.manual_seed(0)
    q, eta = (
        torch.randn(4, 5, dtype=torch.float64),
        torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
    )
    expected = eta * (0.1 + torch.log(torch.exp(q / eta).mean(1)).mean())
    found = sample_temperature_loss(q, eta, 0.1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, eta), torch.autograd.grad(expected, eta))
    torch.testing.assert_close(sample_temperature_loss(q + 1e6, eta, 0.1), expected + 1e6)
    weight = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        sample_temperature_loss(q, eta, 0.1, row_weights=weight), sample_temperature_loss(q[:2], eta, 0.1)
    )
    prior = torch.softmax(torch.randn(4, 5, dtype=torch.float64), 1)
    by_prior = eta * (0.1 + torch.log((prior * torch.exp(q / eta)).sum(1)).mean())
    torch.testing.assert_close(sample_temperature_loss(q, eta, 0.1, prior.log()), by_prior)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_the_moments_give_the_gradient_of_the_two_cross_entropies(shift):
    torch.manual_seed(1)
    old_mean, old_log_std = (
        shift + torch.randn(3, 2, dtype=torch.float64),
        0.3 * torch.randn(3, 2, dtype=torch.float64),
    )
    mean = (old_mean + 0.1 * torch.randn(3, 2, dtype=torch.float64)).requires_grad_()
    log_std = (old_log_std + 0.1 * torch.randn(3, 2, dtype=torch.float64)).requires_grad_()
    actions = old_mean[:, None] + torch.randn(3, 7, 2, dtype=torch.float64)
    weights = torch.rand(3, 7, dtype=torch.float64)

    def log_density(m, s):
        return torch.distributions.Normal(m[:, None], s.exp()[:, None]).log_prob(actions).sum(-1)

    expected = -(weights * (log_density(mean, old_log_std) + log_density(old_mean, log_std))).sum(1)
    found = decoupled_gaussian_loss(weights, actions, mean, log_std, old_mean, old_log_std)
    constants = expected - found
    torch.testing.assert_close(constants, (weights.sum(1) * (2 * math.log(2 * math.pi) + old_log_std.sum(1))))
    for one, other in zip(
        torch.autograd.grad(found.sum(), (mean, log_std)),
        torch.autograd.grad(expected.sum(), (mean, log_std)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_kl_parts_add_up_to_the_kl():
    normal = torch.distributions.Normal
    old_mean, old_log_std = torch.randn(4, 3).double(), 0.5 * torch.randn(4, 3).double()
    mean, log_std = torch.randn(4, 3).double(), 0.5 * torch.randn(4, 3).double()
    of_mean, _ = gaussian_kl_parts(mean, old_log_std, old_mean, old_log_std)
    _, of_std = gaussian_kl_parts(old_mean, log_std, old_mean, old_log_std)
    kl = torch.distributions.kl_divergence
    torch.testing.assert_close(
        of_mean, kl(normal(old_mean, old_log_std.exp()), normal(mean, old_log_std.exp()))
    )
    torch.testing.assert_close(
        of_std, kl(normal(old_mean, old_log_std.exp()), normal(old_mean, log_std.exp()))
    )


def test_the_cost_is_the_distance_to_the_bounds():
    low, high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 2.0])
    actions = torch.tensor([[0.5, 0.5], [4.0, 6.0], [-2.0, 0.0]])
    assert out_of_bounds_cost(actions, low, high).tolist() == [0.0, -5.0, -1.0]


@pytest.mark.parametrize("size", [1e-2, 1e-3, 3e-4])
def test_small_divergences_of_deviations_are_those_of_float64(size):
    torch.manual_seed(0)
    old = torch.rand(1000, 2) - 1.0
    new = old + size * (0.5 + torch.rand(1000, 2))
    zero = torch.zeros(1000, 2)
    found = gaussian_kl_parts(zero, new, zero, old)[1].double()
    exact = gaussian_kl_parts(zero.double(), new.double(), zero.double(), old.double())[1]
    assert float(((found - exact) / exact).abs().max()) < 1e-3 and float(
        found.mean() / exact.mean()
    ) == pytest.approx(1.0, abs=1e-5)
