"""Values of settings as their types: what flags, files and Python give, converted, and types in words."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastrl.errors import SettingError
from fastrl.runs.plain_values import plain

NONE_WORDS = ("none", "None")  # TOML has no null
LARGEST_INTEGER = 2**63 - 1
LONGEST_SHOWN = 200  # characters of a value in a message


def convert(name: str, hint: Any, value: Any) -> Any:
    """`value` as the type of the setting `name`.

    int for float, 1e6 for int, numpy's numbers, a list for a tuple and "none" for None are accepted.

    Raises: SettingError naming the setting.
    """
    converted = _match(hint, plain(value))
    if converted is _MISMATCH:
        raise SettingError(f"{name} must be {describe(hint)}, got {_shown(value)}")
    if isinstance(converted, int) and not -LARGEST_INTEGER <= converted <= LARGEST_INTEGER:
        raise SettingError(f"{name} must be a whole number between -2^63 and 2^63, got {_shown(value)}")
    return converted


def _shown(value: Any) -> str:
    """A value for a message, cut off where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out an integer of thousands of digits
        return "one of thousands of digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


_MISMATCH = object()


def _match(hint: Any, value: Any) -> Any:
    """`value` as `hint` has it, or `_MISMATCH`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if type(None) in options and (value is None or value in NONE_WORDS):
            return None
        return next(
            (found for option in options if (found := _match(option, value)) is not _MISMATCH), _MISMATCH
        )
    if origin is typing.Literal:
        return value if value in options else _MISMATCH
    if origin is tuple:
        return _match_tuple(options, value)
    if origin is dict:
        return _match_dict(options, value)
    if hint is Any:
        return value
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # TOML's whole numbers have no bound
            return _MISMATCH
    exact = (
        hint in (int, str, bool) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    )
    return value if exact else _MISMATCH


def _match_tuple(options: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _MISMATCH
    hints = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
    if len(hints) != len(value):
        return _MISMATCH
    items = tuple(_match(hint, item) for hint, item in zip(hints, value, strict=True))
    return _MISMATCH if any(item is _MISMATCH for item in items) else items


def _match_dict(options: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _MISMATCH
    if not all(isinstance(key, options[0]) for key in value):
        return _MISMATCH
    items = {key: _match(options[1], item) for key, item in value.items()}
    return _MISMATCH if any(item is _MISMATCH for item in items.values()) else items


def describe(hint: Any) -> str:
    """A type in words, for messages: `a whole number or none`."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(option) for option in options)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(option) for option in options)
    if origin is tuple:
        return "a list in which each entry is " + describe(options[0])
    if origin is dict:
        return "name=value pairs, each name once, lists and tables as JSON or TOML"
    words = {
        Path: "a path",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "none",
    }
    return words.get(hint, str(hint))
