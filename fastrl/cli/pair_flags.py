"""Flags whose value is a table: `--env-kwargs crop=3 end=truncated`."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

METAVAR = "[NAME=VALUE ...]"
SWITCHES = {"true": True, "false": False}


def read_pairs(words: Sequence[str]) -> dict[str, bool | int | float | str]:
    """A table from words like `crop=3`.

    A value is true or false, else a whole number, else a number, else text: whatever it reads as first.

    Raises:
        ValueError: a word is no pair, or a name is given twice.
    """
    pairs: dict[str, bool | int | float | str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals) or name in pairs:
            raise ValueError(f"{word!r} is no name=value, or its name was given before")
        pairs[name] = _value(text)
    return pairs


def show_pairs(pairs: Mapping[str, Any]) -> list[str]:
    """The words that `read_pairs` takes, for help texts."""
    return [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in pairs.items()]


def pairs_registry() -> Any:
    """What makes tyro read settings of type dict from such words."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def read_dict(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if typing.get_origin(info.type) is not dict:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar=METAVAR,
            instance_from_str=read_pairs,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=show_pairs,
        )

    return registry


def _value(text: str) -> bool | int | float | str:
    if text.lower() in SWITCHES:
        return SWITCHES[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
