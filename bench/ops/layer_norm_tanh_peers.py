"""Others' functions for what `layer_norm_tanh` computes; in the form of `gae_peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastrl import ops

Call = Callable[[], Any]


def torch_one_by_one(inputs: dict[str, Any]) -> Call:
    """torch's layer norm, then torch's tanh."""
    return _one_by_one(inputs, torch.tanh)


def layer_norm_and_fast_tanh(inputs: dict[str, Any]) -> Call:
    """torch's layer norm, then `ops.tanh`: what is saved beyond it is the way through memory."""
    return _one_by_one(inputs, ops.tanh)


def _one_by_one(inputs: dict[str, Any], tanh: Callable[[Tensor], Tensor]) -> Call:
    x, weight, bias, eps = (inputs[name] for name in ("x", "weight", "bias", "eps"))
    return lambda: tanh(functional.layer_norm(x, weight.shape, weight, bias, eps))


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {
    "torch, one by one": torch_one_by_one,
    "torch.layer_norm, then fastrl's tanh": layer_norm_and_fast_tanh,
}
GPU_PEERS = ("torch, one by one",)
