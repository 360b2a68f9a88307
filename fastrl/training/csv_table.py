"""A CSV file that grows by rows and, now and then, by columns, and can be cut back to a step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastrl.training.safe_files import GIGABYTE, append_to_file, read_file, replace_file

STEP_COLUMN = "env_steps"
LARGEST = GIGABYTE

Row = dict[str, str]


class CsvTable:
    """Rows of numbers by column name; the first column is `env_steps`. Every row is in the file as soon as `append` returns.

    Floats are written so that reading gives the same number back. A column that appears later is added at the end, with empty cells above;
    the file is then rewritten beside itself and swapped in. Half a row that a killed process left is dropped.

    Args:
        path: the file; it is made by the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns, rows = _read(path)
        self.last_step = int(rows[-1][STEP_COLUMN]) if rows else None
        self._intact = False  # until it is rewritten the file may end in half a row

    def append(self, values: Mapping[str, float], env_steps: int) -> None:
        """Add a row; columns that `values` lacks stay empty."""
        row = {STEP_COLUMN: str(env_steps)} | {name: _cell(value) for name, value in values.items()}
        new = sorted(set(row) - set(self.columns) - {STEP_COLUMN})
        if new or not self._intact:
            _, rows = _read(self.path)
            self.columns = [*(self.columns or [STEP_COLUMN]), *new]
            self._rewrite([*rows, row])
        else:
            try:
                append_to_file(self.path, _text(self.columns, [row], header=False).encode())
            except FileNotFoundError:  # someone has removed it
                self._rewrite([row])
        self.last_step = env_steps

    def cut(self, env_steps: int) -> None:
        """Drop the rows after `env_steps`."""
        if not self.columns:
            return
        _, rows = _read(self.path)
        kept = [row for row in rows if int(row[STEP_COLUMN]) <= env_steps]
        self.last_step = int(kept[-1][STEP_COLUMN]) if kept else None
        self._rewrite(kept)

    def _rewrite(self, rows: Iterable[Row]) -> None:
        text = _text(self.columns, rows, header=True)
        replace_file(self.path, lambda file: file.write(text.encode()))
        self._intact = True


def read_columns(path: Path, *names: str) -> list[tuple[float, ...]]:
    """(env_steps, *names) of every row that has them all, oldest first; empty when the file is missing."""
    columns, rows = _read(path)
    if not set(names) <= set(columns):
        return []
    return [tuple(float(row[name]) for name in (STEP_COLUMN, *names)) for row in rows if all(row[name] for name in names)]


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """(columns, complete rows) of a file; empty when it is missing."""
    try:
        text = read_file(path, max_bytes=LARGEST).decode()
    except FileNotFoundError:
        return [], []
    complete = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(complete))
    columns = list(reader.fieldnames or [])
    return columns, [row for row in reader if (row.get(STEP_COLUMN) or "").isdigit() and None not in row.values()]


def _text(columns: list[str], rows: Iterable[Row], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _cell(value: float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
