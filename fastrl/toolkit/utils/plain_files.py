"""Files of plain values, JSON or YAML by suffix: read without running anything, written in order."""

from __future__ import annotations

import inspect
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fastrl.errors import SettingError
from fastrl.toolkit.utils.dotted import dotted_name

SUFFIXES = (".json", ".yaml", ".yml")

# YAML 1.1 takes 1e-3 for text and 2026-01-01 for a date; this is what people mean
_FLOAT = re.compile(
    r"(?:[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d[\d_]*([eE][-+]?\d+)?|\.inf)|\.nan)$"
)
_FLOAT_TAG, _DATE_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


def read_file(path: str | Path) -> OrderedDict[str, Any]:
    """The mapping that a file holds, its nested mappings and lists in order; mappings are OrderedDicts.

    Raises:
        SettingError: the suffix is none of .json, .yaml and .yml, or the file does not hold one mapping of
            plain values; it is named.
        OSError: the file cannot be read.
    """
    path = Path(path)
    parse = _parse_json if _suffix(path) == ".json" else _parse_yaml
    try:
        found = parse(path.read_text(encoding="utf-8"))
        if not isinstance(found, Mapping):
            raise SettingError(
                "the file must hold a mapping, it holds "
                f"{'nothing' if found is None else type(found).__name__}"
            )
        return plain(found, str, "")
    except (SettingError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingError(f"{path}: {' '.join(str(error).split())}") from None


def write_file(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write a mapping of plain values, as `plain` makes it, in the format of the suffix.

    Raises:
        SettingError: the suffix is none of .json, .yaml and .yml.
    """
    path = Path(path)
    path.write_text(
        json.dumps(values, indent=2) + "\n" if _suffix(path) == ".json" else to_yaml(values), encoding="utf-8"
    )


def to_yaml(values: Mapping[str, Any]) -> str:
    """A mapping of plain values as YAML, in order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)


def plain(value: Any, name_of: Callable[[Any], str] = dotted_name, where: str = "") -> Any:
    """A copy of None, flags, numbers, text, lists and OrderedDicts, sharing nothing with `value`.

    Args:
        value: nested mappings, lists and tuples of such values, numpy numbers, classes and functions.
        name_of: gives the text that stands for a class or function.
        where: name of the value for error messages.

    Raises:
        SettingError: something else is in it; the message says where.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise SettingError(f"{where or 'the mapping'} must have names as keys, got {wrong!r}")
        return OrderedDict(
            (key, plain(entry, name_of, f"{where}.{key}" if where else key)) for key, entry in value.items()
        )
    if isinstance(value, list | tuple):
        return [plain(entry, name_of, f"{where}[{i}]") for i, entry in enumerate(value)]
    if inspect.isclass(value) or inspect.isfunction(value):
        try:
            return name_of(value)
        except SettingError as error:
            raise SettingError(f"{where}: {error}") from None
    raise SettingError(f"{where} is {type(value).__name__}, which a file cannot hold")


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise SettingError(
            f"file_path must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got {str(path)!r}"
        )
    return suffix


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_doubles)


def _parse_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _without_doubles(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise SettingError(f"a mapping must have names as keys, got {key!r}")
        if key in found:
            raise SettingError(f"{key!r} is set twice")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """Plain values only: no tags that make objects, no dates, no anchors (a few lines of them can stand for
    gigabytes), no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise SettingError(
                f"line {event.start_mark.line + 1} has an anchor or alias; write the values out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        return _without_doubles(
            [
                (self.construct_object(key, True), self.construct_object(value, True))
                for key, value in node.value
            ]
        )


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_FLOAT_TAG, _DATE_TAG)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))
_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))


class _Dumper(yaml.SafeDumper):
    """Mappings in order; a text that `_Loader` would take for a number is quoted."""


_Dumper.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))
_Dumper.add_representer(OrderedDict, lambda dumper, value: dumper.represent_dict(value.items()))
