"""Learning curves of several results of `scoreboard.py` in one picture: each seed's curve, and the mean over
seeds of each result.

python bench/learning/compare.py retrace.json one-step.json --labels "Retrace" "one step" --out both.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from curves import Curves, draw  # noqa: E402
from results import bootstrap  # noqa: E402


def group(result: dict[str, Any], label: str) -> Curves:
    """A result's curves; the legend gives the mean of the last evaluations and its bootstrap interval, as the
    scoreboard does."""
    low, high = bootstrap(result["final_returns"])
    legend = f"{label}: {result['final_return_mean']:.4g} [{low:.4g}, {high:.4g}], {result['seeds']} seeds"
    return Curves([(curve["env_steps"], curve["return_mean"]) for curve in result["curves"]], legend)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", type=Path, nargs="+", help="JSON files that scoreboard.py wrote, of one environment"
    )
    parser.add_argument("--labels", nargs="+", required=True, help="a name for each")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    arguments = parser.parse_args()
    results = [json.loads(path.read_text()) for path in arguments.results]
    if len(arguments.labels) != len(results):
        parser.error(f"there are {len(results)} results and {len(arguments.labels)} labels")
    if len({result["env_id"] for result in results}) > 1:
        parser.error(
            "the results are of several environments: " + ", ".join(result["env_id"] for result in results)
        )
    groups = [group(result, label) for result, label in zip(results, arguments.labels, strict=True)]
    algorithms = ", ".join(dict.fromkeys(result["algorithm"] for result in results))
    draw(groups, f"{algorithms} on {results[0]['env_id']}", arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
