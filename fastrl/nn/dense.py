"""Chains of linear layers and activations as one operation.

Small networks spend their time between operations, not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrl import ops
from fastrl.autograd import once_differentiable, transformed
from fastrl.native import load_ops
from fastrl.nn.distributions import Categorical
from fastrl.nn.linear import linear

load_ops()
_forward = torch.ops.fastrl.dense_layers.default
_choices = torch.ops.fastrl.dense_choices.default
_backward = torch.ops.fastrl.dense_layers_backward.default

NATIVE_UP_TO = (
    256  # width of a layer; wider ones are left to the libraries, whose products are cut for caches
)
NONE, TANH, ELU, RELU = range(4)  # what the native call knows as activations
_FUNCTIONS = (lambda x: x, ops.tanh, ops.elu, torch.relu)


@torch.library.register_fake("fastrl::dense_layers")
def _shapes(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activations: list[int], keep: bool
) -> list[Tensor]:
    return [x.new_empty(x.shape[0], weight.shape[0]) for weight in (weights if keep else weights[-1:])]


@torch.library.register_fake("fastrl::dense_choices")
def _shape_of_choices(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], activations: list[int], noise: Tensor
) -> Tensor:
    return x.new_empty(x.shape[0], dtype=torch.int64)


@torch.library.register_fake("fastrl::dense_layers_backward")
def _shapes_backward(
    gradient: Tensor,
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    activations: list[int],
    results: list[Tensor],
    wants_x: bool,
) -> list[Tensor]:
    return [torch.empty_like(like) for like in (*weights, *biases, *([x] if wants_x else []))]


class Dense(NamedTuple):
    """A linear layer [O, I] with bias [O], its activation (NONE, TANH, ELU, RELU), whether it flattens."""

    weight: Tensor
    bias: Tensor
    activation: int
    flattens: bool = False


class _DenseChain(torch.autograd.Function):
    """All layers in one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: list[int], *parameters: Tensor) -> Tensor:
        count = len(activations)
        weights, biases = list(parameters[:count]), list(parameters[count:])
        results = _forward(x, weights, biases, activations, True)
        ctx.save_for_backward(x, *parameters, *results)
        ctx.activations = activations
        return results[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        activations = ctx.activations
        count = len(activations)
        x, *saved = ctx.saved_tensors
        wants_x = ctx.needs_input_grad[0]
        weights, biases, results = saved[:count], saved[count : 2 * count], saved[2 * count :]
        gradients = _backward(gradient.contiguous(), x, weights, biases, activations, results, wants_x)
        return (gradients[-1] if wants_x else None, None, *gradients[: 2 * count])


def dense_chain(x: Tensor, layers: Sequence[Dense]) -> Tensor:
    """x through linear layers and activations, in order.

    yₗ = fₗ(yₗ₋₁ Wₗᵀ + bₗ),   y₀ = x

    Float32 and float64 matrices on a CPU and layers of at most 256 units go through one native call, forward
    and backward, whose products are several times as fast as torch's at such sizes; anything else through
    `fastrl.nn.linear` and torch's operations. The same numbers up to rounding; those of the native call are
    bit-equal from run to run, for every number of threads and instruction level.

    Args:
        x: [B, I], or [..., I].
        layers: at least one; the inputs of each are as many as the outputs of the one before.

    Returns:
        [B, O], or [..., O], of the last layer.

    Gradient: in x, weights and biases, once in the native call: a gradient of a gradient raises an error
        there.
    """
    if layers[0].flattens and x.dim() > 2:
        x = x.flatten(1)
    if not _fits(x, layers):
        return _one_by_one(x, layers)
    activations = [layer.activation for layer in layers]
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    if torch.is_grad_enabled():
        return _DenseChain.apply(x.contiguous(), activations, *weights, *biases)
    return _forward(x.contiguous(), weights, biases, activations, False)[0]


class PreparedChain:
    """`dense_chain` of fixed layers as a function of x, for many calls.

    What does not change from call to call is looked at once.

    Parameters are read at each call. Make it anew when they get another dtype, shape or device.
    """

    def __init__(self, layers: Sequence[Dense]) -> None:
        self.layers = list(layers)
        weight = self.layers[0].weight
        self._dtype, self._width = weight.dtype, weight.shape[1]
        self._native = _fits(
            torch.empty(0, self._width, dtype=self._dtype, device=weight.device), self.layers
        )
        self._weights, self._biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        self._activations = [layer.activation for layer in layers]

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, I] to [B, O], as `dense_chain` does."""
        if not self._takes(x):
            return dense_chain(x, self.layers)
        if torch.is_grad_enabled():
            return _DenseChain.apply(x.contiguous(), self._activations, *self._weights, *self._biases)
        return _forward(x.contiguous(), self._weights, self._biases, self._activations, False)[0]

    def sample(self, x: Tensor) -> Tensor:
        """Draw [B] int64 with the chain's output as logits, as `Categorical.sample` would."""
        if not self._takes(x):
            return Categorical(dense_chain(x, self.layers)).sample()
        noise = torch.empty(x.shape[0], self._biases[-1].shape[0], dtype=self._dtype).exponential_()
        return _choices(x.contiguous(), self._weights, self._biases, self._activations, noise)

    def _takes(self, x: Tensor) -> bool:
        fits = (
            x.dtype == self._dtype and x.dim() == 2 and x.shape[1] == self._width and x.device.type == "cpu"
        )
        return self._native and fits and not transformed()


def _one_by_one(x: Tensor, layers: Sequence[Dense]) -> Tensor:
    for weight, bias, activation, flattens in layers:
        if flattens and x.dim() > 2:
            x = x.flatten(1)
        x = _FUNCTIONS[activation](linear(x, weight, bias))
    return x


def _fits(x: Tensor, layers: Sequence[Dense]) -> bool:
    if (
        torch.compiler.is_compiling()
        or x.dim() != 2
        or x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or transformed()
    ):
        return False
    dtype, width = x.dtype, x.shape[1]
    if dtype not in (torch.float32, torch.float64) or width > NATIVE_UP_TO:
        return False
    for weight, bias, _, _ in layers:
        if (
            weight.dtype != dtype
            or bias.dtype != dtype
            or weight.shape[0] > NATIVE_UP_TO
            or weight.shape[1] != width
        ):
            return False
        if weight.device.type != "cpu" or not (weight.is_contiguous() and bias.is_contiguous()):
            return False
        width = weight.shape[0]
    return True
