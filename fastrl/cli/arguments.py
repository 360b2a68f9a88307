"""What the commands share: a parser with one-sentence errors, whole numbers, output as one JSON object."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from fastrl.errors import SettingError, nearest

MOST_DIGITS = 18  # of a whole number written with an exponent: 1e999999999 would take all memory


class Parser(argparse.ArgumentParser):
    """An argument parser that raises SettingError, with the nearest flag for an unknown one."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"fastrl {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{self.prog}: {message}; see `{self.prog} --help`")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse; an unknown argument is a SettingError."""
        known, unknown = self.parse_known_args(list(arguments))
        if unknown:
            flag = unknown[0].partition("=")[0]
            self.error(f"there is no argument {flag}{nearest(flag, self._option_string_actions)}")
        return known


def whole_word(text: str) -> str:
    """A whole number in the spelling that int() takes: `1e6` is `1000000`; any other text as it is."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    whole = number.is_finite() and number.adjusted() < MOST_DIGITS and number == number.to_integral_value()
    return str(int(number)) if whole else text


def whole_number(text: str) -> int:
    """A whole number from `20`, `1_000` or `1e3`."""
    try:
        return int(whole_word(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


@contextmanager
def only_result_on_stdout(wanted: bool) -> Iterator[None]:
    """While entered, and if `wanted`, standard output goes to standard error, that of C libraries too."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    try:
        descriptor = sys.stdout.fileno()
        saved = os.dup(descriptor)
    except (OSError, ValueError):  # standard output is no file (a test's buffer): only Python writes there
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            yield
        finally:
            sys.stdout = stdout
        return
    os.dup2(2, descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def print_json(result: Mapping[str, Any]) -> None:
    """Print one JSON object. Numbers that JSON lacks (nan, inf) become null."""
    print(json.dumps(_plain(result), ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
