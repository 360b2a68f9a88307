"""Containers: shapes found without a trace, inputs flattened, outputs as wide as the actions need."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from fastrl.errors import SettingError
from fastrl.nn import ActionLinear, FlattenLinear, ModuleExtended, SequentialExtended
from fastrl.nn.containers import output_shape, to_tensor
from fastrl.nn.linear import Linear

DISCRETE = dict(shape=3, space="discrete", dtype="int64")
CONTINUOUS = dict(shape=(2,), space="continuous", dtype="float32")


def test_bases_are_the_documented_ones():
    assert issubclass(ModuleExtended, nn.Module) and issubclass(SequentialExtended, ModuleExtended)
    assert (
        issubclass(FlattenLinear, nn.Linear)
        and issubclass(FlattenLinear, Linear)
        and issubclass(ActionLinear, nn.Module)
    )


def test_a_sequence_runs_its_layers_in_order_and_knows_them_by_name():
    first, second = nn.Linear(2, 3), nn.Tanh()
    for network in (
        SequentialExtended(first, second),
        SequentialExtended(OrderedDict(a=first, b=second)),
        SequentialExtended(a=first, b=second),
    ):
        x = torch.randn(5, 2)
        torch.testing.assert_close(network(x), second(first(x)))
        assert list(network.layers) == [first, second]
    assert SequentialExtended(a=first).layers.a is first
    assert [name for name, _ in SequentialExtended(first, b=second).layers.named_children()] == ["0", "b"]


def test_an_empty_sequence_is_the_identity_and_grows():
    network = SequentialExtended()
    x = torch.randn(4, 3)
    assert network(x) is x and network.get_output_shape(3) == (3,)
    network.append(nn.Linear(3, 2))
    network.append(nn.Tanh(), name="squash")
    assert network(x).shape == (4, 2) and [name for name, _ in network.layers.named_children()] == [
        "0",
        "squash",
    ]
    with pytest.raises(SettingError, match="name: there is a layer 'squash' already"):
        network.append(nn.ReLU(), name="squash")
    with pytest.raises(SettingError, match="layer '2' must be a torch.nn.Module, got the class ReLU"):
        network.append(nn.ReLU)


def test_finding_the_output_shape_leaves_no_trace():
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append((torch.is_grad_enabled(), self.training))
            return x

    network = SequentialExtended(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), Watching(), nn.Flatten()
    )
    network.layers[2].eval()  # one part in another mode than the rest
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    assert network.get_output_shape((3, 6, 5)) == (8 * 4 * 3,)
    assert seen == [(False, False)] and torch.equal(state, torch.random.get_rng_state())
    assert network.training and network.layers[1].training and not network.layers[2].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert SequentialExtended(nn.Linear(2, 3).double()).get_output_shape([2]) == (3,)


def test_what_does_not_fit_is_said():
    with pytest.raises(SettingError, match=r"input_shape: Linear does not take samples of shape \[3\]"):
        output_shape(nn.Linear(2, 2), 3)
    with pytest.raises(SettingError, match="module: GRU gives tuple, a layer gives one tensor"):
        output_shape(nn.GRU(2, 2), (4, 2))
    with pytest.raises(
        SettingError,
        match="input_shape must be a number of at least 1, or a list of such numbers, got 'four'",
    ):
        output_shape(nn.Tanh(), "four")
    network = SequentialExtended(nn.Linear(2, 2))
    with pytest.raises(SettingError):
        network.get_output_shape(5)
    assert network.training  # also after a failure


def test_flatten_linear_flattens_samples():
    torch.manual_seed(0)
    layer = FlattenLinear([3, 4, 5], 7, bias=False)
    x = torch.randn(2, 3, 4, 5)
    assert layer.in_features == 60 and layer.bias is None
    torch.testing.assert_close(layer(x), x.reshape(2, 60) @ layer.weight.T)
    assert FlattenLinear(6, [2, 2]).weight.shape == (4, 6)
    for wrong in ([3, 0], "3", 2.5, [True]):
        with pytest.raises(SettingError, match="in_features must be a number of at least 1"):
            FlattenLinear(wrong, 2)


def test_action_linear_gives_logits_of_discrete_actions():
    layer = ActionLinear((4, 2), DISCRETE)
    assert layer(torch.randn(5, 4, 2)).shape == (5, 3) and layer.log_std is None
    assert ActionLinear(4, dict(shape=(2,), nvec=(3, 4), space="multi_discrete", dtype="int64"))(
        torch.zeros(5, 4)
    ).shape == (5, 7)
    assert ActionLinear(4, dict(shape=[3, 4], space="multi_discrete", dtype="int64"))(
        torch.zeros(5, 4)
    ).shape == (5, 7)


def test_action_linear_gives_mean_and_log_std_of_continuous_actions():
    torch.manual_seed(0)
    layer = ActionLinear(64, CONTINUOUS)
    x = torch.randn(5, 64)
    out = layer(x)
    assert out.shape == (5, 2, 2)
    torch.testing.assert_close(out[..., 0], x @ layer.linear.weight.T + layer.linear.bias)
    assert (
        layer.log_std.shape == (1, 2) and not out[..., 1].any() and 0.007 < layer.linear.weight.std() < 0.013
    )
    with torch.no_grad():
        layer.log_std.copy_(torch.tensor([[1.0, -2.0]]))
    assert torch.equal(
        layer(torch.randn(3, 64))[..., 1], torch.tensor([[1.0, -2.0]] * 3)
    )  # whatever the state
    out.sum().backward()
    assert torch.equal(layer.log_std.grad, torch.full((1, 2), 5.0))


@pytest.mark.parametrize(
    ("action_info", "message"),
    [
        ({"shape": 3}, "action_info must have 'space', it has 'shape'"),
        ({"space": "discrete"}, "action_info must have 'shape', it has 'space'"),
        (
            dict(DISCRETE, space="real"),
            "action_info: space must be discrete, continuous or multi_discrete, got 'real'",
        ),
        (dict(DISCRETE, shape=0), "action_info: shape must be a number of at least 1"),
    ],
)
def test_action_info_that_is_of_no_use(action_info, message):
    with pytest.raises(SettingError, match=message):
        ActionLinear(4, action_info)


def test_tensors_of_anything(device):
    network = SequentialExtended(nn.Linear(2, 2)).to(device)
    assert network.device.type == device.type and network.is_cuda is (device.type == "cuda")
    for value in ([1.0, 2.0], np.array([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)):
        tensor = network.to_tensor(value)
        assert (
            tensor.dtype == torch.float32
            and tensor.device.type == device.type
            and tensor.tolist() == [1.0, 2.0]
        )
    assert network.maybe_cuda(torch.zeros(2)).device.type == device.type
    assert to_tensor(np.array([True])).dtype == torch.bool and to_tensor(3).dtype == torch.int64
    array = np.zeros(3, np.float32)
    array_tensor = to_tensor(array)
    array[0] = 1.0
    assert array_tensor[0] == 1.0
    assert SequentialExtended().device.type == "cpu" and not SequentialExtended().is_cuda
