"""Values of settings as plain ones and as TOML, equal there and back; what cannot be written is said.

Labels are `fastrl.envs.own`'s, which is imported where it is needed: environments load torch.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

NOTHING = "<none>"  # in lists and tables of a file, since TOML has no null
_EXACT = (bool, int, float, str, datetime.date, datetime.time)


def plain(value: Any) -> Any:
    """Numbers, arrays, tuples, lists and tables of any depth as Python's own; other objects as they are."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {str.__str__(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def written(value: Any) -> Any:
    """What TOML holds of a plain value.

    Itself, `<none>` for None, a label in place of any other object (see `fastrl.envs.own.label`).
    """
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return [written(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, _EXACT):
        return value
    from fastrl.envs.own import label

    return label(value)


def read_back(value: Any) -> Any:
    """Counterpart of `written`; labels stay labels."""
    if isinstance(value, list):
        return [read_back(item) for item in value]
    if isinstance(value, dict):
        return {key: read_back(item) for key, item in value.items()}
    return None if value == NOTHING else value


def agrees(saved: Any, wanted: Any) -> bool:
    """Whether a setting is the one that a file holds; a label stands for anything."""
    from fastrl.envs.own import is_label

    if is_label(saved):
        return True
    if isinstance(saved, dict) and isinstance(wanted, dict):
        return saved.keys() == wanted.keys() and all(agrees(item, wanted[key]) for key, item in saved.items())
    if isinstance(saved, list) and isinstance(wanted, list):
        return len(saved) == len(wanted) and all(map(agrees, saved, wanted))
    return bool(saved == wanted)
