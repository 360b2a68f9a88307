"""Every algorithm logs under the names of one vocabulary, and fills the rows of the console."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrl.runs.console import LINE, ROWS, Console
from fastrl.runs.metric_names import EVERY_ALGORITHM, METRICS

STEPS = 256
Rows = list[dict[str, str]]


@pytest.fixture
def run(algorithm: str, trainer_of: Callable[..., Any], tmp_path: Path) -> Path:
    """The folder of a short run with finished episodes, updates and evaluations."""
    changes = {"total_steps": STEPS, "log_interval": 0, "eval_interval": STEPS // 2, "max_episode_steps": 10}
    with trainer_of(algorithm, **changes) as trainer:
        trainer.train(total_steps=STEPS, out_dir=str(tmp_path))
    return tmp_path


def rows_of(file: Path) -> Rows:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def given(rows: Rows) -> set[str]:
    """The metrics that some row has."""
    return {name for row in rows for name, cell in row.items() if cell} - {"env_steps"}


def test_every_name_is_in_the_vocabulary_and_none_of_the_required_is_missing(run: Path) -> None:
    training, evaluation = given(rows_of(run / "metrics.csv")), given(rows_of(run / "eval.csv"))
    assert sorted((training | evaluation) - set(METRICS)) == []
    assert sorted(set(EVERY_ALGORITHM) - training) == []
    assert {name for name in METRICS if name.startswith("eval/")} - evaluation <= {"eval/cut_episodes"}
    assert "loss/q" in training or {"loss/value", "train/explained_variance"} <= training


def test_the_last_row_fills_the_console(run: Path) -> None:
    """In the table and in plain lines."""
    rows = rows_of(run / "metrics.csv") + rows_of(run / "eval.csv")
    latest = {name: float(cell) for row in rows for name, cell in row.items() if cell}
    table, lines = io.StringIO(), io.StringIO()
    for stream, live in ((table, True), (lines, False)):
        console = Console(STEPS, stream=stream, live=live)
        console.update(latest, STEPS)
        console.close()
    of_some = {"loss/total", "loss/value", "loss/q", "train/clip_fraction", "train/explained_variance"}
    plain = re.sub(r"\x1b\[[0-9;?]*\w", "", table.getvalue())
    labels = {line.rsplit(maxsplit=1)[0].strip() for line in plain.splitlines() if line.strip()}
    assert {name for name, label in ROWS.items() if label in labels} == set(ROWS) & set(latest)
    assert set(ROWS) - set(latest) <= of_some
    assert [name for name in LINE if f"{ROWS[name]} " in lines.getvalue()] == [n for n in LINE if n in latest]
    assert len({"loss/value", "loss/q"} & set(latest)) == 1


def test_metrics_are_within_their_ranges(run: Path) -> None:
    for row in rows_of(run / "metrics.csv"):
        number = {name: float(cell) for name, cell in row.items() if cell}
        assert number.get("train/approx_kl", 0.0) > -1e-6
        assert 0 <= number.get("train/clip_fraction", 0.0) <= 1
        assert number.get("train/explained_variance", 0.0) <= 1
        assert all(value >= 0 for name, value in number.items() if name.startswith(("time/", "grad/", "kl/")))


def test_the_vocabulary_has_a_line_with_a_meaning_for_each_name() -> None:
    for name, meaning in METRICS.items():
        assert name.count("/") == 1 and name == name.lower() and len(meaning) > 10
        assert not meaning.endswith(".") and "\n" not in meaning
    assert set(EVERY_ALGORITHM) | set(ROWS) | set(LINE) <= set(METRICS)
