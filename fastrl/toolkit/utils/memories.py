"""Dicts whose keys can be accessed as attributes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Self


class _ByAttribute(dict[str, Any]):
    """Attributes that are set or deleted are keys."""

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(
                f"{name!r} is an attribute of every {type(self).__name__}; store it as a key or take "
                "another name"
            )
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise self._missing(name)
        del self[name]

    def _missing(self, name: str) -> AttributeError:
        return AttributeError(f"there is no {name!r} in this {type(self).__name__}")


class SimpleMemory(_ByAttribute):
    """A dict whose keys can be accessed as attributes.

    Args:
        args, kwargs: those of dict.
        initial_keys: keys that start as empty lists, each with a list of its own.

    Raises:
        AttributeError: on reading an attribute that is no key, or setting one that every dict has (`items`,
            `pop`, ...).
    """

    def __init__(self, *args: Any, initial_keys: Iterable[str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key in initial_keys or ():
            self[key] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise self._missing(name)
        return self[name]

    def copy(self) -> Self:
        """A memory of its own with the same values."""
        return type(self)(self)


class DefaultMemory(_ByAttribute, defaultdict[str, Any]):
    """A dict whose keys are attributes too; a missing key that is read starts as an empty list.

    An attribute whose name begins with an underscore never becomes a key by being read, so `hasattr`, copies,
    pickles find what is there.

    Args:
        args, kwargs: those of dict.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(list, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name not in self:
            raise self._missing(name)
        return self[name]

    def copy(self) -> Self:
        """A memory of its own with the same values."""
        return type(self)(self)

    __copy__ = copy

    def __reduce__(self) -> tuple[type[Self], tuple[()], None, None, Iterator[tuple[str, Any]]]:
        return type(self), (), None, None, iter(self.items())
