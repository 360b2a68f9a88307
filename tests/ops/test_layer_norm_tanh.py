"""What is particular to layer norm with tanh: groups, numbers worked out by hand, means far from zero, rows
that are not finite."""

import math

import pytest
import torch
from torch.nn import functional

from fastrl import ops


def test_a_row_worked_out_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0]])  # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    weight, bias = torch.tensor([1.0, 2.0, 3.0, 0.5]), torch.tensor([0.0, 0.0, 0.25, -1.0])
    expected = [
        math.tanh(w * d / 2.0 + b)
        for w, d, b in zip((1, 2, 3, 0.5), (-2, -1, 0, 3), (0, 0, 0.25, -1), strict=True)
    ]
    torch.testing.assert_close(ops.layer_norm_tanh(x, weight, bias, eps=0.5), torch.tensor([expected]))


def test_every_group_is_shifted_by_its_row():
    x, shift = torch.randn(6, 20), 3 * torch.randn(2, 20)
    weight, bias = torch.randn(20), torch.randn(20)
    alone = ops.layer_norm_tanh(x + shift[[0, 0, 0, 1, 1, 1]], weight, bias)
    assert torch.equal(ops.layer_norm_tanh(x, weight, bias, shift=shift), alone)


@pytest.mark.parametrize("features", [1, 7, 16, 100, 512])
def test_it_is_torchs_layer_norm_with_tanh(features: int):
    x, weight, bias = torch.randn(9, features), torch.randn(features), torch.randn(features)
    expected = torch.tanh(functional.layer_norm(x, (features,), weight, bias))
    torch.testing.assert_close(ops.layer_norm_tanh(x, weight, bias), expected)


def test_a_mean_far_from_zero_costs_no_more_digits_than_it_must():
    x = torch.randn(5, 512) + 1000.0
    weight, bias = torch.ones(512), torch.zeros(512)
    error = ops.layer_norm_tanh(x, weight, bias) - ops.layer_norm_tanh_reference(x, weight, bias)
    assert error.abs().max().item() < 1e-4  # a last bit of the mean is 6e-5


def test_what_is_not_finite_stays_in_its_row():
    x = torch.randn(3, 40)
    x[1, 7], x[2, 39] = math.inf, math.nan
    y = ops.layer_norm_tanh(x, torch.ones(40), torch.zeros(40))
    assert y[0].isfinite().all() and y[1:].isnan().all()


def test_its_gradient_is_torchs():
    inputs = [torch.randn(6, 20), torch.randn(20), torch.randn(20), torch.randn(2, 20)]
    seed = torch.randn(6, 20)

    def gradients(function):
        variables = [tensor.clone().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(function(*variables), variables, seed)

    def plain(x, weight, bias, shift):
        return torch.tanh(functional.layer_norm(x + shift.repeat_interleave(3, 0), (20,), weight, bias))

    fused = gradients(lambda x, weight, bias, shift: ops.layer_norm_tanh(x, weight, bias, shift=shift))
    for got, expected in zip(fused, gradients(plain), strict=True):
        torch.testing.assert_close(got, expected)
