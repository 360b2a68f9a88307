"""What the library's hand-written gradients have in common.

A native call knows the gradient that goes backward alone. Where derivatives are taken forward, or by
`torch.func` (`transformed`), it gives way to operations of torch: it would drop the derivative that goes
forward, and the result would pass for a constant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad, function

from fastrl.torch_private import in_dual_level, transformed

__all__ = ["has_tangent", "once_differentiable", "transformed"]


def has_tangent(tensor: Tensor) -> bool:
    """Whether a derivative goes forward with a tensor."""
    return in_dual_level() and forward_ad.unpack_dual(tensor).tangent is not None


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of `torch.autograd.Function.backward`: a gradient of its gradient is always an error.

    torch's decorator of that name takes the result for a constant where the incoming gradient is one, that of
    a sum for example, though it depends on what was saved: a penalty on the gradient would then go without
    effect, and nobody would be told.
    """
    refusing = function.once_differentiable(backward)

    @functools.wraps(backward)
    def wrapper(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():  # the graph of the gradient is wanted
            gradients = tuple(
                gradient if gradient.requires_grad else gradient.detach().requires_grad_()
                for gradient in gradients
            )
        return refusing(ctx, *gradients)

    return wrapper
