"""What is used of torch that torch does not document, each with what stands in where a torch lacks it.

All names are in torch 2.13, the newest that this was run with; the oldest that is allowed is 2.11. Those that
the calls of every step go through are bound once, when this module is loaded. The stand-ins use documented
behaviour alone and are slower. `tests/test_torch_private.py` tries both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# a module of torch, and the name in it
NAMES = (
    ("torch.autograd.forward_ad", "_current_level"),
    ("torch._C", "_are_functorch_transforms_active"),
    ("torch._C", "_is_any_autocast_enabled"),
    ("torch._subclasses.fake_tensor", "FakeTensor"),
    ("torch.nn.modules.module", "_has_any_global_hook"),
)

# ------------------------------------------------------------------------------------------- stand-ins


def _dual_tensors_can_be_made() -> bool:
    """Outside `forward_ad.dual_level`, `make_dual` raises RuntimeError."""
    try:
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))
    except RuntimeError:
        return False
    return True


class _WithoutSetupContext(torch.autograd.Function):
    """`torch.func` refuses functions like this one, which have no `setup_context`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def _functions_are_refused() -> bool:
    try:
        _WithoutSetupContext.apply(torch.zeros(()))
    except RuntimeError:
        return True
    return False


def _autocast_on_cpu_or_gpu() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def _is_called_fake_tensor(value: object) -> bool:
    return any(kind.__name__ == "FakeTensor" for kind in type(value).__mro__)


def _hooks_must_be_expected() -> bool:
    """Hooks cannot be asked for otherwise; calling every module is right with and without them."""
    return True


# --------------------------------------------------------------------------------------------- chosen

try:
    functorch_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
except AttributeError:
    functorch_active = _functions_are_refused

try:
    autocasting: Callable[[], bool] = torch._C._is_any_autocast_enabled  # on any kind of device
except AttributeError:
    autocasting = _autocast_on_cpu_or_gpu

try:
    from torch.nn.modules.module import _has_any_global_hook as has_global_hook
except ImportError:
    has_global_hook = _hooks_must_be_expected

try:
    from torch._subclasses.fake_tensor import FakeTensor
except ImportError:
    is_fake: Callable[[object], bool] = _is_called_fake_tensor
else:

    def is_fake(value: object) -> bool:
        """Whether a tensor has a shape and no elements, as in tracing."""
        return isinstance(value, FakeTensor)


if hasattr(forward_ad, "_current_level"):

    def in_dual_level() -> bool:
        """Whether derivatives are being taken forward."""
        return forward_ad._current_level >= 0

    def transformed() -> bool:
        """Whether derivatives are being taken forward, or `torch.func` is at work."""
        return forward_ad._current_level >= 0 or functorch_active()

else:
    in_dual_level = _dual_tensors_can_be_made

    def transformed() -> bool:
        """Whether derivatives are being taken forward, or `torch.func` is at work."""
        return in_dual_level() or functorch_active()
