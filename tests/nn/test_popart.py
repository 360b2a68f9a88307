"""PopArt against the formula by hand and in float64: values stay while their scale moves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fastrl.nn.flat import FlatParameters
from fastrl.nn.kept import KeptParameters
from fastrl.nn.layers import mlp
from fastrl.nn.popart import PopArt, start_at_zero


def test_statistics_by_hand() -> None:
    popart, layer = PopArt(0.25), nn.Linear(2, 1)
    assert popart.scale() == (0.0, 1.0)
    popart.update(torch.tensor([1.0, 3.0]), layer)  # mean 2, mean square 5: debiased, the batch itself
    assert popart.scale() == pytest.approx((2.0, 1.0))
    popart.update(torch.tensor([6.0, 10.0, 8.0]), layer)  # mean 8, mean square 200/3
    # weights 0.25 · 0.75 and 0.25 of 0.4375
    mean = (0.1875 * 2.0 + 0.25 * 8.0) / 0.4375
    square = (0.1875 * 5.0 + 0.25 * 200.0 / 3.0) / 0.4375
    assert popart.scale() == pytest.approx((mean, math.sqrt(square - mean**2)))
    values = torch.tensor([1.5, -2.0])
    torch.testing.assert_close(popart.restore(popart.normalize(values)), values)
    expected = (values - mean) / math.sqrt(square - mean**2)
    torch.testing.assert_close(popart.normalize(values), expected)


def test_a_layer_by_hand() -> None:
    popart, layer = PopArt(1.0), nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0]]))
        layer.bias.fill_(0.5)
    popart.update(torch.tensor([6.0, 14.0]), layer)  # μ = 10, σ = 4
    assert layer.weight.tolist() == [[0.75, -0.25]]
    assert layer.bias.tolist() == [(0.5 - 10.0) / 4.0]
    popart.update(torch.tensor([-1.0, 1.0]), layer)  # and back to μ = 0, σ = 1
    assert (layer.weight.tolist(), layer.bias.tolist()) == ([[3.0, -1.0]], [0.5])


def trained(network: nn.Sequential, keep: str) -> tuple[torch.optim.Adam, FlatParameters | None]:
    """An Adam over a network that has made a step, and what holds the parameters."""
    flat = FlatParameters([network]) if keep == "flat" else None
    KeptParameters([network]).follow()
    optimizer = torch.optim.Adam([flat.whole] if flat else list(network.parameters()), lr=0.01)
    network(torch.randn(8, 3)).square().sum().backward()
    optimizer.step()
    return optimizer, flat


@pytest.mark.parametrize("keep", ["flat", "kept"])
def test_values_stay_when_the_scale_moves(keep: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*mlp(3, (16,)), nn.Linear(16, 1))
    optimizer, flat = trained(network, keep)
    averages = [value.clone() for state in optimizer.state.values() for value in state.values()]
    popart, obs = PopArt(0.1), torch.randn(50, 3)
    before = popart.restore(network(obs)).detach()
    for targets in (torch.randn(40), 1e3 * torch.randn(40) + 5e2, 3.0 * torch.randn(40) - 1.0):
        popart.update(targets, network[-1])
        after = popart.restore(network(obs)).detach()
        _, deviation = popart.scale()
        # float32 of the largest term, σ n or μ
        torch.testing.assert_close(after, before, rtol=1e-5, atol=4e-6 * max(1.0, deviation))
    now = [value for state in optimizer.state.values() for value in state.values()]
    assert all(torch.equal(mine, its) for mine, its in zip(now, averages, strict=True))
    if flat is not None:
        flat.follow()  # the layer's parameters are still views of the whole
        assert torch.equal(flat.whole[-1:], network[-1].bias)
        assert network[-1].bias.data_ptr() == flat.whole[-1:].data_ptr()


def test_values_stay_to_the_last_digits_in_float64() -> None:
    torch.manual_seed(1)
    layer, popart, features = nn.Linear(5, 1).double(), PopArt(0.3), torch.randn(9, 5).double()
    before = popart.restore(layer(features)).detach()
    for size in (1.0, 1e3, 1e-3, 1e6, 1.0):
        popart.update(size * (torch.randn(30).double() + 2.0), layer)
        torch.testing.assert_close(
            popart.restore(layer(features)).detach(), before, rtol=1e-9, atol=1e-10 * popart.scale()[1]
        )


def descended(unit: float, steps: int = 30) -> Tensor:
    """Values of a linear function that has followed targets in this unit by gradient descent."""
    torch.manual_seed(2)
    layer, popart = nn.Linear(4, 1).double(), PopArt(0.2)
    start_at_zero(layer)
    features = torch.randn(64, 4).double()
    for step in range(steps):
        targets = unit * (features.sum(-1) + 3.0 + 0.1 * step)
        popart.update(targets, layer)
        loss = 0.5 * (layer(features).squeeze(-1) - popart.normalize(targets)).square().mean()
        for parameter, gradient in zip(
            layer.parameters(), torch.autograd.grad(loss, list(layer.parameters())), strict=True
        ):
            parameter.data -= 0.5 * gradient
    return popart.restore(layer(features)).detach() / unit


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_targets_of_every_size_are_learned_alike(unit: float) -> None:
    torch.testing.assert_close(descended(unit), descended(1.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("constant", "expected"), [(7.0, 7e-4), (-1e-5, 1e-9), (0.0, 1.0)])
def test_one_number_has_a_scale(constant: float, expected: float) -> None:
    popart, layer = PopArt(0.1), nn.Linear(1, 1)
    start_at_zero(layer)
    for _ in range(3):
        popart.update(torch.full((5,), constant), layer)
    mean, deviation = popart.scale()
    assert (mean, deviation) == pytest.approx((constant, expected), rel=1e-4)
    value = popart.restore(layer(torch.ones(1, 1)))
    assert value.item() == pytest.approx(0.0, abs=1e-6 * max(abs(constant), 1e-9) + 1e-12)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_frozen_layer_keeps_its_scale(name: str) -> None:
    popart, layer = PopArt(0.1), nn.Linear(2, 1)
    popart.update(torch.tensor([1.0, 2.0]), layer)
    getattr(layer, name).requires_grad_(False)
    scale, weight, bias = popart.scale(), layer.weight.clone(), layer.bias.clone()
    popart.update(torch.tensor([100.0, 200.0]), layer)
    assert popart.scale() == scale
    assert torch.equal(layer.weight, weight) and torch.equal(layer.bias, bias)


def test_statistics_are_a_state_and_stay_float64() -> None:
    popart, layer = PopArt(0.1), nn.Linear(2, 1)
    popart.update(torch.tensor([1.0, 5.0]), layer)
    other = PopArt(0.1)
    other.load_state_dict(popart.float().state_dict())
    assert other.scale() == popart.scale()
    assert {value.dtype for value in popart.state_dict().values()} == {torch.float64}
