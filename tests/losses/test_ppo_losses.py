import math

import pytest
import torch

from fastrl.losses.ppo import approximate_kl, clipped_surrogate, clipped_value_loss
from fastrl.losses.value import standardize


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.4, False),  # clipped at 1.2
        (0.5, 2.0, -1.0, True),  # worse than clipped: the gradient stays
        (0.5, -2.0, 1.6, False),  # clipped at 0.8
        (1.5, -2.0, 3.0, True),
    ],
)
def test_the_surrogate_by_hand(ratio, advantage, loss, moves):
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    found = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2)
    assert found.item() == pytest.approx(loss)
    found.backward()
    assert bool(log_ratio.grad) is moves


def test_every_branch_is_clipped_for_itself():
    log_ratio = torch.tensor([[math.log(1.5), 0.0]])
    assert clipped_surrogate(log_ratio, torch.tensor([[1.0]]), 0.2).tolist() == [pytest.approx([-1.2, -1.0])]


@pytest.mark.parametrize(
    ("value", "clip", "loss"),
    [(1.0, None, 0.5 * 9), (1.0, 0.2, 0.5 * 3.8**2), (4.5, 0.2, 0.5 * 3.8**2), (-1.0, 0.2, 0.5 * 25)],
)
def test_the_value_loss_by_hand(value, clip, loss):
    """V_old = 0, G = 4: moving towards the return counts up to 0.2 only, moving away in full."""
    found = clipped_value_loss(torch.tensor([value]), torch.tensor([4.0]), torch.tensor([0.0]), clip)
    assert found.item() == pytest.approx(loss)


def test_the_approximate_kl_is_exact_on_average_and_never_negative():
    old, new = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    log_ratio = new.log() - old.log()
    kl = (old * (old.log() - new.log())).sum()
    torch.testing.assert_close((old * approximate_kl(log_ratio)).sum(), kl)
    assert (approximate_kl(log_ratio) >= 0).all()


def test_standardised_advantages():
    torch.testing.assert_close(standardize(torch.tensor([1.0, 3.0])), torch.tensor([-1.0, 1.0]))
    assert standardize(torch.tensor([5.0])).item() == 5.0


def test_the_gradient_of_the_surrogate_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    log_ratio = (0.5 * torch.randn(200, 3, generator=generator)).requires_grad_()
    advantages, upstream = torch.randn(200, 1, generator=generator), torch.randn(200, 3, generator=generator)
    ratio = log_ratio.exp()
    formula = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
    found = clipped_surrogate(log_ratio, advantages, 0.2)
    torch.testing.assert_close(found, formula)
    torch.testing.assert_close(
        torch.autograd.grad(found, log_ratio, upstream), torch.autograd.grad(formula, log_ratio, upstream)
    )


def test_the_gradient_of_a_ratio_that_is_broadcast_is_summed():
    log_ratio = torch.zeros(3, requires_grad=True)
    clipped_surrogate(log_ratio, torch.ones(5, 3), 0.2).sum().backward()
    assert log_ratio.grad.tolist() == [-5.0, -5.0, -5.0]


def test_a_second_gradient_of_the_surrogate_is_an_error():
    log_ratio = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        clipped_surrogate(log_ratio, torch.ones(3), 0.2).sum(), log_ratio, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
