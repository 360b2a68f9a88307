"""Averages what a run measures, shows it as a table and keeps it in files."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from fastrl.errors import SettingError
from fastrl.runs.metrics import MetricsLogger, to_floats
from fastrl.runs.output import as_text, lasting
from fastrl.runs.run_folder import METRICS_FILE

WIDTH, NUMBER_WIDTH = 64, 7


@dataclass
class _Series:
    """Values of one name since the last table."""

    precision: int = 2
    shown: bool = False
    latest: bool = False
    values: list[float | Tensor] = field(default_factory=list)


class Logger:
    """Averages of each name's values, printed and written on every `log_freq`-th call of `log`.

    With `log_dir` the folder holds metrics.csv, a row per table, and TensorBoard events with the same numbers
    and the histograms. A folder
    that holds the logs of a run already is left as it is: a new folder inside it, named by a number, is
    taken.

    Args:
        log_dir: folder of the files, made if missing; None writes none.
        debug: whether `add_debug` does anything.
        log_freq: a table on every so many calls of `log`, ≥ 1.
        resume_from: the step at which a run goes on: its own folder is taken then and rows beyond the step
            are dropped; None starts one.
        clock: seconds, monotonic.

    Attributes:
        log_dir: the folder that is written, None without.
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        *,
        debug: bool = False,
        log_freq: int = 1,
        resume_from: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.debug = debug
        self.set_log_freq(log_freq)
        self.log_dir = (
            None if log_dir is None else Path(log_dir) if resume_from is not None else _unused(Path(log_dir))
        )
        self._writer = None if self.log_dir is None else MetricsLogger(self.log_dir)
        if self._writer is not None and resume_from is not None:
            self._writer.resume_from(resume_from)
        self._output_lost = False
        self._clock = clock
        self._series: dict[str, _Series] = {}
        self._histograms: dict[str, Tensor] = {}
        # rows of what comes before the first slash stand together, in the order in which they first came: the
        # same in every table
        self._groups: dict[str, int] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._calls = 0
        self._times: list[str] = []
        self._step = resume_from
        self._start = self._previous = (clock(), resume_from or 0)  # (seconds, step)
        if self.log_dir is not None:
            self._say(f"Writing logs to: {self.log_dir}")

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which write no files: these belong to the original."""
        return self.__dict__ | {"_writer": None, "log_dir": None}

    def set_log_freq(self, log_freq: int) -> None:
        """A table on every `log_freq`-th call of `log` from now on."""
        if isinstance(log_freq, bool) or not isinstance(log_freq, int) or log_freq < 1:
            raise SettingError(f"log_freq must be a whole number of at least 1, got {log_freq!r}")
        self.log_freq = log_freq

    # ---------------------------------------------------------------------------------------- values

    def add_log(self, name: str, value: float | Tensor, precision: int = 2, *, latest: bool = False) -> None:
        """Register a value; those of one name are averaged.

        Args:
            name: its row in the table and its column in the files.
            value: a number or a tensor of one element, which is not read before the table.
            precision: decimals in the table.
            latest: the last value counts instead of the mean.

        Raises:
            ValueError: the tensor has another number of elements.
        """
        self._add(name, value, precision, shown=True, latest=latest)

    def add_tf_only_log(self, name: str, value: float | Tensor, precision: int = 2) -> None:
        """Register a value for the files alone, as `add_log`."""
        self._add(name, value, precision, shown=False)

    def add_debug(self, name: str, value: float | Tensor, precision: int = 2) -> None:
        """Register a value as `add_log`, if the logger was made with `debug`."""
        if self.debug:
            self._add(name, value, precision, shown=True)

    def add_histogram(self, name: str, values: Any) -> None:
        """Register values whose histogram TensorBoard shows; the last ones of a name before a table count.

        Args:
            name: of the histogram.
            values: tensor, array or list of any shape.
        """
        if self._writer is not None:
            self._histograms[name] = torch.as_tensor(values).detach()

    def _add(
        self, name: str, value: float | Tensor, precision: int, *, shown: bool, latest: bool = False
    ) -> None:
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"value of {name!r} must be one number, got a tensor of {value.numel()}")
            value = value.detach().clone()  # whoever made it may go on writing into it
        else:
            value = float(value)
        series = self._series.setdefault(name, _Series())
        series.precision, series.shown, series.latest = precision, shown, latest
        series.values.append(value)
        self._places.setdefault(
            name, (self._groups.setdefault(name.split("/")[0], len(self._groups)), len(self._places))
        )

    # ------------------------------------------------------------------------------------------ time

    def timeit(self, i_step: int, max_steps: int | None = -1) -> None:
        """Note where the run is; the next table's header has its speed since the last call and the time left.

        Args:
            i_step: steps so far, the step under which values are written.
            max_steps: steps of the whole run, for the time left at the average speed since the start; -1 or
                None: unlimited.
        """
        now = self._clock()
        recent, overall = _rate(self._previous, (now, i_step)), _rate(self._start, (now, i_step))
        self._previous, self._step, self._times = (now, i_step), i_step, []
        if recent is not None:
            self._times.append(f"Steps/Second: {recent:.0f}")
        if overall and max_steps is not None and max_steps >= 0:
            self._times.append(f"ETA: {timedelta(seconds=round(max(0, max_steps - i_step) / overall))}")

    # ---------------------------------------------------------------------------------------- output

    def log(self, header: str | None = None) -> None:
        """On every `log_freq`-th call print the table, write the files, and forget the values.

        Without values only the header is printed.

        Args:
            header: line above the table, to which speed and time left are added.
        """
        self._calls += 1
        if self._calls % self.log_freq == 0:
            self._show(header)

    def log_rest(self, header: str | None = None) -> None:
        """Print and write, as `log`, what has come since the last table; nothing if nothing has."""
        if self._series or self._histograms:
            self._show(header)

    def _show(self, header: str | None) -> None:
        series = {name: self._series[name] for name in sorted(self._series, key=self._places.__getitem__)}
        histograms, self._histograms, self._series = self._histograms, {}, {}
        means = _means(series)
        if self._writer is not None:
            step = self._calls if self._step is None else self._step
            if means:
                self._writer.log(means, env_steps=step)
            if histograms:
                self._writer.log_histograms(histograms, env_steps=step)
        lines = [" | ".join(filter(None, [header, *self._times]))]
        lines += _table(
            {name: f"{means[name]:.{one.precision}f}" for name, one in series.items() if one.shown}
        )
        if any(lines):
            self._say("\n".join(filter(None, lines)))

    def _say(self, text: str) -> None:
        """Print; output that fails is dropped from then on, with a warning: training does not end for it."""
        if self._output_lost:
            return
        stream = lasting(sys.stdout)
        print(text, file=as_text(stream), flush=True)
        if stream.lost is not None:
            self._output_lost = True
            warnings.warn(
                f"standard output cannot be written ({stream.lost}); tables are left out from now on",
                stacklevel=3,
            )

    def close(self) -> None:
        """Finish the files; a second call does nothing."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _means(series: dict[str, _Series]) -> dict[str, float]:
    """The mean of each series, or its last value; tensors of one device come over in one transfer."""
    counted = {name: one.values[-1:] if one.latest else one.values for name, one in series.items()}
    flat = {f"{name} {i}": value for name, values in counted.items() for i, value in enumerate(values)}
    numbers = iter(to_floats(flat).values())
    return {name: sum(next(numbers) for _ in values) / len(values) for name, values in counted.items()}


def _table(rows: dict[str, str]) -> list[str]:
    """Lines of a table, 64 wide or as wide as its names and numbers need."""
    if not rows:
        return []
    right = max(NUMBER_WIDTH, *(len(number) + 1 for number in rows.values()))
    left = max(WIDTH - 1 - right, *(len(name) + 1 for name in rows))
    rule = "-" * (left + 1 + right)
    return [rule, *(f"{name:<{left}}|{number:>{right}}" for name, number in rows.items()), rule]


def _rate(before: tuple[float, int], after: tuple[float, int]) -> float | None:
    """Steps per second; None where no time went by or no step was made."""
    seconds, steps = after[0] - before[0], after[1] - before[1]
    return steps / seconds if seconds > 0 and steps > 0 else None


def _unused(folder: Path) -> Path:
    """The folder, or the first of the numbered ones inside it that holds no logs."""
    path, number = folder, 1
    while (path / METRICS_FILE).exists():
        number += 1
        path = folder / str(number)
    return path
