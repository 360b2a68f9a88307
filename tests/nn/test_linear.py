"""The fast linear layer against torch's: values, gradients, and where it steps aside."""

import copy

import pytest
import torch
from torch import nn

from fastrl.nn import linear
from fastrl.nn.linear import Linear

LARGE = (512, 96, 128)  # rows, inputs, outputs: a product that is worth oneDNN's fixed cost
assert 2 * 512 * 96 * 128 >= linear.ONEDNN_PAYS_FROM


@pytest.fixture
def used(monkeypatch):
    """Lets oneDNN multiply, whether it is faster here or not, and counts its products."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    product, calls = torch.ops.mkldnn._linear_pointwise, []

    def counting(*arguments):
        calls.append(arguments[0].shape)
        return product(*arguments)

    monkeypatch.setattr(linear, "_onednn", counting)
    return calls


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(bias, used):
    rows, inputs, outputs = LARGE
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=bias)
    reference = nn.Linear(inputs, outputs, bias=bias).double()
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(rows, inputs, requires_grad=True)
    x_reference = x.detach().double().requires_grad_()
    y, expected = layer(x), reference(x_reference)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(rows, outputs)
    y.backward(direction)
    expected.backward(direction.double())
    torch.testing.assert_close(x.grad.double(), x_reference.grad, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-3)
    assert len(used) == 3  # forward and both gradients


def test_strided_input_and_expanded_gradient(used):
    rows, inputs, outputs = LARGE
    layer = Linear(inputs, outputs)
    wide = torch.randn(inputs, 2 * rows)
    x = wide.t()[::2]
    torch.testing.assert_close(
        layer(x), nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5
    )
    layer(x).sum().backward()  # the gradient that arrives is one number, expanded
    torch.testing.assert_close(layer.weight.grad, x.sum(0).expand_as(layer.weight), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(layer.bias.grad, torch.full((outputs,), float(rows)))
    assert used


@pytest.mark.parametrize(
    "x",
    [torch.randn(2, 96), torch.randn(0, 96), torch.randn(4, 512, 96), torch.randn(96)],
    ids=["small", "empty", "rank 3", "rank 1"],
)
def test_elsewhere_it_is_the_layer_of_torch(x, used):
    layer = Linear(96, 128)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert not used


def test_other_dtypes_go_to_torch(used):
    x = torch.randn(512, 96, dtype=torch.float64)
    layer = Linear(96, 128).double()
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert not used


def test_without_gradient_nothing_is_recorded(used):
    layer = Linear(96, 128)
    with torch.no_grad():
        y = layer(torch.randn(512, 96))
    assert not y.requires_grad and len(used) == 1


def test_a_second_gradient_is_an_error_and_not_a_wrong_number(used):
    layer = Linear(96, 128)
    x = torch.randn(512, 96, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_second_gradient_after_a_sum_is_an_error_too(used):
    layer = Linear(96, 128)
    x = torch.randn(512, 96, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_frozen_parameters_cost_no_product(used):
    layer = Linear(96, 128).requires_grad_(False)
    x = torch.randn(512, 96, requires_grad=True)
    layer(x).sum().backward()
    assert len(used) == 2 and layer.weight.grad is None


def test_state_dict_and_copies_are_those_of_torch():
    layer = Linear(3, 2)
    nn.Linear(3, 2).load_state_dict(layer.state_dict())
    assert torch.equal(copy.deepcopy(layer).weight, layer.weight)
    assert isinstance(layer, nn.Linear)


def test_part_of_a_wider_weight_is_multiplied_as_a_matrix_of_its_own(used):
    """oneDNN has no fast path for its strides, and takes a thousand times as long."""
    rows, inputs, outputs = LARGE
    x, wider = torch.randn(rows, inputs), torch.randn(outputs, inputs + 7)
    torch.testing.assert_close(
        linear.product(x, wider[:, :inputs]), x @ wider[:, :inputs].t(), rtol=1e-4, atol=1e-4
    )
    assert used


def test_weights_that_are_handed_to_onednn_lie_densely(monkeypatch):
    seen = []
    monkeypatch.setattr(linear, "_onednn", lambda x, weight, *_: seen.append(weight) or x @ weight.t())
    wider = torch.randn(LARGE[2], LARGE[1] + 7)
    for weight in (
        wider[:, : LARGE[1]],
        torch.randn(LARGE[1], LARGE[2]).t(),
        wider[:, : LARGE[1]].contiguous(),
    ):
        linear.product(torch.randn(LARGE[0], LARGE[1]), weight)
    assert all(weight.is_contiguous() or weight.t().is_contiguous() for weight in seen) and len(seen) == 3
