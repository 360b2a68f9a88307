"""The squashed Gaussian: its density is that of what it samples."""

import math

import pytest
import torch

from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.squashed import SquashedGaussian

LOW, HIGH = torch.tensor([-1.0, -2.0]).double(), torch.tensor([1.0, 6.0]).double()


def policy(mean=(0.3, -0.5), log_std=(-0.5, 0.2), rows=1):
    parameters = (torch.tensor([values] * rows, dtype=torch.float64) for values in (mean, log_std))
    return SquashedGaussian(DiagonalGaussian(*parameters), LOW, HIGH)


def test_the_density_is_the_change_of_variables_worked_out_numerically():
    """log π(a) = log N(u) − log |da/du|, with the slope by differences."""
    squashed = policy(rows=50)
    torch.manual_seed(0)
    actions, log_probs = squashed.sample_with_log_prob()
    half, middle = 0.5 * (HIGH - LOW), 0.5 * (HIGH + LOW)
    u = torch.atanh((actions - middle) / half)
    step = 1e-6
    slopes = half * (torch.tanh(u + step) - torch.tanh(u - step)) / (2 * step)
    expected = squashed.gaussian.log_prob(u) - slopes.log().sum(-1)
    torch.testing.assert_close(log_probs, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(squashed.log_prob(actions), expected, rtol=1e-6, atol=1e-6)


def test_the_density_integrates_to_one():
    one = SquashedGaussian(
        DiagonalGaussian(torch.tensor([[0.4]]).double(), torch.tensor([[-0.3]]).double()), LOW[1:], HIGH[1:]
    )
    grid = torch.linspace(-2.0 + 1e-4, 6.0 - 1e-4, 200_001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(one.log_prob(grid).exp(), grid[:, 0]).item() == pytest.approx(1.0, abs=1e-3)


def test_far_out_the_density_stays_finite_and_exact():
    """tanh(u) is 1 in float32 from u = 9 on; log(1 − tanh²) must not be taken of that."""
    mean, log_std = torch.full((1, 1), 20.0), torch.full((1, 1), -2.0)
    bounds = torch.tensor([-1.0]), torch.tensor([1.0])
    torch.manual_seed(0)
    gaussian = DiagonalGaussian(mean, log_std)
    _, log_prob = SquashedGaussian(gaussian, *bounds).sample_with_log_prob()
    torch.manual_seed(0)
    u = gaussian.sample()
    expected = gaussian.log_prob(u) - (2 * (math.log(2.0) - u)).sum(-1)  # softplus(−2u) is 0 here
    torch.testing.assert_close(log_prob, expected)


def test_samples_keep_to_the_bounds_and_the_mode_is_the_squashed_mean():
    wide = policy(log_std=(2.0, 2.0), rows=1000)
    actions = wide.sample()
    assert (actions >= LOW).all() and (actions <= HIGH).all() and actions[:, 1].max() > 5.9
    torch.testing.assert_close(wide.mode()[0, 0], torch.tanh(torch.tensor(0.3).double()))
    torch.testing.assert_close(wide.mode()[0, 1], 2.0 + 4.0 * torch.tanh(torch.tensor(-0.5).double()))
    assert torch.isfinite(wide.log_prob(HIGH.expand(1000, 2))).all()


def test_gradients_are_those_of_differences():
    def outputs(mean, log_std):
        torch.manual_seed(3)
        actions, log_probs = SquashedGaussian(
            DiagonalGaussian(mean, log_std), LOW, HIGH
        ).sample_with_log_prob()
        return actions.sum() + log_probs.sum()

    mean, log_std = (torch.randn(4, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(outputs, (mean, log_std))


def test_actions_far_out_are_the_bounds_and_never_beyond_them():
    generator = torch.Generator().manual_seed(0)
    low = 4.0 * torch.rand(2_000, generator=generator) - 2.0
    high = low + 3.0 * torch.rand(2_000, generator=generator)
    for mean, bound in ((50.0, high), (-50.0, low)):
        gaussian = DiagonalGaussian(torch.full((2_000,), mean), torch.zeros(2_000))
        assert torch.equal(SquashedGaussian(gaussian, low, high).mode(), bound)
