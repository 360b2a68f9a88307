"""Argument checks of the ops: messages name op and argument, what was expected and what came."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastrl.autograd import has_tangent, transformed
from fastrl.torch_private import autocasting as autocasting
from fastrl.torch_private import is_fake

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_tensors(
    op: str, tensors: Mapping[str, object], optional: Mapping[str, object] | None = None
) -> None:
    """Every argument is a dense tensor, on the device of the first. Raises TypeError, ValueError."""
    present = {name: value for name, value in (optional or {}).items() if value is not None}
    first_name, first = next(iter(tensors.items()))
    for name, value in {**tensors, **present}.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(value).__name__}")
        if value.layout != torch.strided:
            raise TypeError(f"{op}: {name} must be a dense tensor, got layout {value.layout}")
        assert isinstance(first, torch.Tensor)
        if value.device != first.device:
            raise ValueError(
                f"{op}: {name} must be on the device of {first_name}, {first.device}, got {value.device}"
            )


def check_floating(op: str, first_name: str, first: torch.Tensor, **others: torch.Tensor) -> None:
    """The first argument is of a floating dtype of the ops, the others have the same. Raises TypeError."""
    if first.dtype not in FLOATING:
        raise TypeError(
            f"{op}: {first_name} must be float32, float64, bfloat16 or float16, got {_name(first.dtype)}"
        )
    for name, value in others.items():
        if value.dtype != first.dtype:
            raise TypeError(
                f"{op}: {name} must have the dtype of {first_name}, {_name(first.dtype)}, got "
                f"{_name(value.dtype)}"
            )


def check_flags(op: str, **flags: torch.Tensor | None) -> None:
    """Flags are bool. Raises TypeError."""
    for name, value in flags.items():
        if value is not None and value.dtype != torch.bool:
            raise TypeError(f"{op}: {name} must be bool, got {_name(value.dtype)}")


def check_time_major(
    op: str,
    first_name: str,
    first: torch.Tensor,
    *,
    bootstrapped: Mapping[str, torch.Tensor],
    **others: torch.Tensor | None,
) -> None:
    """Raise ValueError unless all arguments are [T, N], and those in `bootstrapped` [T+1, N]."""
    if first.dim() != 2:
        raise ValueError(f"{op}: {first_name} must have shape [T, N], got {list(first.shape)}")
    steps, envs = first.shape
    for name, value in bootstrapped.items():
        if value.dim() != 2 or value.shape[0] != steps + 1 or value.shape[1] != envs:
            raise ValueError(
                f"{op}: {name} must have shape [T+1, N] = [{steps + 1}, {envs}], got {list(value.shape)}"
            )
    for name, other in others.items():
        if other is not None and (other.dim() != 2 or other.shape[0] != steps or other.shape[1] != envs):
            raise ValueError(
                f"{op}: {name} must have shape [T, N] = [{steps}, {envs}], got {list(other.shape)}"
            )


def check_rollout(
    op: str,
    tensors: Mapping[str, torch.Tensor],
    flags: Mapping[str, torch.Tensor | None],
    *,
    bootstrapped: tuple[str, ...] = (),
    **fractions: object,
) -> None:
    """Check a call over a rollout: shapes [T, N] or [T+1, N], one floating dtype, flags, numbers in [0, 1].

    Those in `bootstrapped` have one row more; `valid` may be None. Raises TypeError, ValueError.
    """
    required = {name: flag for name, flag in flags.items() if name != "valid"}
    check_tensors(op, {**tensors, **required}, {"valid": flags.get("valid")})
    (first_name, first), *others = tensors.items()
    check_floating(op, first_name, first, **dict(others))
    check_flags(op, **flags)
    longer = {name: tensor for name, tensor in others if name in bootstrapped}
    check_time_major(
        op,
        first_name,
        first,
        bootstrapped=longer,
        **{name: tensor for name, tensor in others if name not in longer},
        **flags,
    )
    check_fractions(op, **fractions)


def check_not_negative(op: str, **values: object) -> None:
    """Numbers that are not negative, infinity included. Raises TypeError, ValueError."""
    for name, value in values.items():
        _check_number(op, name, value)
        if not value >= 0.0:  # type: ignore[operator]  # numbers.Real orders itself, whatever its stub says
            raise ValueError(f"{op}: {name} must not be negative, got {value}")


def check_fractions(op: str, **values: object) -> None:
    """Numbers in [0, 1]. Raises TypeError, ValueError."""
    for name, value in values.items():
        _check_number(op, name, value)
        if not 0.0 <= value <= 1.0:  # type: ignore[operator]  # numbers.Real orders itself, whatever its stub says
            raise ValueError(f"{op}: {name} must be in [0, 1], got {value}")


def check_finite(op: str, **values: object) -> None:
    """Numbers other than infinity and NaN. Raises TypeError, ValueError."""
    for name, value in values.items():
        _check_number(op, name, value)
        if not -math.inf < value < math.inf:  # type: ignore[operator]  # numbers.Real orders itself, whatever its stub says
            raise ValueError(f"{op}: {name} must be finite, got {value}")


def check_shape(op: str, name: str, value: torch.Tensor, symbols: str, *sizes: int | None) -> None:
    """A tensor of these sizes, None standing for any. Raises ValueError."""
    fits = value.dim() == len(sizes) and all(
        size is None or given == size for given, size in zip(value.shape, sizes, strict=True)
    )
    if not fits:
        known = (
            f" = [{', '.join('any' if size is None else str(size) for size in sizes)}]"
            if any(s is not None for s in sizes)
            else ""
        )
        raise ValueError(f"{op}: {name} must have shape {symbols}{known}, got {list(value.shape)}")


def check_materialized(op: str, name: str, value: torch.Tensor) -> None:
    """Raise ValueError if the tensor's memory holds conjugates or negatives of its elements."""
    if torch.compiler.is_compiling():  # it cannot be asked there
        return
    if value.is_conj() or value.is_neg():
        raise ValueError(f"{op}: {name} must not be a {'conjugated' if value.is_conj() else 'negated'} view")


