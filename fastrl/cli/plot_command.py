"""`fastrl plot <run> ...`: learning curves of several runs in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from fastrl.cli.arguments import Parser
from fastrl.errors import RunFolderError, SettingError
from fastrl.runs.run_folder import open_run

FORMATS = (".png", ".pdf", ".svg")
LARGEST_LINE = 1e100


def run(arguments: Sequence[str]) -> int:
    """Draw and say where."""
    parser = Parser(
        "plot", "Draw episode return against environment steps: training as lines, evaluations as points."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="run folders")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("curves.png"),
        help="picture to write: .png, .pdf or .svg (default: curves.png)",
    )
    parser.add_argument("--title", default=None, help="heading")
    parser.add_argument(
        "--line",
        action="append",
        default=[],
        metavar="LABEL=RETURN",
        help="a horizontal line, for a bound or a baseline",
    )
    options = parser.read(arguments)
    if options.out.suffix.lower() not in FORMATS:
        raise SettingError(f"out must end in {', '.join(FORMATS)}, got {str(options.out)!r}")
    lines = dict(_reference(text) for text in options.line)
    for path in options.runs:
        open_run(path)

    from fastrl.runs.curve import draw_curve

    try:
        drawn = draw_curve(options.runs, options.out, reference_lines=lines, title=options.title)
    except OSError as error:
        raise SettingError(f"out {str(options.out)!r} cannot be written: {error.strerror}") from None
    except RunFolderError as error:
        raise SettingError(str(error)) from None
    if not drawn:
        raise SettingError(
            "none of these runs has a finished episode or an evaluation yet: there is nothing to draw"
        )
    print(f"wrote {options.out}")
    return 0


def _reference(text: str) -> tuple[str, float]:
    label, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not label or not abs(number) <= LARGEST_LINE:
        raise SettingError(f"line must be LABEL=RETURN, for example optimum=1.2, got {text!r}")
    return label, number
