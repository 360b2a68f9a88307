"""Checks the structure of a state from a file before anything is changed by it.

What is expected is told by an example: a state of one's own. Keys, types, lengths, shapes and dtypes must be
the example's; whole numbers are counts or words, so none is negative; a number that is finite in the example
must be. Where the example alone does not tell, one of these stands in its place:

    Maybe(example)                  None, or like the example
    Within(example, least, most)    like the example, every number in [least, most]; `most` may have a bound
    for each of the last dimension ListOf(example, at_most)        a list of up to so many items, each like
    the example Checked(check)                  `check(found, where)` looks at it
    None                            whoever loads it looks at it: there is nothing to compare with

A dict with the keys of a torch optimiser's state is left to `load_keeping_settings`, which knows the
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST_WHOLE = 2**64  # words of random generators go up to here
OPTIMIZER_KEYS = {"state", "param_groups"}
NEVER_NEGATIVE = ("count", "var")  # of running statistics


class StateError(ValueError):
    """A state has not the structure or a value that it must have; the message names the key."""


@dataclass(frozen=True)
class Maybe:
    """None, or like the example."""

    example: Any


@dataclass(frozen=True)
class Within:
    """Like the example, every number in [least, most]."""

    example: Any
    least: float
    most: float | Tensor


@dataclass(frozen=True)
class ListOf:
    """Up to `at_most` items like the example."""

    example: Any
    at_most: int


@dataclass(frozen=True)
class Checked:
    """`check(found, where)` raises StateError."""

    check: Callable[[Any, str], None]


def require_like(found: Any, expected: Any, where: str) -> None:
    """Compare a state with an example.

    Args:
        found: nested dict, list and tuple of tensors, arrays and plain values, as `load_checkpoint` returns.
        expected: the example, see above.
        where: name of the whole, for the message.

    Raises:
        StateError: they differ; the message names the first key at which they do:
            `agent['policy']['0.weight']`.
    """
    match expected:
        case None:
            return
        case Checked():
            expected.check(found, where)
        case Maybe():
            if found is not None:
                require_like(found, expected.example, where)
        case Within():
            require_like(found, expected.example, where)
            _require_range(found, expected.least, expected.most, where)
        case ListOf():
            _require(
                isinstance(found, list) and len(found) <= expected.at_most,
                where,
                f"a list of at most {expected.at_most} items",
                found,
            )
            for index, item in enumerate(found):
                require_like(item, expected.example, f"{where}[{index}]")
        case Tensor() | np.ndarray():
            _require_array(found, expected, where)
        case Mapping():
            _require_dict(found, expected, where)
        case list() | tuple():
            kind = list if isinstance(expected, list) else tuple
            _require(
                isinstance(found, kind) and len(found) == len(expected),
                where,
                f"a {kind.__name__} of {len(expected)} items",
                found,
            )
            for index, (item, example) in enumerate(zip(found, expected, strict=True)):
                require_like(item, example, f"{where}[{index}]")
        case _:
            _require_plain(found, expected, where)


def _require_dict(found: Any, expected: Mapping[Any, Any], where: str) -> None:
    _require(isinstance(found, Mapping), where, "a dict", found)
    if missing := [key for key in expected if key not in found]:
        raise StateError(f"{where}[{missing[0]!r}] is missing")
    if more := [key for key in found if key not in expected]:
        raise StateError(f"{where}[{more[0]!r}] has no place in it")
    if set(expected) == OPTIMIZER_KEYS:
        return
    for key, example in expected.items():
        place = f"{where}[{key!r}]"
        require_like(found[key], example, place)
        if key in NEVER_NEGATIVE and isinstance(example, Tensor):
            _require_range(found[key], 0, math.inf, place)


def _require_array(found: Any, expected: Tensor | np.ndarray, where: str) -> None:
    kind = Tensor if isinstance(expected, Tensor) else np.ndarray
    same = (
        isinstance(found, kind)
        and found.dtype == expected.dtype
        and tuple(found.shape) == tuple(expected.shape)
    )
    _require(same, where, in_words(expected), found)
    if not _all_finite(found) and _all_finite(expected):
        raise StateError(f"{where} has numbers that are not finite")


def _require_plain(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, bool) or isinstance(expected, str):
        _require(type(found) is type(expected), where, in_words(expected), found)
    elif isinstance(expected, int):
        _require(
            type(found) is int and 0 <= found < LARGEST_WHOLE, where, "a whole number in [0, 2^64)", found
        )
    elif isinstance(expected, float):
        finite = (
            math.isfinite(found)
            if type(found) is float
            else type(found) is int and abs(found) < LARGEST_WHOLE
        )
        _require(finite, where, "a finite number", found)
    else:
        raise TypeError(
            f"require_like: {where} is expected to be a {type(expected).__name__}, which no state holds"
        )


def _require_range(found: Any, least: float, most: float | Tensor, where: str) -> None:
    if isinstance(found, Tensor | np.ndarray):
        values = torch.as_tensor(found)
        numbers = values[(values < least) | (values > most)][:1].tolist()
    else:
        numbers = [] if least <= found <= most else [found]
    if numbers:
        bound = f"{most:g}" if isinstance(most, int | float) else str(most.tolist())
        raise StateError(f"{where} must be in [{least:g}, {bound}], it has {in_words(numbers[0])}")


def _require(holds: bool, where: str, wanted: str, found: Any) -> None:
    if not holds:
        raise StateError(f"{where} must be {wanted}, it is {in_words(found)}")


def _all_finite(values: Tensor | np.ndarray) -> bool:
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if not tensor.is_floating_point():
        return True
    return bool(
        torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all()
    )  # torch has none for the smallest types


def in_words(value: Any) -> str:
    """A value of a state, for messages: never long, whatever it is."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"a {str(value.dtype).removeprefix('torch.')} {kind} of shape {list(value.shape)}"
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"the whole number {value}" if abs(value) < 10**30 else "a huge whole number"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return f"a {type(value).__name__}" + (
        f" of {len(value)} items" if isinstance(value, list | tuple) else ""
    )
