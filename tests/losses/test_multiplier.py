"""A multiplier pays and is paid by hand-computed amounts, moves against its bound, and never reaches zero."""

import pytest
import torch

from fastrl.losses.multiplier import SMALLEST, Multiplier


def test_penalty_and_loss_by_hand():
    alpha = Multiplier(2.0, bound=0.1)
    kl = torch.tensor(0.25, requires_grad=True)
    assert alpha.penalty(kl).item() == pytest.approx(0.5)
    assert alpha.loss(kl).item() == pytest.approx(2.0 * (0.1 - 0.25))


def test_the_penalty_moves_what_is_bounded_and_the_loss_the_multiplier():
    alpha = Multiplier(3.0, bound=0.1, shape=(2,))
    kl = torch.tensor([0.3, 0.05], requires_grad=True)
    alpha.penalty(kl).backward()
    assert kl.grad.tolist() == [3.0, 3.0] and alpha.value.grad is None
    kl.grad = None
    alpha.loss(kl).backward()
    assert kl.grad is None and alpha.value.grad.tolist() == pytest.approx([-0.2, 0.05])


def test_it_rises_while_the_kl_is_above_its_bound_and_comes_back_from_its_floor():
    alpha = Multiplier(0.5, bound=0.1)
    optimizer = torch.optim.SGD(alpha.parameters(), lr=1.0)

    def step(kl: float) -> float:
        optimizer.zero_grad()
        alpha.loss(torch.tensor(kl)).backward()
        optimizer.step()
        alpha.project_()
        return alpha().item()

    assert step(0.3) == pytest.approx(0.7)
    for _ in range(20):
        lowest = step(0.0)
    assert lowest == pytest.approx(SMALLEST)
    assert step(0.3) == pytest.approx(0.2)


def test_one_that_is_frozen_is_left_alone():
    alpha = Multiplier(1.0, bound=0.1)
    alpha.value.data.fill_(-1.0)
    alpha.requires_grad_(False)
    alpha.project_()
    assert float(alpha()) == -1.0


@pytest.mark.parametrize("initial", [0.0, -1.0, float("nan"), float("inf")])
def test_it_starts_from_a_positive_number(initial):
    with pytest.raises(ValueError, match="initial must be a positive finite number"):
        Multiplier(initial, bound=0.1)
