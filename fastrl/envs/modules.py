"""Environments by `module:name`: an id that a module registers with Gymnasium, or a class or function.

Importing a module runs its code, so it is done only where a user named it: `imports_refused` closes the way
for what stands in a file of somebody else's.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from fastrl.errors import SettingError, nearest

# before an id: Gymnasium's environment, where EnvPool has the id too; no module to be imported
GYMNASIUM = "gymnasium:"
_registered: dict[str, set[str]] = {}  # what each module registered when it was imported here
# while imports are refused: how to allow them, and what is allowed all the same
_refusal: ContextVar[tuple[str, tuple[str, ...]] | None] = ContextVar("refusal", default=None)


def names_module(env_id: Any) -> bool:
    """Whether an environment is given as `module:name`."""
    return isinstance(env_id, str) and ":" in env_id and not env_id.startswith(GYMNASIUM)


@contextmanager
def imports_refused(how_to_allow: str | None, *, but: Sequence[str] = ()) -> Iterator[None]:
    """While entered, an environment or wrapper in a module is a SettingError that ends in `how_to_allow`.

    None allows imports again.

    Args:
        how_to_allow: the end of the message.
        but: `module:name` that may be imported nevertheless.
    """
    token = _refusal.set(None if how_to_allow is None else (how_to_allow, tuple(but)))
    try:
        yield
    finally:
        _refusal.reset(token)


@contextmanager
def present_folder() -> Iterator[None]:
    """While entered, modules are looked for in the present folder first, as under `python -m`."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:  # the module may have changed the path itself
            sys.path.remove(here)


def find_in_module(env_id: str) -> str | Callable[..., Any]:
    """What `module:name` names: an id registered with Gymnasium, as text, else a class or function.

    The module is imported; `present_folder` has to be entered, and to stay so while environments are made:
    they may lie in other modules.

    Raises:
        SettingError: imports are refused, there is no such module, it cannot be imported, or it has no such
            environment.
    """
    import gymnasium as gym

    module_name, _, name = env_id.rpartition(":")
    require_allowed(env_id)
    module = _import(module_name)
    if name in gym.registry:
        return name
    found = getattr(module, name, None)
    if callable(found):
        return found
    raise SettingError(_unknown(env_id, module))


def find_wrapper(name: str) -> Callable[..., Any]:
    """The class or function that `module:name` names, to be called with an environment.

    Raises:
        SettingError: imports are refused, there is no such module, it cannot be imported, or has no such
            name.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not (module_name and colon and attribute):
        raise SettingError(f"wrapper must be module:Name, a class or function of a module, got {name!r}")
    require_allowed(name, "wrapper")
    with present_folder():
        module = _import(module_name, "wrapper")
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [known for known, value in vars(module).items() if isinstance(value, type)]
        raise SettingError(
            f"wrapper: the module {module_name!r} has no {attribute!r}{nearest(attribute, known)}"
        )
    return found


def names_factory(env_id: Any) -> bool:
    """Whether `module:name` names a class or function, of a module that has been imported already."""
    if not names_module(env_id):
        return False
    import gymnasium as gym

    module_name, _, name = env_id.rpartition(":")
    return name not in gym.registry and module_name in sys.modules


def list_module(module_name: str) -> list[str]:
    """The ids that a module registers, in order; it is imported.

    Raises:
        SettingError: there is no such module, or it cannot be imported.
    """
    require_allowed(f"{module_name}:")
    with present_folder():
        _import(module_name)
    return _registered_by(module_name)


def require_allowed(name: str, setting: str = "env_id") -> None:
    """Raises SettingError, naming the setting, while imports are refused and this one is not excepted."""
    refusal = _refusal.get()
    if refusal is not None and name not in refusal[1]:
        module = name.rpartition(":")[0]
        raise SettingError(
            f"{setting}: {name!r} would import the module {module!r}, which runs its code; {refusal[0]}"
        )


def _import(module_name: str, setting: str = "env_id") -> ModuleType:
    import gymnasium as gym

    before = set(gym.registry)
    try:
        module = importlib.import_module(module_name)
        _registered.setdefault(module_name, set()).update(set(gym.registry) - before)
        return module
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise SettingError(
                f"{setting}: there is no module {module_name!r}, neither in the present folder, "
                f"{os.getcwd()}, nor where Python looks"
            ) from None
        raise SettingError(_failed(module_name, error, setting)) from error
    except (TypeError, ValueError) as error:
        if module_name.strip(".") and not module_name.startswith("."):
            raise SettingError(_failed(module_name, error, setting)) from error
        raise SettingError(
            f"{setting}: 'module:name' needs the full name of a module, got {module_name!r}"
        ) from None
    except (Exception, SystemExit) as error:  # whatever its code does
        raise SettingError(_failed(module_name, error, setting)) from error


def _failed(module_name: str, error: BaseException, setting: str) -> str:
    return f"{setting}: the module {module_name!r} cannot be imported: {type(error).__name__}: {error}"


def _registered_by(module_name: str) -> list[str]:
    """Ids that a module registered when it was imported, and those with entry points in or below it."""
    import gymnasium as gym

    def lies_in(entry_point: Any) -> bool:
        where = (
            entry_point.partition(":")[0]
            if isinstance(entry_point, str)
            else getattr(entry_point, "__module__", None) or ""
        )
        return where == module_name or where.startswith(f"{module_name}.")

    own = _registered.get(module_name, set())
    return sorted(
        env_id for env_id, spec in gym.registry.items() if env_id in own or lies_in(spec.entry_point)
    )


def _unknown(env_id: str, module: ModuleType) -> str:
    module_name, _, name = env_id.rpartition(":")
    registered = _registered_by(module_name)
    ids = (
        f"it registers {', '.join(registered)}"
        if registered
        else "it registers none, and has no class or function of that name"
    )
    return (
        f"env_id: the module {module.__name__!r} has no environment {name!r}: "
        f"{ids}{nearest(name, registered)}"
    )
