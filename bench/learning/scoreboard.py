"""Learning scoreboard: an algorithm's preset on an environment over several seeds, mean and interval in valid environment steps.

    python bench/learning/scoreboard.py vmpo CartPole-v1 --seeds 5 [--total-steps N] [--work-dir runs/scoreboard]

Every run is a run folder below the work directory; a run that is already complete is not repeated, one that was interrupted goes on. The
result (JSON and curves) goes to bench/results/. Evaluation is deterministic, 20 episodes, in environments of its own.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastrl.trainers.registry import find_algorithm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

STUDENT_T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # by number of seeds


def run_seed(algorithm: str, env_id: str, seed: int, total_steps: int | None, work_dir: Path) -> Path:
    """Train one seed to the end, or find it done; returns its run folder."""
    config_class = find_algorithm(algorithm).config_class()
    config = config_class(**{"env_id": env_id, "seed": seed, **config_class.preset(env_id)})
    config.total_steps = total_steps or config.total_steps
    config.eval_interval = config.total_steps // 20
    config.save_interval = config.total_steps // 4
    config.log_interval = config.total_steps // 100
    folder = work_dir / f"{algorithm}-{env_id}-{seed}"
    if (folder / "done").exists():
        return folder
    started = time.perf_counter()
    with find_algorithm(algorithm).trainer_class().from_config(config) as trainer:
        if (folder / "checkpoints" / "LATEST").exists():
            trainer.load(folder)
        trainer.train(config.total_steps, str(folder), **config.train_arguments())
        if trainer.interrupted:
            sys.exit(f"interrupted by {trainer.interrupted}; the same command goes on")
    (folder / "config.toml").write_text(config.to_toml(algorithm))
    (folder / "done").write_text(f"{time.perf_counter() - started:.1f}\n")
    return folder


def read_curve(folder: Path) -> tuple[list[int], list[float]]:
    """(environment steps, mean evaluation return) of a run."""
    with open(folder / "eval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["env_steps"]) for row in rows], [float(row["eval/return_mean"]) for row in rows]


def summarize(finals: list[float]) -> dict[str, Any]:
    """Mean over seeds and its 95 % interval (Student's t)."""
    mean = float(np.mean(finals))
    half = STUDENT_T_975[len(finals)] * float(np.std(finals, ddof=1)) / len(finals) ** 0.5 if len(finals) in STUDENT_T_975 else float("nan")
    return {"final_return_mean": mean, "interval_95": [mean - half, mean + half], "final_returns": finals}


def draw(curves: list[tuple[list[int], list[float]]], title: str, path: Path) -> None:
    """Each seed's evaluation curve and their mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), dpi=110)
    for steps, returns in curves:
        axes.plot(steps, returns, color="tab:blue", alpha=0.3, linewidth=1)
    grid = np.linspace(max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves), 50)
    axes.plot(grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0), color="tab:blue", linewidth=2)
    axes.set(title=title, xlabel="environment steps", ylabel="evaluation return, 20 episodes")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm")
    parser.add_argument("env_id")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--total-steps", type=int)
    parser.add_argument("--work-dir", type=Path, default=Path("runs/scoreboard"))
    arguments = parser.parse_args()
    folders = [
        run_seed(arguments.algorithm, arguments.env_id, seed, arguments.total_steps, arguments.work_dir)
        for seed in range(1, arguments.seeds + 1)
    ]
    curves = [read_curve(folder) for folder in folders]
    results = {
        "algorithm": arguments.algorithm,
        "env_id": arguments.env_id,
        "seeds": arguments.seeds,
        "env_steps": curves[0][0][-1],
        "episodes_per_evaluation": 20,
        **summarize([returns[-1] for _, returns in curves]),
        "seconds": [float((folder / "done").read_text()) for folder in folders],
        "curves": [{"env_steps": steps, "return_mean": returns} for steps, returns in curves],
        "config": (folders[0] / "config.toml").read_text(),
    }
    name = f"learning-{arguments.algorithm}-{arguments.env_id}"
    path = record.write_result(name, results)
    low, high = results["interval_95"]
    title = (
        f"{arguments.algorithm} on {arguments.env_id}: {results['final_return_mean']:.1f} [{low:.1f}, {high:.1f}], {arguments.seeds} seeds"
    )
    draw(curves, title, path.with_suffix(".png"))
    print(title, "→", path)


if __name__ == "__main__":
    main()
