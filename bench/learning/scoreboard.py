"""Learning scoreboard: an algorithm's preset on an environment over several seeds, mean and interval in valid environment steps.

    python bench/learning/scoreboard.py vmpo CartPole-v1 --seeds 5 [--total-steps N] [--work-dir runs/scoreboard]
    python bench/learning/scoreboard.py ppo-trxl MaskedCartPole-v1 --set trxl_memory_length=0 --label without-memory

`--set` changes settings of the preset (values as in TOML); `--label` then tells the result's file and title apart.

Every run is a run folder below the work directory; a run of the same settings that is already complete is not repeated, one that was
interrupted goes on, and one of other settings stays beside the new one. A run keeps the commits it ran at, and those are what the result
(JSON and curves, in bench/results/) names. Evaluation is deterministic, 20 episodes, in environments of its own.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastrl.trainers.registry import find_algorithm
from fastrl.training.config import RunConfig, values_from_toml
from fastrl.training.run_folder import CONFIG_FILE, ensure_config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import record  # noqa: E402
from curves import Curves, draw  # noqa: E402

DONE, COMMITS = "done", "commits"  # seconds the run took; a line for each time it was started or went on
STUDENT_T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # by number of seeds


def settings(algorithm: str, env_id: str, seed: int, total_steps: int | None, changes: Sequence[str] = ()) -> RunConfig:
    """The preset of the algorithm for the environment with changes `name=value`, evaluated twenty times on the way."""
    config_class = find_algorithm(algorithm).config_class()
    changed = values_from_toml(config_class, "\n".join(changes), "--set")
    config: RunConfig = config_class(**{"env_id": env_id, "seed": seed, **config_class.preset(env_id), **changed})
    config.total_steps = total_steps or config.total_steps
    config.eval_interval = config.total_steps // 20
    config.save_interval = config.total_steps // 4
    config.log_interval = config.total_steps // 100
    return config


def plain(env_id: str) -> str:
    """An id as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", env_id)


def folder_for(algorithm: str, config: RunConfig, work_dir: Path) -> Path:
    """The folder below `work_dir` that holds a run of exactly these settings, or the first that holds none; others are passed by."""
    first = work_dir / f"{algorithm}-{plain(config.env_id)}-{config.seed}"
    wanted = config.to_toml(algorithm)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if not folder.exists() or ((folder / CONFIG_FILE).exists() and (folder / CONFIG_FILE).read_text() == wanted):
            return folder
    raise AssertionError("there is always another number")


def run_seed(algorithm: str, config: RunConfig, work_dir: Path) -> Path:
    """Train one seed to the end, or find it done; returns its run folder."""
    folder = folder_for(algorithm, config, work_dir)
    if (folder / DONE).exists():
        return folder
    if folder.exists() and not (folder / "checkpoints" / "LATEST").exists():
        shutil.rmtree(folder)  # it ended before its first checkpoint: there is nothing to go on from
    ensure_config(folder, algorithm, config)
    note_commit(folder)
    started = time.perf_counter()
    with find_algorithm(algorithm).trainer_class().from_config(config) as trainer:
        if (folder / "checkpoints" / "LATEST").exists():
            trainer.load(folder)
        trainer.train(total_steps=config.total_steps, out_dir=str(folder), **config.train_arguments())
        if trainer.interrupted:
            sys.exit(f"interrupted by {trainer.interrupted}; the same command goes on")
    (folder / DONE).write_text(f"{time.perf_counter() - started:.1f}\n")
    return folder


def note_commit(folder: Path) -> None:
    """Add the commit checked out now to those the folder's run ran at."""
    with (folder / COMMITS).open("a") as file:
        file.write(record.commit() + "\n")


def commits_of(folders: list[Path]) -> str | list[str]:
    """The commit that all runs ran at, or all of them if they differ; "unknown" stands for a run that did not note it."""
    noted = [(folder / COMMITS).read_text().split() if (folder / COMMITS).exists() else ["unknown"] for folder in folders]
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


def summarize(finals: list[float]) -> dict[str, Any]:
    """Mean over seeds and its 95 % interval (Student's t)."""
    mean = float(np.mean(finals))
    half = STUDENT_T_975[len(finals)] * float(np.std(finals, ddof=1)) / len(finals) ** 0.5 if len(finals) in STUDENT_T_975 else float("nan")
    return {"final_return_mean": mean, "interval_95": [mean - half, mean + half], "final_returns": finals}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm")
    parser.add_argument("env_id")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1, help="others than those that settings were chosen on")
    parser.add_argument("--total-steps", type=int)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings that differ from the preset")
    parser.add_argument("--label", default="", help="part of the result's name")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/scoreboard"))
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    configs = [settings(arguments.algorithm, arguments.env_id, seed, arguments.total_steps, arguments.set) for seed in seeds]
    folders = [run_seed(arguments.algorithm, config, arguments.work_dir) for config in configs]
    curves = [read_curve(folder) for folder in folders]
    results = {
        "commit": commits_of(folders),
        "algorithm": arguments.algorithm,
        "env_id": arguments.env_id,
        "seeds": arguments.seeds,
        "first_seed": arguments.first_seed,
        "env_steps": curves[0][0][-1],
        "episodes_per_evaluation": 20,
        **summarize([returns[-1] for _, returns in curves]),
        "final_lowest_returns": [read_last(folder, "eval/return_min") for folder in folders],
        "seconds": [float((folder / DONE).read_text()) for folder in folders],
        "curves": [{"env_steps": steps, "return_mean": returns} for steps, returns in curves],
        "config": (folders[0] / CONFIG_FILE).read_text(),
    }
    label = f"-{plain(arguments.label)}" if arguments.label else ""
    name = f"learning-{arguments.algorithm}-{plain(arguments.env_id)}{label}"
    path = record.write_result(name, results)
    low, high = results["interval_95"]
    what = f"{arguments.algorithm} on {arguments.env_id}{label.replace('-', ' ')}"
    title = f"{what}: {results['final_return_mean']:.4g} [{low:.4g}, {high:.4g}], {arguments.seeds} seeds"
    draw([Curves(curves)], title, path.with_suffix(".png"))
    print(title, "→", path)


if __name__ == "__main__":
    main()
