"""Flags whose value is a table: `--env-kwargs crop=3 end=truncated weights=[1.0,2.0] config='{"lanes_count":
3}'`."""

from __future__ import annotations

import json
import tomllib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

METAVAR = "[NAME=VALUE ...]"
WORDS = {"true": True, "false": False, "null": None}


def read_pairs(words: Sequence[str]) -> dict[str, Any]:
    """A table from words like `crop=3`.

    A value is true, false or null (None), else a whole number, else a number, else text: whatever it reads as
    first. What begins with a bracket, a brace or a quotation mark is a list, a table or text, as JSON or else
    TOML has it.

    Raises:
        ValueError: a word is no pair, a name is given twice, or a list or table cannot be read.
    """
    pairs: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals) or name in pairs:
            raise ValueError(f"{word!r} is no name=value, or its name was given before")
        pairs[name] = _value(text)
    return pairs


def show_pairs(pairs: Mapping[str, Any]) -> list[str]:
    """The words that `read_pairs` takes, for help texts."""
    return [
        f"{name}={value if isinstance(value, str) and _value(value) == value else json.dumps(value)}"
        for name, value in pairs.items()
    ]


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


def _value(text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if text[:1] in ("[", "{", '"', "'"):
        return _structure(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _structure(text: str) -> Any:
    """A list, table or quoted text as JSON has it, else as TOML has it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{text!r} is neither JSON nor TOML: {error}") from None
