"""Learning scoreboard: presets on environments over several seeds, with mean, interval and curves in valid
environment steps.

    python bench/learning/scoreboard.py                                  all rows of rows.py that have no
    result yet, one at a time python bench/learning/scoreboard.py --rows 'vmpo/*' ppo/CartPole-v1  some of
    them python bench/learning/scoreboard.py --list                           their names and state
    python bench/learning/scoreboard.py --page                           docs/scoreboard.md from the results
    that there are, and no more python bench/learning/scoreboard.py vmpo CartPole-v1 --seeds 5 --set m_steps=8
    --label m8      a row of one's own

`--set` changes settings of the preset (values as in TOML); the `--label` that it wants tells the result's
file and title apart.

A row that has a result of the same seeds and settings in bench/results is done. Every run is a run folder
below the work directory; a run of the same settings that is already complete is not repeated, one that was
interrupted goes on, and one of other settings stays beside the new one. A run keeps the commits it ran at,
and those are what the result (JSON and curves, in bench/results) names. Evaluation is deterministic, 20
episodes, in environments of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import parallel  # noqa: E402
import record  # noqa: E402
import results  # noqa: E402
import runs  # noqa: E402
from curves import Curves, draw  # noqa: E402
from page import write_page  # noqa: E402
from rows import ROWS, Row, pick  # noqa: E402

from fastrl.errors import CheckpointError, NonFiniteError, SettingError  # noqa: E402
from fastrl.machine import available_cores  # noqa: E402

PAGE = record.ROOT / "docs" / "scoreboard.md"
FAILURES = (SettingError, CheckpointError, NonFiniteError, parallel.SeedsFailed)


def run_row(row: Row, work_dir: Path, jobs: int) -> Path:
    """Train the seeds of a row that are not done and write its result, JSON and curves; returns the JSON's
    path."""
    configs = [
        runs.settings(row.algorithm, row.env_id, seed, row.total_steps, row.changes) for seed in row.all_seeds
    ]
    folders = parallel.run_seeds(row.algorithm, configs, work_dir, jobs)
    curves = [runs.read_curve(folder) for folder in folders]
    content = {
        "commit": runs.commits_of(folders),
        "algorithm": row.algorithm,
        "env_id": row.env_id,
        "seeds": row.seeds,
        "first_seed": row.first_seed,
        "jobs": jobs,
        "env_steps": curves[0][0][-1],
        "episodes_per_evaluation": 20,
        **results.summarize([returns[-1] for _, returns in curves]),
        "final_lowest_returns": [runs.read_last(folder, "eval/return_min") for folder in folders],
        "seconds": [runs.read_seconds(folder) for folder in folders],
        "curves": [{"env_steps": steps, "return_mean": returns} for steps, returns in curves],
        "config": (folders[0] / runs.CONFIG_FILE).read_text(),
    }
    path = record.write_result(results.name_of(row.algorithm, row.env_id, row.label), content)
    low, high = content["bootstrap_95"]
    what = " ".join(filter(None, [row.algorithm, "on", row.env_id, row.label]))
    title = f"{what}: {content['final_return_mean']:.4g} [{low:.4g}, {high:.4g}], {row.seeds} seeds"
    draw([Curves(curves)], title, path.with_suffix(".png"))
    print(title, "→", path)
    return path


def state(row: Row) -> str:
    """What there is of a row: done, to be run, or not to be run here."""
    found = results.find(row, record.RESULTS)
    if found and found.same_settings:
        return f"done at {found.commits}"
    if row.needs_gpu and not has_gpu():
        return "not run: wants a GPU"
    return f"not yet run with its present settings (others at {found.commits})" if found else "not yet run"


def has_gpu() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available()


def run_rows(rows: Sequence[Row], work_dir: Path, jobs: int) -> list[str]:
    """Run the rows that are not done, writing the page after each; returns a complaint for each that
    failed."""
    failed = []
    for row in rows:
        print(f"{row.name}: {state(row)}", flush=True)
        if not state(row).startswith("not yet"):
            continue
        try:
            run_row(row, work_dir, jobs)
        except FAILURES as error:
            failed.append(f"{row.name}: {error}")
        write_page(ROWS, record.RESULTS, PAGE)
    write_page(ROWS, record.RESULTS, PAGE)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("algorithm", nargs="?")
    parser.add_argument("env_id", nargs="?")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="rows of the table by name, as vmpo/* or */CartPole-v1",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and their state")
    parser.add_argument("--page", action="store_true", help="write docs/scoreboard.md and run nothing")
    parser.add_argument(
        "--jobs",
        type=at_least_one,
        default=available_cores(),
        help="seeds trained at the same time (default: one per core)",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("runs/scoreboard"))
    own = parser.add_argument_group("a row of one's own (algorithm and env_id given)")
    own.add_argument("--seeds", type=at_least_one, help="how many (default: 5)")
    own.add_argument(
        "--first-seed", type=int, help="others than those that settings were chosen on (default: 1)"
    )
    own.add_argument("--total-steps", type=at_least_one)
    own.add_argument(
        "--set", nargs="+", metavar="NAME=VALUE", help="settings that differ from the preset; wants a --label"
    )
    own.add_argument("--label", help="part of the result's name")
    arguments = parser.parse_args()
    if complaint := contradiction(arguments):
        parser.error(complaint)
    try:
        rows = pick(arguments.rows)
    except ValueError as error:
        parser.error(str(error))
    if arguments.list:
        print("\n".join(f"{row.name:48} {state(row)}" for row in rows))
    elif arguments.page:
        write_page(ROWS, record.RESULTS, PAGE)
        print(PAGE)
    elif arguments.algorithm:
        try:
            run_row(own_row(arguments), arguments.work_dir, arguments.jobs)
        except FAILURES as error:
            sys.exit(f"failed: {error}")
        write_page(ROWS, record.RESULTS, PAGE)
    elif failed := run_rows(rows, arguments.work_dir, arguments.jobs):
        sys.exit("\n".join(["failed:", *failed]))


def at_least_one(word: str) -> int:
    """A number of things, as argparse's `type`."""
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def contradiction(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the words together, if anything: none of them is to be passed over in silence."""
    whole, part = arguments.list or arguments.page, ("seeds", "first_seed", "total_steps", "set", "label")
    given = [f"--{name.replace('_', '-')}" for name in part if getattr(arguments, name) is not None]
    if arguments.algorithm and not arguments.env_id:
        return "an algorithm needs an environment; --rows picks rows of the table"
    if arguments.algorithm and (arguments.rows or whole):
        return "--rows, --list and --page are for the rows of the table"
    if given and not arguments.algorithm:
        return f"{given[0]} is for a row of one's own: give its algorithm and environment too"
    if arguments.page and (arguments.rows or arguments.list):
        return "--page is of all rows, and prints no list"
    if arguments.set and not arguments.label:
        return "--set needs a --label: without one, the result would take the place of the preset's own"
    return None


def own_row(arguments: argparse.Namespace) -> Row:
    """The row that the command line describes."""
    return Row(
        arguments.algorithm,
        arguments.env_id,
        arguments.seeds or 5,
        label=arguments.label or "",
        changes=tuple(arguments.set or ()),
        total_steps=arguments.total_steps,
        first_seed=1 if arguments.first_seed is None else arguments.first_seed,
    )


if __name__ == "__main__":
    main()
