"""Flags in their earlier spellings, `--lr` for `--learning-rate`: they work for one more release."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from fastrl.errors import SettingError
from fastrl.runs.renamed import RENAMED, converted, earlier_vf_coef, find_renamed, warn_of

TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def with_new_flags(arguments: Sequence[str], known: Collection[str]) -> list[str]:
    """The arguments with each earlier flag and its values in the form of the new one, with a warning each.

    Raises: SettingError if a setting is given by both of its flags, or an earlier value has no meaning now.
    """
    words: list[str] = []
    spelling: dict[str, str] = {}  # by setting, the name it was given by
    given: dict[str, str] = {}  # by the name that was given, the last of its values
    clipped = False
    for flag, values, as_written in _groups(arguments):
        name = _name(flag, known)
        renamed = find_renamed(name, known)
        setting = name if renamed is None else renamed.name
        if spelling.setdefault(setting, name) != name:
            first, second = as_flag(spelling[setting]), as_flag(name)
            raise SettingError(f"{first} and {second} are one setting, {as_flag(setting)}; give it once")
        switched_off = flag.startswith(("--no-", "--no_"))
        new_values = values if renamed is None else [_value(name, value) for value in values]
        given |= {name: values[-1]} if values else {}
        if setting == "clip_vloss":
            clipped = switched_off == (bool(new_values) and new_values[-1].lower() in FALSE_WORDS)
        if renamed is None:
            words += as_written
            continue
        warn_of(name, spelled=as_flag, category=FutureWarning, stacklevel=3)
        words += [as_flag(f"no_{renamed.name}" if switched_off else renamed.name), *new_values]
    if (vf_coef := earlier_vf_coef(given, known, clipped=clipped)) is not None:
        words += [as_flag("vf_coef"), str(vf_coef)]  # the last one counts
    return words


def earlier_value(arguments: Sequence[str], name: str, known: Collection[str]) -> str | None:
    """The last value that an earlier flag was given; None without one."""
    if find_renamed(name, known) is None:
        return None
    given = [values[-1] for flag, values, _ in _groups(arguments) if _name(flag, known) == name and values]
    return given[-1] if given else None


def as_flag(name: str) -> str:
    """A setting as its flag: `--learning-rate`."""
    return "--" + name.replace("_", "-")


def _groups(arguments: Sequence[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Flags, the values after each (also that of `--flag=value`), and both as they were written.

    What comes before the first flag stands under its first word.
    """
    groups: list[tuple[str, list[str], list[str]]] = []
    for word in arguments:
        if word.startswith("--") or not groups:
            flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
            groups.append((flag, [value] if equals else [], [word]))
        else:
            groups[-1][1].append(word)
            groups[-1][2].append(word)
    return iter(groups)


def _name(flag: str, known: Collection[str]) -> str:
    """The setting that a flag names, by its earlier or present name."""
    name = flag.removeprefix("--").replace("-", "_")
    positive = name.removeprefix("no_")
    return positive if name not in known and (positive in known or positive in RENAMED) else name


def _value(name: str, text: str) -> str:
    """A value of an earlier flag as the new flag takes it."""
    value = converted(name, text)
    return str(value).lower() if isinstance(value, bool) else str(value)
