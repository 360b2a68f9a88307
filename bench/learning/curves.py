"""Learning curves of several seeds in one picture; for scoreboard.py and compare.py."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Curves(NamedTuple):
    """One (environment steps, evaluation returns) for each seed, and what the legend says of them; none
    without a label."""

    seeds: list[tuple[list[int], list[float]]]
    label: str | None = None


def draw(groups: list[Curves], title: str, path: Path) -> None:
    """Each seed's evaluation curve thinly, and the mean over the seeds of each group."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), dpi=110)
    for number, (seeds, label) in enumerate(groups):
        for steps, returns in seeds:
            axes.plot(steps, returns, color=f"C{number}", alpha=0.3, linewidth=1)
        grid = np.linspace(max(steps[0] for steps, _ in seeds), min(steps[-1] for steps, _ in seeds), 50)
        axes.plot(
            grid,
            np.mean([np.interp(grid, *curve) for curve in seeds], axis=0),
            color=f"C{number}",
            linewidth=2,
            label=label,
        )
    axes.set(title=title, xlabel="environment steps", ylabel="evaluation return, 20 episodes")
    if any(group.label for group in groups):
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
