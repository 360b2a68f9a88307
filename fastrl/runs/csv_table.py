"""A CSV file that grows by rows and, now and then, by columns, and can be cut back to a step.

Damage costs the lines it is in, never a run.
"""

from __future__ import annotations

import csv
import io
import secrets
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastrl.errors import RunFolderError
from fastrl.runs.safe_files import GIGABYTE, append_to_file, read_file, replace_file

STEP_COLUMN = "env_steps"
LARGEST = GIGABYTE
LONGEST_STEP = 18  # digits
LONGEST_NUMBER = 400  # characters; a float is written in 24 at most

Row = dict[str, str]


@dataclass
class Content:
    """What could be read of a file: columns, rows in the order of their steps, and what could not."""

    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    damage: str = ""


class CsvTable:
    """Rows of numbers by column name; the first column is `env_steps`.

    Every row is in the file as soon as `append` returns.

    Floats are written so that reading gives the same number back. A column that appears later is added at the
    end, with empty cells above; the file is then rewritten beside itself and swapped in. Half a row that a
    killed process left is dropped. A file that is damaged is set aside under another name before it is
    written, with a warning that says how much was lost. A file that someone removes or changes while it is
    written is read anew.

    Args:
        path: the file; it is made by `begin` or the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_content(path)
        self.columns = found.columns
        self.last_step = _last_step(found.rows)
        self._size: int | None = None  # bytes after our last write; until then the file may end in half a row

    def begin(self) -> None:
        """Make the file, without a row, where it is missing.

        Raises:
            RunFolderError: the file cannot be written.
        """
        if _size(self.path) is None:
            self._replace(Content(), [STEP_COLUMN], [])

    def append(self, values: Mapping[str, float], env_steps: int) -> None:
        """Add a row; columns that `values` lacks stay empty.

        Raises:
            RunFolderError: the file cannot be written; it is as it was.
        """
        row = {_name(name): _cell(value) for name, value in values.items()} | {STEP_COLUMN: str(env_steps)}
        if set(row) <= set(self.columns) and self._size is not None and self._size == _size(self.path):
            line = _text(self.columns, [row], header=False).encode()
            append_to_file(self.path, line)
            self._size += len(line)
        else:
            found = read_content(self.path)
            new = sorted(set(row) - set(found.columns) - {STEP_COLUMN})
            self._replace(found, [*(found.columns or [STEP_COLUMN]), *new], [*found.rows, row])
        self.last_step = env_steps

    def cut(self, env_steps: int) -> None:
        """Drop the rows after `env_steps`.

        Raises:
            RunFolderError: the file cannot be written; it is as it was.
        """
        found = read_content(self.path)
        if not found.columns and not found.damage:
            return
        kept = [row for row in found.rows if int(row[STEP_COLUMN]) <= env_steps]
        self._replace(found, found.columns or [STEP_COLUMN], kept)
        self.last_step = _last_step(kept)

    def _replace(self, found: Content, columns: list[str], rows: Iterable[Row]) -> None:
        """Write the file anew; what it held goes aside if it was damaged."""
        if found.damage:
            set_aside(self.path, found.damage)
        text = _text(columns, rows, header=True).encode()
        replace_file(self.path, lambda file: file.write(text))
        self.columns, self._size = columns, len(text)


def read_columns(path: Path, *names: str) -> list[tuple[float, ...]]:
    """(env_steps, *names) of every row that has them all, oldest first; empty when the file is missing.

    Warns of lines that are damaged.
    """
    found = read_content(path)
    if found.damage:
        warnings.warn(f"{path} is damaged: {found.damage}", stacklevel=2)
    if not set(names) <= set(found.columns):
        return []
    return [
        tuple(float(row[name]) for name in (STEP_COLUMN, *names))
        for row in found.rows
        if all(row[name] for name in names)
    ]


def has_rows(path: Path) -> bool:
    """Whether there is anything in a file but what `CsvTable.begin` writes."""
    begun = f"{STEP_COLUMN}\n".encode()
    try:
        return read_file(path, max_bytes=len(begun)) != begun
    except FileNotFoundError:
        return False
    except RunFolderError:  # larger, or no file
        return True


def set_aside(path: Path, damage: str) -> Path:
    """Rename a damaged file, so that a new one can take its place, with a warning; returns the new path.

    Raises:
        RunFolderError: it cannot be renamed.
    """
    aside = path.with_name(
        f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}{path.suffix}"
    )
    try:
        path.rename(aside)
    except OSError as error:
        raise RunFolderError(
            f"{path} is damaged ({damage}) and cannot be set aside: {error.strerror}"
        ) from None
    warnings.warn(f"{path} was damaged: {damage}; it is kept as {aside.name}", stacklevel=2)
    return aside


# ------------------------------------------------------------------------------------------- reading


def read_content(path: Path) -> Content:
    """What can be read of a file; nothing when it is missing.

    A row counts if it has a whole number of steps and as many cells as the header, each empty or a number.
    Half a line at the end is what a kill leaves, and no damage.
    """
    try:
        data = read_file(path, max_bytes=LARGEST)
    except FileNotFoundError:
        return Content()
    except RunFolderError as error:
        return Content(damage=str(error).removeprefix(f"{path} "))
    complete = data[: data.rfind(b"\n") + 1]
    # "utf-8-sig" and "\r\n": what a spreadsheet makes of the file
    header, *lines = complete.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").split("\n")[
        :-1
    ] or [""]
    columns = _columns(header)
    if columns is None:
        return Content(damage="its first line does not name the columns" if data else "")
    rows = [row for line in lines if (row := _row(line, columns))]
    names = list(dict.fromkeys(columns))
    steps = [int(row[STEP_COLUMN]) for row in rows]
    damage = [
        f"{len(lines) - len(rows)} of {len(lines)} lines could not be read" if len(rows) < len(lines) else "",
        "a column stands there twice" if len(names) < len(columns) else "",
        "lines are not in the order of their steps" if steps != sorted(steps) else "",
    ]
    return Content(
        names, sorted(rows, key=lambda row: int(row[STEP_COLUMN])), ", ".join(filter(None, damage))
    )


def _columns(header: str) -> list[str] | None:
    """The names in a file's first line; None if it is no such line. The first column holds the steps,
    whatever is left of its name."""
    try:
        names = next(csv.reader([header], strict=True), [])
    except csv.Error:
        return None
    if not names or not all(names) or _is_number(names[0]) or "\0" in header:
        return None
    return [STEP_COLUMN, *names[1:]]


def _row(line: str, columns: list[str]) -> Row | None:
    """A line by column, of two of one name the first; None if it is damaged."""
    cells = line.split(",")
    if (
        len(cells) != len(columns)
        or not _is_step(cells[0])
        or not all(cell == "" or _is_number(cell) for cell in cells)
    ):
        return None
    return dict(zip(reversed(columns), reversed(cells), strict=True))


def _is_step(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) <= LONGEST_STEP


def _is_number(cell: str) -> bool:
    """Whether a cell is a number as this module writes them: float() takes other alphabets, spaces and
    underscores too."""
    if not cell.isascii() or "_" in cell or len(cell) > LONGEST_NUMBER or cell != cell.strip():
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _last_step(rows: list[Row]) -> int | None:
    return int(rows[-1][STEP_COLUMN]) if rows else None


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None


# ------------------------------------------------------------------------------------------- writing


def _text(columns: list[str], rows: Iterable[Row], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _name(name: str) -> str:
    """A column's name as a header can hold it: on one line, and not empty."""
    return " ".join(name.replace("\0", " ").split()) or "unnamed"


def _cell(value: float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
