"""docs/scoreboard.md: every row of the scoreboard with its newest result, and the rows that have none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import runs
from results import Result, bootstrap, find, reaches, times_to
from rows import Published, Row

HEAD = """\
# Scoreboard

Written by `make scoreboard` ([bench/learning](../bench/learning), rows in
[rows.py](../bench/learning/rows.py)), from the files in [bench/results](../bench/results); do not edit.
`make scoreboard ROWS='vmpo/*'` runs some rows, `python bench/learning/scoreboard.py --list` prints their
names and state, `--page` writes this page without running anything.

- **steps**: valid environment steps of a run, over all its environments; rows that only reset an
  environment are not counted.
- **seeds**: how many, and which; each trains from nothing. Policy-gradient rows begin at 11, with dae at 21,
  and V-MPO's on HalfCheetah at 31: their settings were chosen on other seeds.
- **return**: of the last evaluation of each seed, deterministic policy, 20 episodes in environments of its
  own; the mean over seeds and the 95 % percentile bootstrap interval of the mean (10,000 resamples of the
  seeds). With 3 seeds such an interval is no wider than from the worst seed to the best. The files have
  Student's t beside it.
- **time**: wall-clock time to the first evaluation of at least the threshold, the median over seeds: the
  share of the run's steps that were made until then, of the seconds of the run, evaluations included. A run
  has about twenty evaluations: the return may have been there up to a twentieth of the run earlier. Where
  not every seed got there, how many did; the seconds of a run that was killed are not known. Other
  processes ran on the machine at the time ({machines}; machine and load of a row are in its file).
- **published**: CleanRL's are mean episodic returns of PPO as its documentation lists them, on MuJoCo's v4
  environments; those of RL Baselines3 Zoo are of one trained agent, deterministic, on the v3 ones. —: none
  was found for this algorithm, environment and steps.
- **commit**: what was trained; the code of the row, its preset included, is that of the commit.
"""
COLUMNS = (
    "environment",
    "algorithm",
    "steps",
    "seeds",
    "return",
    "threshold",
    "time",
    "published",
    "commit",
    "",
)


def write_page(rows: Sequence[Row], results: Path, page: Path) -> None:
    """Write the page of all rows from the results in a folder."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text_of(rows, results, page), encoding="utf-8")


def text_of(rows: Sequence[Row], results: Path, page: Path) -> str:
    """What the page says, links being those of a file at `page`."""
    found = {row: find(row, results) for row in rows}
    done = {row: result for row, result in found.items() if result}
    machines = sorted(
        {
            f"{r.content['machine']['cores']} cores of an {r.content['machine']['processor']}"
            for r in done.values()
        }
    )
    lines = [HEAD.format(machines="; ".join(machines) or "none yet"), "## Results", ""]
    lines += table(COLUMNS, [cells(row, result, page) for row, result in done.items()])
    lines += missing("Not yet run", [row for row in rows if row not in done and not row.needs_gpu])
    lines += missing("Not run: wants a GPU", [row for row in rows if row not in done and row.needs_gpu])
    return "\n".join(lines) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return ["| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *rows]]


def missing(title: str, rows: Sequence[Row]) -> list[str]:
    """A section on rows without a result; nothing where there are none."""
    columns = ("row", "steps", "seeds", "threshold", "published")
    lines = table(
        columns,
        [(f"`{r.name}`", steps(planned(r)), seeds(r), threshold(r), published(r.published)) for r in rows],
    )
    return ["", f"## {title}", "", *lines] if rows else []


def cells(row: Row, result: Result, page: Path) -> list[str]:
    """A row of the results."""
    content, link = result.content, os.path.relpath(result.path, page.parent)
    picture = result.path.with_suffix(".png")
    links = [f"[curves]({link.removesuffix('.json')}.png)"] if picture.exists() else []
    name = f"{row.env_id}, {row.label}" if row.label else row.env_id
    return [
        *(name, row.algorithm, steps(content["env_steps"])),
        seeds(
            row
            if result.same_settings
            else row._replace(seeds=content["seeds"], first_seed=content.get("first_seed", 1))
        ),
        mean_of(content["final_returns"]),
        *(threshold(row), time(row, result), published(row.published)),
        result.commits if result.same_settings else f"{result.commits}; the row has changed since",
        " ".join([*links, f"[file]({link})"]),
    ]


def planned(row: Row) -> int:
    """Environment steps that a row is to run."""
    return runs.settings(row.algorithm, row.env_id, row.first_seed, row.total_steps, row.changes).total_steps


def mean_of(finals: Sequence[float]) -> str:
    """The mean over seeds and its interval, which one seed does not have."""
    low, high = bootstrap(finals)
    return number(float(np.mean(finals))) + (f" [{number(low)}, {number(high)}]" if len(finals) > 1 else "")


def steps(count: int) -> str:
    """A number of steps as people say it."""
    return f"{count / 1e6:.3g}M" if count >= 999_500 else f"{count / 1e3:.3g}k"


def seeds(row: Row) -> str:
    """How many seeds, and which."""
    return (
        f"{row.seeds} ({row.all_seeds[0]}–{row.all_seeds[-1]})" if row.seeds > 1 else f"1 ({row.first_seed})"
    )


def number(value: float) -> str:
    """A return in a few digits, with a minus sign."""
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return digits.replace("-", "−")


def threshold(row: Row) -> str:
    """What counts as learned."""
    return "—" if row.threshold is None else f"≥ {number(row.threshold)}"


def time(row: Row, result: Result) -> str:
    """The median time to the threshold of the seeds whose seconds are known, or how many got there if not all
    did."""
    if row.threshold is None:
        return "—"
    content = result.content
    reached, total = sum(reaches(row.threshold, curve) for curve in content["curves"]), len(content["curves"])
    if reached < total:
        return f"— ({reached} of {total})"
    times = [seconds for seconds in times_to(row.threshold, content) if seconds is not None]
    if not times:
        return "not known"
    return duration(float(np.median(times))) + (
        f" (of {len(times)} of {total})" if len(times) < total else ""
    )


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 300:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def published(figures: Sequence[Published]) -> str:
    """Published figures with their sources."""
    return "; ".join(f"{one.figure} ({one.of}, [{one.source}]({one.address}))" for one in figures) or "—"
