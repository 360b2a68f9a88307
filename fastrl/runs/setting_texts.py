"""What each setting means: the docstrings below the fields of a configuration, for help texts and tables."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from typing import Any


@functools.cache
def setting_texts(config_class: type[Any]) -> dict[str, str]:
    """The docstring of each field of a dataclass that has one, on one line; {} where there is no source."""
    texts: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            source = inspect.getsource(base)
        except OSError:
            continue
        [definition] = ast.parse(textwrap.dedent(source)).body
        assert isinstance(definition, ast.ClassDef)
        for setting, text in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                texts[setting.target.id] = " ".join(str(text.value.value).split())
    return texts
