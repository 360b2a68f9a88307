"""Attacks the library with everything that people and machines do to it, and counts what held.

    python bench/attack/attack.py                       minutes: every attack with its usual number of calls
    python bench/attack/attack.py --only kills --calls 2000 --seed 3
    python bench/attack/attack.py --times 20 --write    hours; --write stores the counts in bench/results

Each attack is a module with `run(calls, seed)`, which returns counts. Those of `FAILURES` must be 0.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

# how many calls of each take about half a minute
CALLS = {
    "kills": 32,
    "stop_signals": 32,
    "injections": 288,
    "folders": 60,
    "damaged_logs": 500,
    "hostile_states": 400,
    "flags": 300,
    "envpool_options": 60,
}
FAILURES = (
    *(
        "unreadable",
        "unsaved",
        "failed",
        "hung",
        "other_errors",
        "ran_on",
        "bad_checkpoints",
        "escaped",
        "failures",
    ),
    *("traceback", "tracebacks", "changed the trainer", "died"),
)


def attack(name: str, calls: int, seed: int) -> dict[str, Any]:
    """Counts of one attack, and its seconds."""
    begun = time.monotonic()
    counts = importlib.import_module(name).run(calls, seed)
    return {**counts, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    """Attack, print, and say by the exit code whether everything held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=sorted(CALLS), default=list(CALLS), help="which attacks")
    parser.add_argument("--calls", type=int, help="calls of each, in place of the usual number")
    parser.add_argument("--times", type=float, default=1.0, help="this many times the usual number of calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="store the counts in bench/results")
    given = parser.parse_args()
    results = {}
    for name in given.only:
        results[name] = attack(name, given.calls or max(1, round(CALLS[name] * given.times)), given.seed)
        print(
            f"{name}: "
            + ", ".join(f"{what} {count}" for what, count in results[name].items() if count != {}),
            flush=True,
        )
    if given.write:
        from record import write_result

        print("written to", write_result("attack", {"seed": given.seed, "attacks": results}))
    broken = {
        name: bad
        for name, counts in results.items()
        if (bad := {what: counts[what] for what in FAILURES if counts.get(what)})
    }
    print("everything held" if not broken else f"NOT HELD: {broken}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
