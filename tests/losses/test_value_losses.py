import pytest
import torch

from fastrl.losses.value import explained_variance, half_squared_error


def test_half_squared_error_and_its_gradient():
    values, targets = (
        torch.tensor([1.0, 4.0], requires_grad=True),
        torch.tensor([3.0, 4.0], requires_grad=True),
    )
    loss = half_squared_error(values, targets)
    assert loss.tolist() == [2.0, 0.0]
    loss.sum().backward()
    assert values.grad.tolist() == [-2.0, 0.0] and targets.grad is None


def test_half_squared_error_refuses_to_broadcast():
    with pytest.raises(ValueError, match="one shape"):
        half_squared_error(torch.zeros(3, 1), torch.zeros(3))


def test_explained_variance():
    targets, predicted = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.1, 1.9, 3.2, 3.8])
    assert explained_variance(targets, (targets - predicted).var(correction=0)).item() == pytest.approx(
        0.98, abs=1e-5
    )
    for same in (
        torch.ones(4),
        torch.full((1000,), 7.3),
        torch.tensor([0.1]),
    ):  # of the second the variance is not 0, by rounding
        assert explained_variance(same, torch.tensor(0.3)).item() == 0.0
