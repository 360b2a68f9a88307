"""Progress for the person at the screen: a live table on a terminal, plain lines in a file or pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from fastrl.runs.output import as_text, lasting

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_FRAMES = 0.25

# what the table shows, in this order, of the metrics in fastrl.runs.metric_names; an algorithm has a value
# function or a critic
ROWS = {
    "rollout/ep_return_mean": "episode return",
    "rollout/ep_length_mean": "episode length",
    "time/env_steps_per_s": "steps/s",
    "loss/total": "loss",
    "loss/policy": "policy loss",
    "loss/value": "value loss",
    "loss/q": "critic loss",
    "train/entropy": "entropy",
    "train/approx_kl": "KL",
    "train/clip_fraction": "clip fraction",
    "train/explained_variance": "explained variance",
    "eval/return_mean": "evaluation return",
}
LINE = ("rollout/ep_return_mean", "rollout/ep_length_mean", "loss/policy", "loss/value", "loss/q")


class Console:
    """Shows a run's progress; `MetricsLogger` calls it.

    On a terminal a table with a progress bar is redrawn in place, at most four times a second. Elsewhere a
    line is printed at most every five seconds, and one per evaluation. Output that fails is dropped: a run
    does not end for it.

    Args:
        total_steps: environment steps of the whole run, for the bar and the remaining time.
        start_steps: steps made before this process started.
        stream: where to write; None is standard output.
        live: force the table on or off; None: on if `stream` is a terminal.
        on_lost: called once, with the environment steps and the error, when output has failed.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_steps: int = 0,
        stream: TextIO | None = None,
        live: bool | None = None,
        on_lost: Callable[[int, Exception], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self.start_steps = start_steps
        self.stream = lasting(sys.stdout if stream is None else stream)
        self._on_lost = on_lost
        self.live = self.stream.isatty() if live is None else live
        self._clock = clock
        self._started = clock()
        self._shown_at = float("-inf")
        self._latest: dict[str, float] = {}
        self._steps = self._shown_steps = start_steps
        self._display: Any = None

    def update(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Take in a row of metrics; shows it if the last display is long enough ago."""
        self._latest |= metrics
        self._steps = env_steps
        now = self._clock()
        if now - self._shown_at < (SECONDS_BETWEEN_FRAMES if self.live else SECONDS_BETWEEN_LINES):
            return
        self._shown_at = now
        if self.live:
            self._draw()
        else:
            self._show_line()

    def evaluation(self, metrics: Mapping[str, float], env_steps: int) -> None:
        """Show an evaluation at once."""
        self._latest |= metrics
        self._steps = env_steps
        if self.live:
            self._draw()
        mean, deviation = (
            metrics.get("eval/return_mean", float("nan")),
            metrics.get("eval/return_std", float("nan")),
        )
        length = metrics.get("eval/length_mean", float("nan"))
        self.message(
            f"{env_steps:>11,} steps  evaluation: return {mean:.2f} ± {deviation:.2f}, length {length:.1f}"
        )

    def message(self, text: str) -> None:
        """Print a line, above the table if there is one."""
        if self._display is not None:
            self._display.console.print(text, highlight=False, markup=False)
            self._look_after()
        else:
            self._print(text)

    def close(self) -> None:
        """Leave the last table on the screen; without a table, print the last line if it was not shown."""
        display, self._display = self._display, None
        if display is not None:
            display.update(self._table(), refresh=True)
            display.stop()
            self._look_after()
        elif self._steps != self._shown_steps and not self.live:
            self._show_line()

    # ----------------------------------------------------------------------------------- plain lines

    def _print(self, text: str) -> None:
        print(text, file=as_text(self.stream), flush=True)
        self._look_after()

    def _show_line(self) -> None:
        self._shown_steps = self._steps
        self._print(self._line())

    def _line(self) -> str:
        rate = self._latest.get("time/env_steps_per_s")
        parts = [f"{self._steps:>11,} steps {self._share():4.0%}"]
        parts += [f"{ROWS[name]} {_number(self._latest[name])}" for name in LINE if name in self._latest]
        parts += [f"{rate:,.0f} steps/s"] if rate is not None else []
        return "  ".join([*parts, f"left {_duration(self.seconds_left())}"])

    # ------------------------------------------------------------------------------------ live table

    def _draw(self) -> None:
        if self._display is None:
            from rich.console import Console as RichConsole
            from rich.live import Live

            # no thread of its own: it would take turns with the learner
            self._display = Live(
                console=RichConsole(file=as_text(self.stream), force_terminal=True),
                auto_refresh=False,
                transient=False,
            )
            self._display.start()
        self._display.update(self._table(), refresh=True)
        self._look_after()

    def _table(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="dim")
        table.add_column(justify="right")
        table.add_row("environment steps", f"{self._steps:,} of {self.total_steps:,}")
        for name, label in ROWS.items():
            if name in self._latest:
                table.add_row(label, _number(self._latest[name]))
        table.add_row("time left", _duration(self.seconds_left()))
        return Group(
            table, ProgressBar(total=self.total_steps, completed=min(self._steps, self.total_steps), width=48)
        )

    def _look_after(self) -> None:
        """Say once that output was lost."""
        if self.stream.lost is not None and self._on_lost is not None:
            told, self._on_lost = self._on_lost, None
            told(self._steps, self.stream.lost)

    def _share(self) -> float:
        return min(1.0, self._steps / self.total_steps)

    def seconds_left(self) -> float | None:
        """Remaining time at this process's average pace, evaluations included; None before its first step."""
        done = self._steps - self.start_steps
        if done <= 0:
            return None
        return max(0, self.total_steps - self._steps) * (self._clock() - self._started) / done


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
