"""One seed of a row: an algorithm's preset on an environment, trained in a run folder below a work directory;
and what the folder says.

A run of the same settings that is complete is not repeated, one that was interrupted goes on, and one of
other settings stays beside the new one. A run keeps the commits it ran at.

    python bench/learning/runs.py ALGORITHM WORK_DIR [--cores 0 1] < config.toml     one seed, as parallel.py
    starts it
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig, values_from_toml
from fastrl.runs.run_folder import CONFIG_FILE, ensure_config
from fastrl.trainers.registry import find_algorithm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

# seconds the run took; a line for each time it was started or went on; a line with the seconds until it ended
# or was interrupted
DONE, COMMITS, STRETCHES = "done", "commits", "seconds"

# a row says these itself, or they follow from its steps: a change would be lost, or make all seeds the same
NOT_TO_BE_SET = ("env_id", "seed", "eval_interval", "save_interval", "log_interval")


def settings(
    algorithm: str, env_id: str, seed: int, total_steps: int | None, changes: Sequence[str] = ()
) -> RunConfig:
    """The preset of the algorithm for the environment with changes `name=value`, evaluated twenty times on
    the way.

    Raises: SettingError if a change is none of the algorithm's settings, or one that is not to be set.
    """
    config_class = find_algorithm(algorithm).config_class()
    changed = values_from_toml(config_class, "\n".join(changes), "--set")
    if refused := [name for name in changed if name in NOT_TO_BE_SET]:
        raise SettingError(
            f"--set cannot change {refused[0]}: the row says it, or it follows from the row's steps"
        )
    config: RunConfig = config_class(
        **{"env_id": env_id, "seed": seed, **config_class.preset(env_id), **changed}
    )
    config.total_steps = config.total_steps if total_steps is None else total_steps
    config.eval_interval = config.total_steps // 20
    config.save_interval = config.total_steps // 4
    config.log_interval = config.total_steps // 100
    return config


def plain(env_id: str) -> str:
    """An id as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", env_id)


def folder_for(algorithm: str, config: RunConfig, work_dir: Path) -> Path:
    """The folder below `work_dir` that holds a run of exactly these settings, or the first that holds none;
    others are passed by."""
    first = work_dir / f"{algorithm}-{plain(config.env_id)}-{config.seed}"
    wanted = config.to_toml(algorithm)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if not folder.exists() or (
            (folder / CONFIG_FILE).exists() and (folder / CONFIG_FILE).read_text() == wanted
        ):
            return folder
    raise AssertionError("there is always another number")


def run_seed(algorithm: str, config: RunConfig, work_dir: Path) -> Path:
    """Train one seed to the end, or find it done; returns its run folder."""
    folder = folder_for(algorithm, config, work_dir)
    with alone(folder):
        if not (folder / DONE).exists():
            train(algorithm, config, folder)
    return folder


def train(algorithm: str, config: RunConfig, folder: Path) -> None:
    """Train one seed in its run folder, from the checkpoint there if there is one."""
    if folder.exists() and not (folder / "checkpoints" / "LATEST").exists():
        shutil.rmtree(folder)  # it ended before its first checkpoint: there is nothing to go on from
    ensure_config(folder, algorithm, config)
    note(folder / COMMITS, record.commit())
    with timed(folder), find_algorithm(algorithm).trainer_class().from_config(config) as trainer:
        if (folder / "checkpoints" / "LATEST").exists():
            trainer.load(folder)
        trainer.train(total_steps=config.total_steps, out_dir=str(folder))
        if trainer.interrupted:
            sys.exit(f"interrupted by {trainer.interrupted}; the same command goes on")
    (folder / DONE).write_text(f"{seconds_of(folder):.1f}\n")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes off a run, whose folder they would take for one that was left; the lock ends with
    the process.

    Raises: SettingError if one is at it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(
                f"another process is training in {folder}; wait for it, or choose another --work-dir"
            ) from None
        yield


@contextmanager
def timed(folder: Path) -> Iterator[None]:
    """Adds the seconds spent inside to those of the folder's run."""
    started = time.perf_counter()
    try:
        yield
    finally:
        note(folder / STRETCHES, f"{time.perf_counter() - started:.1f}")


def note(path: Path, line: str) -> None:
    """Add a line to a file."""
    with path.open("a") as file:
        file.write(line + "\n")


def seconds_of(folder: Path) -> float:
    """Seconds of all stretches of a run; NaN if one of them was killed before it could say how long it had
    taken."""
    stretches = (folder / STRETCHES).read_text().split()
    complete = len(stretches) == len((folder / COMMITS).read_text().split())
    return sum(map(float, stretches)) if complete else float("nan")


def read_seconds(folder: Path) -> float | None:
    """Seconds that a finished run took; None where that is not known."""
    seconds = float((folder / DONE).read_text())
    return None if seconds != seconds else seconds


def commits_of(folders: list[Path]) -> str | list[str]:
    """The commit that all runs ran at, or all of them if they differ; "unknown" stands for a run that did not
    note it."""
    noted = [
        (folder / COMMITS).read_text().split() if (folder / COMMITS).exists() else ["unknown"]
        for folder in folders
    ]
    commits = list(dict.fromkeys(itertools.chain.from_iterable(noted)))
    return commits[0] if len(commits) == 1 else commits


def read_curve(folder: Path) -> tuple[list[int], list[float]]:
    """(environment steps, mean evaluation return) of a run."""
    with open(folder / "eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["env_steps"]) for row in rows], [float(row["eval/return_mean"]) for row in rows]


def read_last(folder: Path, column: str) -> float:
    """A column of a run's last evaluation."""
    with open(folder / "eval.csv", newline="") as file:
        return float(list(csv.DictReader(file))[-1][column])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("algorithm")
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--cores", type=int, nargs="*", default=[], help="cores to keep to; all without it")
    arguments = parser.parse_args()
    if arguments.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, arguments.cores)
    config = find_algorithm(arguments.algorithm).config_class().from_toml(sys.stdin.read(), "standard input")
    try:
        run_seed(arguments.algorithm, config, arguments.work_dir)
    except SettingError as error:
        sys.exit(f"seed {config.seed}: {error}")


if __name__ == "__main__":
    main()
