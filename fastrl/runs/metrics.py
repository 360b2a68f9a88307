"""Writes what a run measures: metrics.csv, eval.csv, TensorBoard, Weights & Biases, the console."""

from __future__ import annotations

import importlib
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from fastrl.errors import RunFolderError, SettingError
from fastrl.runs.csv_table import CsvTable
from fastrl.runs.event_file import EventFile
from fastrl.runs.notes import RunNotes
from fastrl.runs.run_folder import CURVE_FILE, EVALUATION_FILE, METRICS_FILE
from fastrl.runs.safe_files import KILOBYTE, read_file, replace_file, require_folder

if TYPE_CHECKING:
    from fastrl.runs.console import Console

TRACKERS = ("wandb",)
EVENTS = "events.out.tfevents.*"


def _format_metrics(metrics: Mapping[str, float | Tensor]) -> str:
    """`"key=value, …"`: keys sorted, four decimals.

    Args:
        metrics: numbers or one-element tensors by name.

    Returns:
        The text, empty for no metrics.
    """
    return ", ".join(f"{key}={float(metrics[key]):.4f}" for key in sorted(metrics))


class MetricsLogger:
    """Writes the metrics of a run into its folder; a context manager.

    Rows are in the files as soon as a call returns, so a killed run loses none of them. A folder that already
    has rows is refused unless `resume_from` says where the run goes on. `close` draws curve.png. Only columns
    named `time/...` depend on a clock, so the files of a resumed run equal those of an uninterrupted one,
    provided that its environments could save their state (the toys can; EnvPool's and Gymnasium's cannot).

    No file that fails ends a run: a row that finds no room on the disk is left out, with one warning per file
    and a line in notes.txt (`notes`), and the next row is tried again. A damaged file is set aside when the
    run goes on.

    Args:
        out_dir: run folder; made if missing.
        console: shows the same numbers to the user; None shows nothing.
        track: "wandb" also sends them to Weights & Biases (project and account from its own settings); None
            does not.
        config: settings to store with the tracked run.
        tensorboard: write TensorBoard events.
        reference_returns: known returns by name (an optimum, a bound), which curve.png shows as lines.

    Raises:
        SettingError: `track` is no known service, its package is not installed, or the folder cannot be made.
    """

    def __init__(
        self,
        out_dir: str | Path,
        *,
        console: Console | None = None,
        track: str | None = None,
        config: Mapping[str, Any] | None = None,
        tensorboard: bool = True,
        reference_returns: Mapping[str, float] | None = None,
    ) -> None:
        self.out_dir = Path(out_dir)
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"out_dir {str(out_dir)!r} cannot be made: {error.strerror}") from None
        self.console = console
        self.notes = RunNotes(self.out_dir)
        self._failed: set[str] = set()  # files, each of which is warned of once
        self._wandb = _start_wandb(track, self.out_dir, config)
        self._training = CsvTable(self.out_dir / METRICS_FILE)
        self._evaluation = CsvTable(self.out_dir / EVALUATION_FILE)
        self._may_continue = self._training.last_step is None and self._evaluation.last_step is None
        self._reference_returns = reference_returns
        self._tensorboard_wanted = tensorboard
        self._events: EventFile | None = None
        self._purge_step: int | None = None
        self._curve_is_old = False

    @property
    def last_step(self) -> int | None:
        """Environment steps of the last row of metrics.csv; None without one."""
        return self._training.last_step

    @property
    def failed(self) -> list[str]:
        """What could not be written, by name: files of the folder, or the tracking service."""
        return sorted(self._failed)

    def resume_from(self, env_steps: int, *, last_row: int | None = None) -> None:
        """Go on after `env_steps`: rows beyond it are dropped, in TensorBoard too.

        A run wrote them after its last checkpoint.

        Args:
            env_steps: of the checkpoint.
            last_row: environment steps of the last row of metrics.csv that an uninterrupted run has too;
                None: `env_steps`.
        """
        with self._surviving(METRICS_FILE):
            self._training.cut(env_steps if last_row is None else last_row)
        with self._surviving(EVALUATION_FILE):
            self._evaluation.cut(env_steps)
        self._purge_step = env_steps + 1
        self._may_continue = self._curve_is_old = True

    def begin(self) -> None:
        """Make metrics.csv, without a row, where it is missing, so that it is there before any checkpoint."""
        with self._surviving(METRICS_FILE):
            self._training.begin()

    def log(self, metrics: Mapping[str, float | Tensor], *, env_steps: int) -> None:
        """Add a row to metrics.csv.

        Args:
            metrics: numbers or one-element tensors by name; tensors of one device come over in one transfer.
            env_steps: environment steps so far.
        """
        self._require_permission()
        numbers = to_floats(metrics)
        with self._surviving(METRICS_FILE):
            self._training.append(numbers, env_steps)
        self._publish(numbers, env_steps)
        if self.console is not None:
            self.console.update(numbers, env_steps)

    def log_eval(self, metrics: Mapping[str, float | Tensor], *, env_steps: int) -> None:
        """Add a row to eval.csv, unless its last row has the same `env_steps`: the same evaluation."""
        self._require_permission()
        numbers = to_floats(metrics)
        if self._evaluation.last_step == env_steps:
            return
        with self._surviving(EVALUATION_FILE):
            self._evaluation.append(numbers, env_steps)
        self._publish(numbers, env_steps)
        if self.console is not None:
            self.console.evaluation(numbers, env_steps)

    def log_histograms(self, samples: Mapping[str, Tensor], *, env_steps: int) -> None:
        """Add histograms of any number of values to TensorBoard, if it is written."""
        self._require_permission()
        if self._tensorboard_wanted:
            with self._surviving(EVENTS):
                self._open_events().add_histograms(samples, env_steps)

    def close(self) -> None:
        """Finish the tracked run and draw curve.png; a second call does nothing."""
        wandb, self._wandb = self._wandb, None
        if wandb is not None:
            with self._surviving("wandb", (Exception,)):
                wandb.finish()
        if self.console is not None:
            self.console.close()
        if self._curve_is_old:
            self._curve_is_old = False
            with self._surviving(CURVE_FILE, (RunFolderError, OSError)):
                self._draw_curve()
        self.notes.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_permission(self) -> None:
        if not self._may_continue:
            folder = repr(str(self.out_dir))
            raise SettingError(
                f"out_dir {folder} already holds a run; choose another folder, or load its checkpoint to "
                "continue it"
            )

    @contextmanager
    def _surviving(
        self, name: str, expected: tuple[type[Exception], ...] = (RunFolderError,)
    ) -> Iterator[None]:
        """What cannot be written, with one of the expected errors, is left out and noted, once for each
        name."""
        try:
            yield
        except expected as error:
            if name not in self._failed:
                self._failed.add(name)
                self.notes.add(
                    f"{' '.join(str(error).split())}; what finds no room there is left out, and the run "
                    "goes on"
                )

    def _publish(self, numbers: Mapping[str, float], env_steps: int) -> None:
        self._curve_is_old = True
        if self._tensorboard_wanted:
            with self._surviving(EVENTS):
                self._open_events().add_scalars(numbers, env_steps)
        if self._wandb is not None:
            with self._surviving("wandb", (Exception,)):  # a service elsewhere, with errors of its own
                self._wandb.log({**numbers, "env_steps": env_steps})

    def _open_events(self) -> EventFile:
        """The event file, made when it is first needed."""
        if self._events is None:
            self._events = EventFile(self.out_dir, purge_step=self._purge_step)
        return self._events

    def _draw_curve(self) -> None:
        from fastrl.runs.curve import draw_curve

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lines that are damaged; whoever plots the run is told
            draw_curve([self.out_dir], self.out_dir / CURVE_FILE, reference_lines=self._reference_returns)


