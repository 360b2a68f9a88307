"""Stores under bench/results how a run of tests ended: for those too large to run every time.

python bench/record_tests.py build/slow.xml slow-tests
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import record


def outcomes(junit: Path) -> list[dict[str, object]]:
    """Each test of a JUnit file with how it ended, why, and its seconds."""
    found: list[dict[str, object]] = []
    for case in ElementTree.parse(junit).iter("testcase"):
        notes = [child for child in case if child.tag in ("skipped", "failure", "error")]
        found.append(
            {
                "test": f"{case.get('classname')}::{case.get('name')}",
                "outcome": notes[0].tag if notes else "passed",
                **({"reason": notes[0].get("message")} if notes else {}),
                "seconds": round(float(case.get("time", 0)), 1),
            }
        )
    return found


if __name__ == "__main__":
    junit, name = Path(sys.argv[1]), sys.argv[2]
    print("written to", record.write_result(name, {"tests": outcomes(junit)}))
