"""Networks here are float32: what torch can be told globally must not change that half-way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

import torch

from fastrl.errors import SettingError

Given = ParamSpec("Given")
Result = TypeVar("Result")
KINDS = ("cpu", "cuda")


def require_float32_default() -> None:
    """Refuse another default dtype of torch: half of what is made would be of it.

    Raises:
        SettingError: `torch.set_default_dtype` was given another dtype.
    """
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        name = str(dtype).removeprefix("torch.")
        raise SettingError(
            f"torch's default dtype is {name}, and networks here are float32: call "
            "torch.set_default_dtype(torch.float32) before making "
            "and training them"
        )


def without_autocast(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorator: inside, operations have the dtype of their tensors, whatever `torch.autocast` is active."""

    @functools.wraps(function)
    def wrapper(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        active = [kind for kind in KINDS if torch.is_autocast_enabled(kind)]
        if not active:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            for kind in active:
                stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **kwargs)

    return wrapper
