"""Classes by dotted names of an allow-list, so that configurations can be files of plain values."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from torch import nn, optim

from fastrl.envs.toolkit import BaseEnv
from fastrl.errors import SettingError

# What a file may name: in which modules, and what kind of class. Making one does nothing but make it: none
# writes, reads or runs anything.
CLASSES: dict[str, type] = {
    "torch.nn": nn.Module,
    "torch.optim": optim.Optimizer,
    "fastrl.nn": nn.Module,
    "fastrl.models": nn.Module,
    "fastrl.batchers.transforms": object,
    "fastrl.optimizers": object,
    "fastrl.utils.estimators": object,
    "fastrl.utils.config": object,
    "fastrl.envs": BaseEnv,
}
SCHEDULES = ("fastrl.utils.utils.linear_schedule", "fastrl.utils.utils.piecewise_linear_schedule")
FUNCTIONS = (*SCHEDULES, "fastrl.envs.make.make_vector_env")
ROOTS = ("torch.nn", "torch.optim", "fastrl")

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")  # no part begins with an underscore


def resolve(name: str) -> Any:
    """The class or function of a dotted name, `torch.nn.Linear` for example.

    Args:
        name: of a layer of torch.nn or fastrl.nn, an optimiser of torch.optim, a model, transform, estimator,
            optimiser or environment of the toolkit, a schedule of fastrl.utils, or `make_vector_env`.

    Raises:
        SettingError: there is none, or it is not one of those.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not _below(name, ROOTS):
        raise SettingError(f"{name!r} must be the dotted name of something in {', '.join(ROOTS)}")
    module, _, attribute = name.rpartition(".")
    if not any(_below(root, (module,)) or _below(module, (root,)) for root in (*CLASSES, *FUNCTIONS)):
        raise SettingError(_refusal(name))  # nothing is imported to find that out
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise SettingError(f"there is no {name!r}") from None
    if not _allowed(found):
        raise SettingError(_refusal(name))
    return found


def is_schedule(value: Any) -> bool:
    """Whether a function is one of the schedules."""
    return f"{documented_module(value)}.{getattr(value, '__qualname__', '')}" in SCHEDULES


def documented_module(value: Any) -> str:
    """Where users import a class or function of the toolkit from; the module of any other."""
    return (getattr(value, "__module__", None) or "").replace("fastrl.toolkit.", "fastrl.", 1)


def dotted_name(value: Any) -> str:
    """The shortest dotted name that `resolve` takes for a class or function.

    Raises:
        SettingError: it cannot be named so.
    """
    module, attribute = documented_module(value), getattr(value, "__qualname__", "")
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join([*parts[:length], attribute])
        try:
            if resolve(name) is value:
                return name
        except SettingError:
            continue
    raise SettingError(
        f"{module}.{attribute} has no name that a file could hold: only what is in {', '.join(ROOTS)} has"
    )


def _refusal(name: str) -> str:
    return (
        f"{name!r} is nothing that a configuration may name: it names layers, models, optimisers, "
        "transforms, estimators, environments "
        "and schedules"
    )


def _allowed(value: Any) -> bool:
    # where it was defined counts, not where it was found: modules hold whatever they import
    if inspect.isclass(value):
        return any(
            _below(documented_module(value), (root,)) and issubclass(value, kind)
            for root, kind in CLASSES.items()
        )
    return inspect.isfunction(value) and f"{documented_module(value)}.{value.__qualname__}" in FUNCTIONS


def _below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)
