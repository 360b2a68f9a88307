"""The layers every network of the library is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from fastrl.nn.activations import Tanh
from fastrl.nn.linear import Linear
from fastrl.nn.sequence import MADE_OF_PARTS, run_layers

SQRT_TWO = math.sqrt(2.0)  # gain of an orthogonal layer in front of tanh or ReLU

Layer = TypeVar("Layer", bound=nn.Module)


def count_parameters(*modules: nn.Module | None) -> int:
    """Numbers in the parameters of modules, those that several share once; None is no module."""
    there = [module for module in modules if module is not None]
    return sum(p.numel() for p in dict.fromkeys(p for module in there for p in module.parameters()))


def layer_init(layer: Layer, std: float = SQRT_TWO, bias_const: float = 0.0) -> Layer:
    """Initialise a layer in place: orthogonal weight with gain `std`, constant bias; returns the layer.

    Args:
        layer: any module. A weight with fewer than two dimensions (layer norm) and a module without weight or
            bias keep theirs.
        std: gain of the orthogonal matrix (√2 before tanh or ReLU, 1 for a value head, 0.01 for a policy
            head).
        bias_const: every bias, whatever the kind of layer, is set to this.

    Returns:
        The same layer, so that calls nest.

    Reference: Saxe, McClelland and Ganguli, 2014 (orthogonal initialisation).
    """
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if isinstance(weight, torch.Tensor) and weight.ndim >= 2:
        nn.init.orthogonal_(weight, std)
    if isinstance(bias, torch.Tensor):
        nn.init.constant_(bias, bias_const)
    return layer


class MLP(nn.Sequential):
    """A sequence of layers; runs of linear layers and activations are evaluated in one call."""

    def forward(self, input: Tensor) -> Tensor:
        """input through all layers, in order."""
        return run_layers(self.parts(), input)

    def parts(self) -> tuple[nn.Module | None, ...]:
        """The layers, for `run_layers`."""
        return tuple(self._modules.values())


MADE_OF_PARTS.add(MLP)


def mlp(input_dim: int, hidden_layer_sizes: Sequence[int], activation: type[nn.Module] = Tanh) -> MLP:
    """A multilayer perceptron: for each size a linear layer (orthogonal, gain √2) and an activation.

    Args:
        input_dim: features of the input, the last dimension of [..., input_dim].
        hidden_layer_sizes: width of each layer; none gives the identity.
        activation: module class put behind every layer.

    Returns:
        A module mapping [..., input_dim] to [..., hidden_layer_sizes[-1]] (or [..., input_dim] without
        layers).
    """
    layers: list[nn.Module] = []
    for size in hidden_layer_sizes:
        layers += [layer_init(Linear(input_dim, size)), activation()]
        input_dim = size
    return MLP(*layers)
