"""Layers one behind the other, with runs of linear layers and activations as one operation."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.autograd import transformed
from fastrl.nn.activations import Tanh
from fastrl.nn.dense import ELU, NONE, RELU, TANH, Dense, PreparedChain, dense_chain
from fastrl.nn.linear import Linear
from fastrl.torch_private import has_global_hook

Step = Any  # a module, or a function of a tensor

LINEAR_KINDS: dict[type, bool] = {nn.Linear: False, Linear: False}  # True: a sample is flattened first
MADE_OF_PARTS: set[type] = set()  # classes whose `parts()`, one behind the other, do what their forward does
_ACTIVATIONS: dict[type, int] = {Tanh: TANH, nn.Tanh: TANH, nn.ELU: ELU, nn.ReLU: RELU}


def run_layers(modules: Iterable[Any], x: Tensor) -> Tensor:
    """x through modules, in order: what calling one after the other gives, up to rounding.

    Sequences within are entered. Linear layers with a bias, and the tanh, ELU (α = 1) or ReLU that may follow
    each, go through `fastrl.nn.dense.dense_chain` as long as they are of these very classes and nobody has
    hung a hook on them. Any other module is called.
    """
    if _calls_each():
        for module in modules:
            x = module(x)
        return x
    for part in _parts(modules):
        x = dense_chain(x, part) if type(part) is list else part(x)
    return x


def prepare_layers(modules: Iterable[Any]) -> Step:
    """A function that does what `run_layers` does, for many calls: the modules are looked through only once.

    Where nothing but linear layers and activations is there, it is a `fastrl.nn.dense.PreparedChain`. It
    reads the parameters as they are at each call. Make it anew when layers, their hooks, dtype or device
    change.
    """
    if _calls_each():
        return functools.partial(run_layers, tuple(modules))
    parts = [PreparedChain(part) if type(part) is list else part for part in _parts(modules)]
    if len(parts) == 1:
        return parts[0]

    def run(x: Tensor) -> Tensor:
        for part in parts:
            x = part(x)
        return x

    return run


def _parts(modules: Iterable[Any]) -> list[Any]:
    """Lists of linear layers that make up a chain, and between them whatever is called by itself."""
    parts: list[Any] = []
    chain: list[Dense] = []  # the one that grows; a part already
    for step in _steps(modules):
        kind = type(step)
        if kind in LINEAR_KINDS and _is_plain_linear(step):
            if not chain:
                parts.append(chain)
            chain.append(
                Dense(step._parameters["weight"], step._parameters["bias"], NONE, LINEAR_KINDS[kind])
            )
        elif chain and chain[-1].activation == NONE and kind in _ACTIVATIONS and _is_plain_activation(step):
            chain[-1] = chain[-1]._replace(activation=_ACTIVATIONS[kind])
        else:
            parts.append(step)
            chain = []
    return parts


def _steps(modules: Iterable[Any]) -> Iterator[Step]:
    """The modules, and in place of plain sequences what these are made of."""
    for module in modules:
        if type(module) is nn.Sequential and not is_changed(module):
            yield from _steps(module._modules.values())
        elif type(module) in MADE_OF_PARTS and not is_changed(
            module
        ):  # not a subclass, which may have another forward
            yield from _steps(module.parts())
        else:
            yield module


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether `dense_chain` does what calling the layer does: weight and bias, and nothing else."""
    parameters = module._parameters
    return (
        parameters.get("weight") is not None and parameters.get("bias") is not None and not is_changed(module)
    )


def _is_plain_activation(module: nn.Module) -> bool:
    return not is_changed(module) and (type(module) is not nn.ELU or module.alpha == 1.0)


def is_changed(module: nn.Module) -> bool:
    """Whether someone has hung a hook on this very module, or put another forward in place of its class's."""
    hooks = (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
    return bool(hooks) or "forward" in vars(module)


def _calls_each() -> bool:
    """Whether every module has to be called, not a chain of them.

    In compiled programs, under forward derivatives and torch.func, with hooks on all modules.
    """
    return torch.compiler.is_compiling() or transformed() or has_global_hook()
