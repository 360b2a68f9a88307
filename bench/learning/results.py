"""The results of rows in bench/results: which of them is a row's, whether the row would still be run with the
same settings, figures."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import runs
from rows import Row

from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig
from fastrl.trainers.registry import find_algorithm

RESAMPLES = 10_000
OF_DAE = ("dae_", "advantage_lr")  # how settings begin that only this estimator reads
# by number of seeds
STUDENT_T_975 = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
    15: 2.145,
    20: 2.093,
}


class Result(NamedTuple):
    """A row's result: its file, what it says, and whether the row would be run with the same settings
    today."""

    path: Path
    content: dict[str, Any]
    same_settings: bool

    @property
    def commits(self) -> str:
        """The commits that the seeds ran at."""
        commit = self.content["commit"]
        return commit if isinstance(commit, str) else ", ".join(commit)


def name_of(algorithm: str, env_id: str, label: str) -> str:
    """The name of a result's file, behind its date."""
    return "-".join(["learning", algorithm, runs.plain(env_id), *filter(None, [runs.plain(label)])])


def find(row: Row, folder: Path) -> Result | None:
    """The newest result of the row's present settings, or the newest of others, or None."""
    dated = re.compile(
        r"\d{4}-\d{2}-\d{2}-" + re.escape(name_of(row.algorithm, row.env_id, row.label)) + r"\.json"
    )
    paths = sorted((path for path in folder.glob("*.json") if dated.fullmatch(path.name)), reverse=True)
    found = [
        Result(path, content := json.loads(path.read_text()), same_settings(row, content)) for path in paths
    ]
    return next((result for result in found if result.same_settings), found[0] if found else None)


def same_settings(row: Row, content: dict[str, Any]) -> bool:
    """Whether a result is of the row's seeds and of the settings that it would be run with today."""
    if (content["seeds"], content.get("first_seed", 1)) != (row.seeds, row.first_seed):
        return False
    try:
        wanted = runs.settings(row.algorithm, row.env_id, row.first_seed, row.total_steps, row.changes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # results keep the names that settings had
            config = find_algorithm(row.algorithm).config_class().from_toml(content["config"])
    except SettingError:  # a setting that is gone; whether its device is here is not looked at
        return False
    return settings_in_use(config) == settings_in_use(wanted)


def settings_in_use(config: RunConfig) -> dict[str, Any]:
    """The settings that a run depends on: those of `dae` only where it is the estimator."""
    values = dict(config.to_dict())
    if values.get("advantage_estimator") == "dae":
        return values
    return {name: value for name, value in values.items() if not name.startswith(OF_DAE)}


def bootstrap(finals: Sequence[float]) -> list[float]:
    """The 95 % percentile bootstrap interval of the mean over seeds; always the same for the same numbers."""
    values = np.asarray(finals, np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    return [float(bound) for bound in np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])]


def summarize(finals: list[float]) -> dict[str, Any]:
    """Mean over seeds, its 95 % interval by Student's t and by the bootstrap."""
    intervals = {"interval_95": student(finals), "bootstrap_95": bootstrap(finals)}
    return {"final_return_mean": float(np.mean(finals)), **intervals, "final_returns": finals}


def student(finals: Sequence[float]) -> list[float] | None:
    """The 95 % interval of the mean over seeds by Student's t; None for one seed.

    Between the entries of the table and beyond them the one for fewer seeds is taken: the interval is then a
    little too wide.
    """
    if len(finals) < 2:
        return None
    factor = STUDENT_T_975[max(seeds for seeds in STUDENT_T_975 if seeds <= len(finals))]
    mean, half = float(np.mean(finals)), factor * float(np.std(finals, ddof=1)) / len(finals) ** 0.5
    return [mean - half, mean + half]


def times_to(threshold: float, content: dict[str, Any]) -> list[float | None]:
    """Seconds that each seed took until its first evaluation of at least `threshold`: the share of its steps,
    of the run's seconds.

    None for a seed that never got there, or whose seconds are not known.
    """
    return [
        time_to(threshold, curve, seconds)
        for curve, seconds in zip(content["curves"], content["seconds"], strict=True)
    ]


def time_to(threshold: float, curve: dict[str, list[float]], seconds: float | None) -> float | None:
    """The same for one seed."""
    if seconds is None or not reaches(threshold, curve):
        return None
    first = next(
        steps
        for steps, value in zip(curve["env_steps"], curve["return_mean"], strict=True)
        if value >= least(threshold)
    )
    return seconds * first / curve["env_steps"][-1]


def reaches(threshold: float, curve: dict[str, list[float]]) -> bool:
    """Whether any evaluation of a seed is of at least `threshold`."""
    return max(curve["return_mean"]) >= least(threshold)


def least(threshold: float) -> float:
    """What counts as the threshold: means of its decimals are a rounding away from it."""
    return threshold - 1e-9 * abs(threshold)
