"""Classes by their dotted names, so that configurations can be files of plain values; only names of an allow-list are looked up."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from fastrl.errors import SettingError

# roots of modules whose classes may be named in a configuration; of these last two, functions too
CLASSES_OF = ("torch.nn", "torch.optim", "fastrl")
FUNCTIONS_OF = ("fastrl.envs", "fastrl.utils")

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")  # no part begins with an underscore


def resolve(name: str) -> Any:
    """The class or function of a dotted name, `torch.nn.Linear` for example.

    Args:
        name: of a class in torch.nn, torch.optim or fastrl, or of a function in fastrl.envs or fastrl.utils.

    Raises:
        SettingError: there is none, or it is not one of those.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not _below(name, CLASSES_OF):
        raise SettingError(f"{name!r} must be the dotted name of something in {', '.join(CLASSES_OF)}")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise SettingError(f"there is no {name!r}") from None
    if not _allowed(found):
        raise SettingError(f"{name!r} is not a class of {', '.join(CLASSES_OF)}, nor a function of {', '.join(FUNCTIONS_OF)}")
    return found


def dotted_name(value: Any) -> str:
    """The shortest dotted name that `resolve` takes for a class or function.

    Raises:
        SettingError: it cannot be named so.
    """
    module, attribute = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join([*parts[:length], attribute])
        try:
            if resolve(name) is value:
                return name
        except SettingError:
            continue
    raise SettingError(f"{module}.{attribute} has no name that a file could hold: only what is in {', '.join(CLASSES_OF)} has")


def _allowed(value: Any) -> bool:
    # where it was defined counts, not where it was found: modules hold whatever they import
    if inspect.isclass(value):
        return _below(value.__module__, CLASSES_OF)
    return inspect.isfunction(value) and _below(value.__module__, FUNCTIONS_OF)


def _below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)
