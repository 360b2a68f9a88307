"""Layer initialisation and the multilayer perceptron."""

import pytest
import torch
from torch import nn

from fastrl.nn.layers import count_parameters, layer_init, mlp


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 5), (5, 8), (6, 6)])
def test_layer_init_is_orthogonal_with_its_gain(inputs, outputs):
    layer = layer_init(nn.Linear(inputs, outputs), std=0.5, bias_const=0.25)
    small = min(inputs, outputs)
    weight = layer.weight if outputs <= inputs else layer.weight.T
    torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(small), atol=1e-5, rtol=0)
    assert torch.equal(layer.bias, torch.full((outputs,), 0.25))


def test_layer_init_covers_convolutions_and_passes_the_rest_through():
    convolution = layer_init(nn.Conv2d(2, 3, 3), bias_const=0.1)
    rows = convolution.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, 2.0 * torch.eye(3), atol=1e-4, rtol=0)
    norm = layer_init(nn.LayerNorm(4), bias_const=0.3)
    assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(norm.bias, torch.full((4,), 0.3))
    activation = nn.Tanh()
    assert layer_init(activation) is activation
    assert layer_init(nn.Linear(2, 2, bias=False)).bias is None


def test_mlp_has_its_widths_and_is_the_identity_without_layers():
    assert mlp(3, (7, 5))(torch.zeros(2, 3)).shape == (2, 5)
    x = torch.randn(2, 3)
    assert torch.equal(mlp(3, ())(x), x)


def test_shared_parameters_are_counted_once():
    layer = nn.Linear(3, 2)
    assert count_parameters(layer, None, nn.Sequential(layer, nn.Linear(2, 1))) == 8 + 3
