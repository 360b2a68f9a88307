"""Networks from configurations: every input inferred, no configuration changed."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fastrl.errors import SettingError
from fastrl.nn import ActionLinear, ChannelsFirst, FlattenLinear, SequentialExtended
from fastrl.nn.linear import Linear
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.net_builder import auto_input_shape, get_module_list, nn_from_config

DISCRETE = dict(shape=3, space="discrete", dtype="int64")
CONTINUOUS = dict(shape=[2], space="continuous", dtype="float32")


@pytest.mark.parametrize(
    ("layer", "shape", "inferred"),
    [
        (dict(func=nn.Linear, out_features=2), 5, dict(in_features=5)),
        (dict(func="torch.nn.Linear", out_features=2), [5], dict(in_features=5)),
        (dict(func=Linear, out_features=2), (5,), dict(in_features=5)),
        (dict(func=FlattenLinear, out_features=2), (3, 4), dict(in_features=(3, 4))),
        (dict(func=ActionLinear), (3, 4), dict(in_features=(3, 4))),
        (dict(func=nn.Conv2d, out_channels=2, kernel_size=1), (3, 4, 5), dict(in_channels=3)),
        (dict(func=nn.BatchNorm2d), (3, 4, 5), dict(num_features=3)),
        (dict(func=nn.LayerNorm), (3, 4), dict(normalized_shape=(3, 4))),
        (dict(func=nn.Tanh), (3, 4), {}),
    ],
)
def test_the_input_of_a_layer(layer, shape, inferred):
    before = copy.deepcopy(layer)
    assert auto_input_shape(layer, shape) == {**layer, **inferred}
    assert layer == before and list(layer) == list(before)
    section = Config(**layer)
    assert auto_input_shape(section, shape) == {**layer, **inferred} and section == Config(**layer)


def test_an_input_that_is_stated_has_to_be_the_right_one():
    assert auto_input_shape(dict(func=nn.Linear, in_features=5, out_features=2), 5)["in_features"] == 5
    assert (
        auto_input_shape(dict(func=FlattenLinear, in_features=12, out_features=2), (3, 4))["in_features"]
        == 12
    )
    assert auto_input_shape(dict(func=FlattenLinear, in_features=[3, 4], out_features=2), (3, 4))[
        "in_features"
    ] == [3, 4]
    with pytest.raises(SettingError, match=r"in_features of Linear is 6, but its input has shape \[5\]"):
        auto_input_shape(dict(func=nn.Linear, in_features=6, out_features=2), 5)
    with pytest.raises(
        ValueError, match=r"Linear needs a flat input, got shape \[3, 4\]; FlattenLinear takes any"
    ):
        auto_input_shape(dict(func=nn.Linear, out_features=2), (3, 4))
    with pytest.raises(
        SettingError, match=r"Conv2d needs channels and at least one more dimension, got shape \[3\]"
    ):
        auto_input_shape(dict(func=nn.Conv2d, out_channels=2, kernel_size=1), 3)


ATARI = [
    dict(func=nn.Conv2d, out_channels=16, kernel_size=8, stride=4),
    dict(func=nn.ReLU),
    dict(func="torch.nn.Conv2d", out_channels=32, kernel_size=4, stride=2),
    dict(func=nn.ReLU),
    dict(func=FlattenLinear, out_features=256),
    dict(func=nn.ReLU),
    dict(func=ActionLinear),
]


def test_inputs_of_every_layer_are_inferred():
    before = copy.deepcopy(ATARI)
    layers = get_module_list(ATARI, (4, 84, 84), DISCRETE)
    assert [type(layer) for layer in layers[::2]] == [nn.Conv2d, nn.Conv2d, FlattenLinear, ActionLinear]
    assert layers[2].in_channels == 16 and layers[4].in_features == 32 * 9 * 9
    assert nn.Sequential(*layers)(torch.zeros(2, 4, 84, 84)).shape == (2, 3)
    assert ATARI == before
    again = get_module_list(
        Config(*ATARI), (4, 84, 84), CONTINUOUS
    )  # a configuration whose values are the layers
    assert nn.Sequential(*again)(torch.zeros(2, 4, 84, 84)).shape == (2, 2, 2)
    assert get_module_list([], 3, None) == []


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([dict(func=nn.Linear)], "layer 0: Linear cannot be made: .*out_features"),
        (
            [dict(func=nn.Tanh), dict(func=nn.Linear, out_features=2, colour=1)],
            "layer 1: Linear cannot be made: .*colour",
        ),
        ([dict(func=nn.Tanh), dict(out_features=2)], "layer 1: config must have 'func'"),
        ([dict(func="os.system")], "layer 0: 'os.system' must be the dotted name"),
        (
            [dict(func=nn.Linear, out_features=2), dict(func=nn.Linear, in_features=3, out_features=2)],
            "layer 1: in_features of Linear is 3",
        ),
        (
            [dict(func=nn.Unflatten, dim=1, unflattened_size=(3, 3))],
            r"layer 0: input_shape: Unflatten does not take samples of shape \[4\]",
        ),
        ([nn.Linear], "config must be a list of layers, each a mapping with 'func'"),
    ],
)
def test_a_layer_that_cannot_be_made_is_named(layers, message):
    with pytest.raises(SettingError, match=message):
        get_module_list(layers, 4, DISCRETE)


def test_action_linear_needs_to_know_the_actions():
    with pytest.raises(SettingError, match="layer 0: ActionLinear needs action_info"):
        get_module_list([dict(func=ActionLinear)], 4, None)


@pytest.mark.parametrize(
    ("shape", "turned"),
    [((84, 84, 3), True), ((84, 96, 12), True), ((4, 84, 84), False), ((20, 84, 20), False)],
)
def test_images_are_turned_for_a_convolution_where_their_channels_are_last(shape, turned):
    layers = nn_from_config(Config(body=ATARI[:2], head=ATARI[4:]), dict(shape=shape), DISCRETE).layers
    assert isinstance(layers.body.layers[0], ChannelsFirst) == turned
    convolution = next(layer for layer in layers.body.layers if isinstance(layer, nn.Conv2d))
    assert convolution.in_channels == (shape[2] if turned else shape[0])
    x = torch.rand(2, *shape)
    expected = torch.relu(convolution(x.permute(0, 3, 1, 2) if turned else x))
    assert torch.equal(layers.body(x), expected)
    assert layers.head(layers.body(x)).shape == (2, 3)


def test_a_layer_that_says_its_channels_and_one_that_convolves_nothing_get_images_as_they_are():
    stated = dict(func=nn.Conv2d, in_channels=9, out_channels=2, kernel_size=3)
    for layer, shape in (
        (stated, (9, 8, 4)),
        (dict(func=FlattenLinear, out_features=2), (9, 8, 4)),
        (dict(func=nn.Tanh), (9, 8, 4)),
    ):
        body = nn_from_config(Config(body=[layer]), dict(shape=shape), None).layers.body
        assert len(body.layers) == 1 and body(torch.zeros(1, *shape)).shape[0] == 1
    with pytest.raises(
        SettingError, match="Linear needs a flat input.*images go through the convolutions of from_arch"
    ):
        nn_from_config(Config(body=[dict(func=nn.Linear, out_features=2)]), dict(shape=(84, 84, 3)), None)


NETWORK = Config(
    body=[dict(func=nn.Linear, out_features=8), dict(func=nn.Tanh), dict(func=nn.Linear, out_features=6)],
    head=[dict(func=nn.Tanh), dict(func=nn.Linear, out_features=5)],  # a head may begin with an activation
)


def test_a_configuration_builds_any_number_of_networks():
    before = NETWORK.as_dict()
    one, other = (nn_from_config(NETWORK, dict(shape=[4]), DISCRETE) for _ in range(2))
    assert NETWORK.as_dict() == before
    assert isinstance(one, SequentialExtended) and one(torch.zeros(2, 4)).shape == (2, 5)
    assert (
        one.layers.body is one.layers[0]
        and one.layers.head is one.layers[1]
        and one.layers.body.get_output_shape(4) == (6,)
    )
    assert not {id(parameter) for parameter in one.parameters()} & {
        id(parameter) for parameter in other.parameters()
    }


def test_layers_can_be_appended_to_an_empty_head():
    network = nn_from_config(Config(body=NETWORK.body), dict(shape=4), None)
    assert network(torch.zeros(2, 4)).shape == (2, 6) and len(network.layers.head.layers) == 0
    network.layers.head.append(ActionLinear(network.get_output_shape(4), DISCRETE))
    assert network(torch.zeros(2, 4)).shape == (2, 3)
    empty = nn_from_config({}, dict(shape=(4,)), None)
    assert empty.get_output_shape(4) == (4,)


def test_parts_that_are_given_are_shared():
    policy = nn_from_config(NETWORK, dict(shape=4), DISCRETE)
    value = nn_from_config(
        Config(head=[dict(func=nn.Linear, out_features=1)]), dict(shape=4), DISCRETE, body=policy.layers.body
    )
    assert value.layers.body is policy.layers.body and value(torch.zeros(2, 4)).shape == (2, 1)
    third = nn_from_config(NETWORK, dict(shape=4), DISCRETE, body=nn.Linear(4, 6), head=policy.layers.head)
    assert third.layers.head is policy.layers.head and len(policy.layers.head.layers) == 2


def test_what_a_network_cannot_be_made_of():
    with pytest.raises(
        SettingError, match="config of a network has body and head, got 'bodi'; did you mean 'body'?"
    ):
        nn_from_config(Config(bodi=[]), dict(shape=4), DISCRETE)
    with pytest.raises(SettingError, match="state_info must have 'shape', it has 'dtype'"):
        nn_from_config(NETWORK, dict(dtype="float32"), DISCRETE)
    with pytest.raises(SettingError, match="head, layer 0: Linear needs a flat input"):
        nn_from_config(Config(head=[dict(func=nn.Linear, out_features=1)]), dict(shape=(2, 4)), DISCRETE)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (dict(func=nn.Linear, out_features=2**50), "layer 0: out_features too large: networks .* of memory"),
        (
            dict(func=nn.Linear, out_features=np.int64(2**50)),
            "layer 0: out_features too large: networks .* of memory",
        ),
        (dict(func=nn.Conv2d, out_channels=2**40, kernel_size=(3, 3)), "layer 0: out_channels too large"),
        (dict(func=nn.Linear, out_features=-3), "layer 0: Linear cannot be made: .*negative"),
    ],
)
def test_sizes_that_cannot_be_are_refused(layer, message):
    with pytest.raises(SettingError, match=message):
        get_module_list([layer], (3, 8, 8) if layer["func"] is nn.Conv2d else 4, None)
