"""Action distributions against torch.distributions and hand-computed divergences."""

import math

import pytest
import torch
from torch import distributions as td

from fastrl.nn.distributions import Categorical, DiagonalGaussian


@pytest.fixture
def gaussians():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return (
        DiagonalGaussian(draw(5, 3), 0.3 * draw(5, 3)),
        DiagonalGaussian(draw(5, 3), 0.3 * draw(5, 3)),
        draw(5, 3),
    )


def test_gaussian_agrees_with_torch(gaussians):
    old, _, actions = gaussians
    reference = td.Independent(td.Normal(old.mean, old.log_std.exp()), 1)
    torch.testing.assert_close(old.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(old.entropy(), reference.entropy())
    assert torch.equal(old.mode(), old.mean)


def test_gaussian_kl_parts_are_the_two_one_sided_divergences(gaussians):
    old, new, _ = gaussians
    normal = lambda mean, log_std: td.Independent(td.Normal(mean, log_std.exp()), 1)  # noqa: E731
    kl_mean, kl_cov = old.kl_parts(new)
    torch.testing.assert_close(
        kl_mean, td.kl_divergence(normal(old.mean, old.log_std), normal(new.mean, old.log_std))
    )
    torch.testing.assert_close(
        kl_cov, td.kl_divergence(normal(old.mean, old.log_std), normal(old.mean, new.log_std))
    )


def test_gaussian_kl_by_hand():
    old = DiagonalGaussian(torch.zeros(1, 1), torch.zeros(1, 1))
    new = DiagonalGaussian(torch.full((1, 1), 0.5), torch.full((1, 1), math.log(2.0)))
    kl_mean, kl_cov = old.kl_parts(new)
    assert kl_mean.item() == pytest.approx(0.125)  # 0.5² / 2
    assert kl_cov.item() == pytest.approx(math.log(2.0) + 1 / 8 - 1 / 2)


def test_gaussian_state_independent_log_std_broadcasts():
    wide = DiagonalGaussian(torch.randn(4, 2), torch.full((1, 2), -0.7))
    full = DiagonalGaussian(wide.mean, wide.log_std.expand(4, 2))
    actions = torch.randn(4, 2)
    for one, other in ((wide.log_prob(actions), full.log_prob(actions)), (wide.entropy(), full.entropy())):
        assert one.shape == (4,)
        torch.testing.assert_close(one, other)
    for one, other in zip(wide.kl_parts(wide), full.kl_parts(full), strict=True):
        assert (
            one.shape == other.shape == (4,)
            and torch.equal(one, torch.zeros(4))
            and torch.equal(other, torch.zeros(4))
        )


def test_gaussian_samples_have_its_moments():
    torch.manual_seed(0)
    samples = DiagonalGaussian(
        torch.tensor([1.0, -2.0]).expand(100_000, 2), torch.tensor([[0.0, math.log(3.0)]])
    ).sample()
    torch.testing.assert_close(samples.mean(0), torch.tensor([1.0, -2.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(samples.std(0), torch.tensor([1.0, 3.0]), atol=0.05, rtol=0)


def test_categorical_agrees_with_torch():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, reference = Categorical(logits), td.Categorical(logits=logits)
    actions = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(ours.log_prob(actions), reference.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    assert torch.equal(ours.mode(), logits.argmax(-1))
    other = Categorical(logits.flip(-1))
    torch.testing.assert_close(
        ours.kl_parts(other)[0], td.kl_divergence(reference, td.Categorical(logits=other.logits))
    )


def test_categorical_kl_by_hand():
    old, new = Categorical(torch.tensor([[0.7, 0.3]]).log()), Categorical(torch.tensor([[0.5, 0.5]]).log())
    assert old.kl_parts(new)[0].item() == pytest.approx(0.0822829, abs=1e-6)


def test_categorical_samples_have_its_frequencies():
    torch.manual_seed(0)
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    samples = Categorical(probabilities.log().expand(200_000, 3)).sample()
    torch.testing.assert_close(samples.bincount(minlength=3) / 200_000, probabilities, atol=0.005, rtol=0)


def test_log_probabilities_that_are_kept_have_a_gradient_where_one_is_wanted():
    logits = torch.randn(4, 3, requires_grad=True)
    policy = Categorical(logits)
    with torch.no_grad():
        before = policy.entropy()
    assert not before.requires_grad
    policy.entropy().sum().backward()
    assert logits.grad is not None and bool(logits.grad.abs().sum() > 0)


@pytest.mark.parametrize("size", [1e-2, 1e-3, 3e-4])  # KLs of about 1e-4, 1e-6 and 1e-7
def test_small_divergences_and_their_gradients_are_those_of_float64(size):
    torch.manual_seed(0)
    log_std = torch.rand(1000, 3) - 1.0
    moved = log_std + size * (0.5 + torch.rand(1000, 3))
    logits, others = torch.randn(1000, 3), 2.0 * size * torch.randn(1000, 3)
    results = []
    for dtype in (torch.float64, torch.float32):
        old = DiagonalGaussian(torch.zeros(1000, 3, dtype=dtype), log_std.to(dtype))
        new_log_std = moved.to(dtype).requires_grad_()
        new = DiagonalGaussian(old.mean, new_log_std)
        new_logits = (logits + others).to(dtype).requires_grad_()
        kls = (old.kl_parts(new)[1], old.kl(new), Categorical(logits.to(dtype)).kl(Categorical(new_logits)))
        torch.stack(kls).sum().backward()
        results.append(
            [value.double() for value in (*(kl.detach() for kl in kls), new_log_std.grad, new_logits.grad)]
        )
    for exact, found in zip(*results, strict=True):
        assert float(((found - exact).abs() / exact.abs().mean()).max()) < 1e-3
        assert abs(float(found.abs().mean() / exact.abs().mean()) - 1.0) < 1e-4


def test_divergences_of_policies_that_have_nothing_in_common_are_finite():
    far, near = Categorical(torch.tensor([0.0, -200.0])), Categorical(torch.tensor([0.0, 10.0]))
    assert float(far.kl(near)) == pytest.approx(10.0, abs=1e-3) and float(near.kl(far)) == pytest.approx(
        199.99, abs=0.01
    )
