"""Configurations: ordered values and sections, kept in JSON or YAML files."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import Path
from typing import Any

from fastrl.errors import SettingError, nearest
from fastrl.toolkit.utils.plain_files import plain, read_file, to_yaml, write_file

DEFAULTS = Path(__file__).with_name("defaults")


class Config:
    """Values in the order in which they were set, by attribute or key; a section is a `Config` again.

    Where a class is wanted, a value is the class or its dotted name (see `fastrl.utils.dotted.resolve`).
    Files hold the name, which stays a name when they are loaded, until something is built from it.

    Args:
        args: values, named attr0, attr1, ...
        kwargs: values by name. An OrderedDict becomes a section; a plain dict stays one.

    Raises:
        AttributeError: on reading a name that is not set.
        SettingError: a name begins with an underscore, or is that of a method (`items`, `pop`, ...).
    """

    _entries: dict[str, Any]

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self.__dict__["_entries"] = {}
        self.update({f"attr{i}": value for i, value in enumerate(args)})
        self.update(kwargs)

    # ---------------------------------------------------------------------------------------- values

    def __getattr__(self, name: str) -> Any:
        entries = self.__dict__.get("_entries", {})  # a copy in the making has none yet
        if name not in entries:
            raise AttributeError(f"the configuration has no {name!r}{nearest(name, entries)}")
        return entries[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or name.startswith("_") or hasattr(type(self), name):
            raise SettingError(
                f"{name!r} cannot be the name of a value: it must be text, begin with no underscore and be "
                "no method's"
            )
        if isinstance(value, OrderedDict):
            section = Config()
            section.update(value)
            value = section
        self._entries[name] = value

    def __delattr__(self, name: str) -> None:
        getattr(self, name)
        del self._entries[name]

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    __setitem__ = __setattr__

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def keys(self) -> KeysView[str]:
        """The names, in order; with this `**config` works."""
        return self._entries.keys()

    def values(self) -> ValuesView[Any]:
        """The values, in order."""
        return self._entries.values()

    def items(self) -> ItemsView[str, Any]:
        """(name, value), in order."""
        return self._entries.items()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or `default`."""
        return self._entries.get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Take a value out; KeyError if the name is not set and there is no default."""
        return self._entries.pop(name, *default)

    def update(self, config: Mapping[str, Any] | Config) -> None:
        """Set every value of another configuration or mapping."""
        for name, value in config.items():
            self[name] = value

    def new_section(self, name: str, **configs: Any) -> None:
        """Set `name` to a new configuration.

        Args:
            name: of the section.
            configs: its values, which may be configurations themselves.
        """
        setattr(self, name, Config(**configs))

    # ------------------------------------------------------------------------------------ as a whole

    def as_dict(self) -> OrderedDict[str, Any]:
        """A deep copy as nested OrderedDicts; `Config(**config.as_dict())` equals the configuration."""
        return _unfold(self)

    def as_list(self) -> list[Any]:
        """The values of `as_dict`."""
        return list(self.as_dict().values())

    def __copy__(self) -> Config:
        return type(self)(**self._entries)

    def __repr__(self) -> str:
        try:
            return to_yaml(_plain(self))
        except SettingError:  # objects that no file can hold
            return f"Config({', '.join(f'{name}={value!r}' for name, value in self.items())})"

    def save(self, file_path: str | Path) -> None:
        """Write the configuration to a file of plain values, in order; classes by their dotted names.

        Args:
            file_path: ends in .json, .yaml or .yml, which is the format. Infinity and NaN are written to JSON
                as Python does.

        Raises:
            SettingError: another suffix, or a value that a file cannot hold; it is named. Nothing is written
                then.
        """
        write_file(file_path, _plain(self))

    @staticmethod
    def load(file_path: str | Path) -> Config:
        """The configuration that a file holds. Nothing of it is run or imported.

        Args:
            file_path: ends in .json, .yaml or .yml. Mappings become sections, but those in lists (layers)
                dicts.

        Raises:
            SettingError: another suffix, or the file does not hold one mapping of plain values; the message
                says what is wrong.
            OSError: the file cannot be read.
        """
        config = Config()
        try:
            config.update(_fold(read_file(file_path)))
            return config
        except SettingError as error:
            message = str(error)
            raise SettingError(message if str(file_path) in message else f"{file_path}: {message}") from None

    @classmethod
    def from_default(cls, name: str) -> Config:
        """A configuration to start from.

        It has `env` (with `num_envs`), `policy_nn_config` and `value_nn_config`, `policy_model` and
        `value_model` (entropy, clipping, KL), `batch_size`, `optimizer` (of both networks; where
        `value_optimizer` is there too, of the policy alone), `advantage` and `vtarget`,
        `normalize_advantages` and `max_steps`, the environment steps of the run.

        Args:
            name: of an algorithm: A2C, PPOAdaptive, PPOClip, SurrogatePG or VanillaPG.

        Raises:
            SettingError: there is none of that name; the message lists them. (It is a ValueError.)
        """
        known = sorted(path.stem for path in DEFAULTS.glob("*.yaml"))
        if name not in known:
            raise SettingError(f"name must be one of {', '.join(known)}, got {name!r}")
        return cls.load(DEFAULTS / f"{name}.yaml")


def _unfold(value: Any) -> Any:
    """A deep copy in which configurations are OrderedDicts, wherever they are."""
    if isinstance(value, Config):
        return OrderedDict((name, _unfold(entry)) for name, entry in value.items())
    if type(value) in (list, tuple):
        return type(value)(_unfold(entry) for entry in value)
    if type(value) is dict:
        return {key: _unfold(entry) for key, entry in value.items()}
    return copy.deepcopy(value)


def _plain(config: Config) -> Any:
    return plain(config.as_dict())


def _fold(value: Any, in_list: bool = False) -> Any:
    """Mappings of a file as they belong into a configuration: sections, but dicts from the first list on."""
    if isinstance(value, list):
        return [_fold(entry, in_list=True) for entry in value]
    if isinstance(value, Mapping):
        entries = [(name, _fold(entry, in_list)) for name, entry in value.items()]
        return dict(entries) if in_list else OrderedDict(entries)
    return value
