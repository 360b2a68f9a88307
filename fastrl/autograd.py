"""What the library's hand-written gradients have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad, function


def transformed() -> bool:
    """Whether derivatives are being taken forward, or by `torch.func`: native calls then give way to
    operations of torch.

    A native call knows the gradient that goes backward alone. Without this it would drop the derivative that
    goes forward, and the result would pass for a constant.
    """
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def has_tangent(tensor: Tensor) -> bool:
    """Whether a derivative goes forward with a tensor."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of `torch.autograd.Function.backward`: a gradient of its gradient raises an error, whatever
    the gradient came from.

    torch's decorator of that name takes the result for a constant where the incoming gradient is one, that of
    a sum for example, though it
    depends on what was saved: a penalty on the gradient would then go without effect, and nobody would be
    told.
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
