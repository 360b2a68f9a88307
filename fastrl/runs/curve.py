"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrl.runs.csv_table import read_columns
from fastrl.runs.run_folder import EVALUATION_FILE, METRICS_FILE
from fastrl.runs.safe_files import replace_file

Points = list[tuple[float, ...]]
LARGEST_DRAWN = 1e100  # of a return; beyond that, and where it is no number, the picture's axes have no room


def draw_curve(
    runs: Sequence[Path],
    out: Path,
    *,
    reference_lines: Mapping[str, float] | None = None,
    title: str | None = None,
) -> bool:
    """Draw episode return over environment steps: training as a line, evaluations with their deviation.

    Args:
        runs: run folders, each a colour.
        out: picture to write; its suffix chooses the format.
        reference_lines: horizontal lines by label (a bound, a baseline), in units of return.
        title: heading; None takes the folder's name when there is one run.

    Returns:
        Whether there was anything to draw; if not, nothing is written.

    Raises:
        RunFolderError: a run's files cannot be read, or the picture cannot be written.
    """
    curves = [(run, *_points(run)) for run in runs]
    if not any(training or evaluation for _, training, evaluation in curves):
        return False
    # not pyplot: it keeps figures in a global list and picks a display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (run, training, evaluation) in enumerate(curves):
        _draw_run(axes, run.resolve().name if len(runs) > 1 else "", f"C{index}", training, evaluation)
    for label, value in (reference_lines or {}).items():
        axes.axhline(value, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(
            _literal(label),
            (0.005, value),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color="0.4",
            va="bottom",
        )
    heading = title or (runs[0].resolve().name if len(runs) == 1 else "")
    axes.set(xlabel="environment steps", ylabel="episode return", title=_literal(heading))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, lambda file: figure.savefig(file, format=out.suffix[1:].lower(), dpi=130))
    return True


def _points(run: Path) -> tuple[Points, Points]:
    """(training, evaluation) points of a run folder: (env_steps, return) and (env_steps, return, standard
    deviation)."""
    training = read_columns(run / METRICS_FILE, "rollout/ep_return_mean")
    evaluation = read_columns(run / EVALUATION_FILE, "eval/return_mean", "eval/return_std")
    return _drawable(training), [point for point in _drawable(evaluation) if point[2] >= 0]


def _drawable(points: Points) -> Points:
    return [point for point in points if all(abs(value) <= LARGEST_DRAWN for value in point)]


def _draw_run(axes: Any, name: str, color: str, training: Points, evaluation: Points) -> None:
    prefix = f"{_literal(name)}: " if name else ""
    if training:
        steps, returns = zip(*training, strict=True)
        axes.plot(steps, returns, color=color, alpha=0.6, linewidth=1.2, label=prefix + "training")
    if evaluation:
        steps, returns, deviations = zip(*evaluation, strict=True)
        axes.errorbar(
            steps,
            returns,
            yerr=deviations,
            fmt="o",
            color=color,
            markersize=4,
            capsize=2,
            label=prefix + "evaluation",
        )


def _literal(text: str) -> str:
    """Text as it is: between two dollars matplotlib would read a formula, and no font has what cannot be
    printed."""
    return "".join(character if character.isprintable() else "?" for character in text).replace("$", r"\$")
