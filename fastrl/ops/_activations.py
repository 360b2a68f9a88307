"""What activations have in common: one tensor in, one out, and a gradient that needs the result alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks


def activation(
    name: str, backward: Callable[[Tensor, Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """The native op `name` with checks, fake kernel and gradient.

    Args:
        name: of the op in the library.
        backward: (incoming gradient, result) → gradient in x.
        plain: torch's function of the same result, for derivatives that go forward and for `torch.func`.
    """
    load_ops()
    native = getattr(torch.ops.fastrl, name).default

    def check(x: Tensor) -> None:
        _checks.check_tensors(name, {"x": x})
        _checks.check_floating(name, "x", x)

    def fake(x: Tensor) -> Tensor:
        check(x)
        return torch.empty_like(x)

    def save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    def differentiate(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return backward(gradient, y)

    def call(x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.layout != torch.strided or x.dtype not in _checks.FLOATING:
            check(x)
        return plain(x) if transformed() else native(x.contiguous())

    torch.library.register_fake(f"fastrl::{name}", fake)
    torch.library.register_autograd(f"fastrl::{name}", differentiate, setup_context=save)
    return call
