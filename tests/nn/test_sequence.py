"""Runs of layers as one operation: the same as calling one after the other."""

import pytest
import torch
from torch import nn

from fastrl.nn.activations import Tanh
from fastrl.nn.containers import ActionLinear, FlattenLinear, SequentialExtended
from fastrl.nn.layers import mlp
from fastrl.nn.linear import Linear
from fastrl.nn.sequence import prepare_layers, run_layers


def one_by_one(modules, x):
    for module in modules:
        x = one_by_one(module.layers, x) if isinstance(module, SequentialExtended) else module(x)
    return x


NETWORKS = {
    "layers and activations": lambda: [
        Linear(6, 8),
        Tanh(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ELU(),
        nn.Linear(8, 3),
    ],
    "an activation first and two in a row": lambda: [
        nn.Tanh(),
        Linear(6, 8),
        Tanh(),
        nn.ReLU(),
        Linear(8, 3),
    ],
    "others between": lambda: [
        Linear(6, 8),
        nn.LayerNorm(8),
        nn.ReLU(),
        nn.Linear(8, 8, bias=False),
        nn.Tanh(),
        Linear(8, 3),
    ],
    "an ELU of another alpha": lambda: [Linear(6, 8), nn.ELU(alpha=0.5), Linear(8, 3)],
    "sequences within": lambda: [
        nn.Sequential(Linear(6, 8), Tanh()),
        SequentialExtended(Linear(8, 8), nn.ReLU()),
        nn.Identity(),
        Linear(8, 3),
    ],
    "a continuous policy": lambda: [
        SequentialExtended(Linear(6, 8), Tanh()),
        SequentialExtended(ActionLinear(8, {"space": "continuous", "shape": (2,)})),
    ],
    "nothing": list,
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_layers_together_give_what_they_give_one_by_one(make):
    torch.manual_seed(0)
    modules = nn.ModuleList(make())
    x, other = torch.randn(11, 6).requires_grad_(), None
    found, expected = run_layers(modules, x), one_by_one(modules, x)
    torch.testing.assert_close(found, expected)
    inputs = [x, *modules.parameters()]
    for other, wanted in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(prepare_layers(modules)(x), expected)


def test_images_are_flattened_where_a_layer_flattens():
    modules = [nn.Conv2d(1, 2, 3), nn.ReLU(), FlattenLinear((2, 4, 4), 8), Tanh(), FlattenLinear(8, 3)]
    images = torch.randn(5, 1, 6, 6)
    torch.testing.assert_close(run_layers(modules, images), one_by_one(modules, images))
    torch.testing.assert_close(
        run_layers([Linear(4, 4), FlattenLinear(8, 3)], torch.ones(5, 2, 4)).shape, torch.Size([5, 3])
    )


def test_a_module_with_a_hook_is_called():
    called = []
    layer = Linear(4, 4)
    layer.register_forward_hook(lambda *_: called.append("layer"))
    inner = nn.Sequential(Linear(4, 4))
    inner.register_forward_pre_hook(lambda *_: called.append("sequence"))
    run_layers([layer, Tanh(), inner], torch.randn(2, 4))
    assert called == ["layer", "sequence"]


def test_a_subclass_with_a_forward_of_its_own_is_called():
    class Doubled(Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    class Twice(SequentialExtended):
        def forward(self, x):
            return super().forward(super().forward(x))

    layer, x = Doubled(4, 4), torch.randn(3, 4)
    torch.testing.assert_close(run_layers([layer], x), 2 * nn.functional.linear(x, layer.weight, layer.bias))
    twice = Twice(Linear(4, 4), Tanh())
    torch.testing.assert_close(run_layers([twice], x), one_by_one(twice.layers, one_by_one(twice.layers, x)))


def test_hooks_on_the_sequence_within_a_container_are_called():
    called, network = [], SequentialExtended(Linear(4, 4), Tanh())
    network.layers.register_forward_hook(lambda *_: called.append("layers"))
    network(torch.randn(2, 4))
    assert called == ["layers"]


def test_hooks_on_all_modules_are_called():
    called, network = [], mlp(4, (8,))
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(type(module)))
    try:
        network(torch.randn(2, 4))
        prepare_layers(network.parts())(torch.randn(2, 4))
    finally:
        hook.remove()
    assert called.count(Linear) == called.count(Tanh) == 2


def test_a_forward_put_in_place_of_the_classs_is_called():
    layer, inner = Linear(4, 4), nn.Sequential(Linear(4, 4))
    layer.forward = lambda input: torch.zeros_like(input)
    inner.forward = lambda input: input + 1.0
    assert run_layers([layer, inner], torch.randn(2, 4)).eq(1.0).all()


def test_a_module_of_ones_own_may_have_parts():
    class Own(nn.Module):
        def parts(self):
            return [Tanh()]

        def forward(self, x):
            return 2.0 * x

    x = torch.randn(3, 4)
    assert run_layers([Own()], x).equal(2.0 * x)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_that_is_no_parameter_counts(name):
    layer, x = Linear(4, 3), torch.randn(2, 4)
    value = torch.randn_like(getattr(layer, name))
    delattr(layer, name)
    setattr(layer, name, value)
    torch.testing.assert_close(
        run_layers([layer, Tanh()], x), torch.tanh(nn.functional.linear(x, layer.weight, layer.bias))
    )


def test_transforms_of_torch_see_the_layers_one_by_one():
    network = SequentialExtended(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(network)(x[None]), network(x)[None])
    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(y).sum(), y)
    torch.testing.assert_close(torch.func.grad(lambda x: network(x).sum())(x), expected)


def test_layers_that_are_put_behind_later_count():
    network = SequentialExtended(Linear(4, 4))
    x = torch.randn(3, 4)
    network(x)
    network.append(Tanh())
    torch.testing.assert_close(network(x), torch.tanh(network.layers[0](x)))


def test_prepared_layers_follow_the_parameters():
    network = mlp(4, (8, 3))
    prepared, x = prepare_layers(network.parts()), torch.randn(6, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
        torch.testing.assert_close(prepared(x), network(x))


def test_a_network_compiles():
    network = SequentialExtended(Linear(4, 8), Tanh(), Linear(8, 2))
    x = torch.randn(5, 4)
    torch.testing.assert_close(torch.compile(network, backend="eager", fullgraph=True)(x), network(x))