def check_indices(
    op: str, name: str, values: torch.Tensor, below: int, symbol: str, mask: torch.Tensor | None = None
) -> None:
    """int64 values in [0, below) wherever `mask` is set; values are looked at where that costs no waiting.
    Raises TypeError, IndexError."""
    if values.dtype != torch.int64:
        raise TypeError(f"{op}: {name} must be int64, got {_name(values.dtype)}")
    if not can_look_at(values):
        return
    outside = (values < 0) | (values >= below)
    if mask is not None:
        outside &= mask
    if bool(outside.any()):
        raise IndexError(
            f"{op}: {name} must be in [0, {symbol}) = [0, {below}), got {int(values[outside][0])}"
        )


def check_windows(
    op: str, bank: torch.Tensor, episode: torch.Tensor, index: torch.Tensor, mask: torch.Tensor | None
) -> None:
    """Check which windows [B, W] of a memory bank [E, S, ...] are read.

    Raises TypeError, ValueError, IndexError.
    """
    check_flags(op, mask=mask)
    check_shape(op, "index", index, "[B, W]", None, None)
    check_shape(op, "episode", episode, "[B]", index.shape[0])
    if mask is not None:
        check_shape(op, "mask", mask, "[B, W]", *index.shape)
    check_indices(op, "episode", episode, bank.shape[0], "E")
    check_indices(op, "index", index, bank.shape[1], "S", mask)


def refuse_tangents(op: str, *tensors: object) -> None:
    """Raise RuntimeError if forward-mode tangents are asked of results that are constants to autograd."""
    if any(isinstance(tensor, torch.Tensor) and has_tangent(tensor) for tensor in tensors):
        raise RuntimeError(
            f"{op}: its results are constants to autograd, no derivative goes through them forward; give "
            "tensors detached"
        )


def same_dtype_under_autocast(first: object, *others: object) -> list[Any] | None:
    """The tensors in the widest of their dtypes, where autocast left several; None where they agree.

    It is what autocast does with torch's own operations of several tensors. Numbers of float64 are left alone
    by autocast, and here.
    """
    if (
        not isinstance(first, torch.Tensor)
        or first.device.type not in ("cpu", "cuda")
        or not torch.is_autocast_enabled(first.device.type)
    ):
        return None
    tensors = (first, *others)
    dtypes = {value.dtype for value in tensors if isinstance(value, torch.Tensor) and value.dtype in FLOATING}
    if len(dtypes) < 2 or torch.float64 in dtypes:
        return None
    return [
        value.float() if isinstance(value, torch.Tensor) and value.dtype in FLOATING else value
        for value in tensors
    ]


def share_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether the memory of two tensors overlaps, judged by the first and the last byte of each."""
    if can_look_at(one) and can_look_at(other):
        (first, end), (other_first, other_end) = _reach(one), _reach(other)
        return first < other_end and other_first < end
    return False


def _reach(tensor: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def can_look_at(tensor: torch.Tensor) -> bool:
    """Whether elements of a tensor can be read now.

    On the CPU, on a GPU if FASTRL_DEBUG=1, never while tracing.
    """
    if torch.compiler.is_compiling() or is_fake(tensor):
        return False
    return tensor.device.type == "cpu" or (tensor.device.type != "meta" and debugging())


def debugging() -> bool:
    """Whether values are looked at on GPUs too, which makes them wait."""
    return os.environ.get("FASTRL_DEBUG") == "1"


def call_on_constants(
    op: str,
    native: Callable[..., Any],
    floating: int,
    check: Callable[..., None],
    arguments: tuple[Any, ...],
    numbers: tuple[Any, ...],
) -> Any:
    """Calls a native op whose results are constants to autograd. The first `floating` arguments are detached.

    Only when the native code has refused is time spent on finding out what to say: `check` raises it.
    `numbers` are among the arguments; a dispatcher would take tensors and flags for numbers.
    """
    if autocasting() and (together := same_dtype_under_autocast(*arguments[:floating])) is not None:
        arguments = (*together, *arguments[floating:])
    if torch.compiler.is_compiling():  # a traced program meets its checks while it is traced
        check(*arguments)
        return native(*(tensor.detach() for tensor in arguments[:floating]), *arguments[floating:])
    try:
        if transformed():
            refuse_tangents(op, *arguments[:floating])
        for number in numbers:
            if type(number) is not float:
                check(*arguments)
                break
        for tensor in arguments[:floating]:
            if tensor.requires_grad:
                arguments = (*(tensor.detach() for tensor in arguments[:floating]), *arguments[floating:])
                break
        return native(*arguments)
    except (RuntimeError, AttributeError):
        check(*arguments)
        raise


def _check_number(op: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, torch.SymFloat, torch.SymInt)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__}")
    if isinstance(value, numbers.Real):
        try:
            float(value)
        except OverflowError:  # not shown: it may have more digits than Python prints
            raise ValueError(
                f"{op}: {name} must be within the range of a float, got a number beyond it"
            ) from None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
