"""Learning curves of several results of `scoreboard.py` in one picture: each seed's curve, and the mean over seeds of each result.

python bench/learning/compare.py retrace.json one-step.json --labels "Retrace" "one step" --out both.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


def draw(results: list[dict[str, Any]], labels: list[str], path: Path) -> None:
    """Curves of all results in one picture; the legend gives the mean of the last evaluations and its interval."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), dpi=110)
    for number, (result, label) in enumerate(zip(results, labels, strict=True)):
        curves, color = [(curve["env_steps"], curve["return_mean"]) for curve in result["curves"]], f"C{number}"
        for steps, returns in curves:
            axes.plot(steps, returns, color=color, alpha=0.3, linewidth=1)
        grid = np.linspace(max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves), 50)
        low, high = result["interval_95"]
        legend = f"{label}: {result['final_return_mean']:.4g} [{low:.4g}, {high:.4g}], {result['seeds']} seeds"
        axes.plot(grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0), color=color, linewidth=2, label=legend)
    axes.set(
        title=f"{results[0]['algorithm']} on {results[0]['env_id']}", xlabel="environment steps", ylabel="evaluation return, 20 episodes"
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files that scoreboard.py wrote, of one environment")
    parser.add_argument("--labels", nargs="+", required=True, help="a name for each")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    arguments = parser.parse_args()
    results = [json.loads(path.read_text()) for path in arguments.results]
    if len(arguments.labels) != len(results):
        parser.error(f"there are {len(results)} results and {len(arguments.labels)} labels")
    if len({result["env_id"] for result in results}) > 1:
        parser.error("the results are of several environments: " + ", ".join(result["env_id"] for result in results))
    draw(results, arguments.labels, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