def to_floats(metrics: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Metrics as Python floats; the tensors of each device are read in one transfer."""
    tensors: dict[torch.device, list[str]] = {}
    for name, value in metrics.items():
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"metrics: {name} has {value.numel()} elements; a metric is one number")
            tensors.setdefault(value.device, []).append(name)
    read: dict[str, float] = {}
    for names in tensors.values():
        stacked = torch.stack([metrics[name].detach().reshape(()).double() for name in names])  # type: ignore[union-attr]
        read |= dict(zip(names, stacked.tolist(), strict=True))
    return {name: read[name] if name in read else float(value) for name, value in metrics.items()}


def _start_wandb(track: str | None, out_dir: Path, config: Mapping[str, Any] | None) -> Any:
    if track is None:
        return None
    if track not in TRACKERS:
        raise SettingError(f"track must be {' or '.join(TRACKERS)}, got {track!r}")
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise SettingError(
            "track is 'wandb', but the package wandb is not installed; run `pip install wandb`"
        ) from None
    if os.path.lexists(out_dir / "wandb"):  # where the package writes files of its own
        require_folder(out_dir / "wandb")
    # one tracked run per folder, found again on resume
    return wandb.init(
        dir=str(out_dir), name=out_dir.name, id=_run_id(out_dir), resume="allow", config=dict(config or {})
    )


def _run_id(out_dir: Path) -> str:
    """An identity for the tracked run that stays with the folder."""
    file = out_dir / "wandb_id"
    try:
        return read_file(file, max_bytes=KILOBYTE).decode(errors="replace").strip()
    except FileNotFoundError:
        identity = secrets.token_hex(8)
        replace_file(file, lambda new: new.write(identity.encode()))
        return identity
