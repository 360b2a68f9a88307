"""Turns what pytest-benchmark measured into a dated file under bench/results and a table on the screen.

Needs --benchmark-json, as `make bench` gives it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fastrl import native

sys.path.insert(0, str(Path(__file__).resolve().parent))
import record  # noqa: E402


def row_of(bench: dict[str, Any]) -> dict[str, Any]:
    return {
        **bench["extra_info"],
        "median_us": bench["stats"]["median"] * 1e6,
        "min_us": bench["stats"]["min"] * 1e6,
    }


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """How many times as long as fastrl each peer takes at the same op, device and sizes."""
    key = lambda row: (row["op"], row["device"], tuple(row["sizes"]))  # noqa: E731
    ours = {key(row): row["median_us"] for row in rows if row["peer"] == "fastrl"}
    for row in rows:
        if key(row) in ours:
            row["times_fastrl"] = row["median_us"] / ours[key(row)]


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    rows = [row_of(bench) for bench in output_json["benchmarks"] if "peer" in bench["extra_info"]]
    if not rows:
        return
    add_ratios(rows)
    device = rows[0]["device"]
    report = {
        "build": native.build_info(),
        "threads": 1,
        "skipped_peers": sorted(getattr(config, "skipped_peers", set())),
        "rows": rows,
    }
    config.bench_report = (record.write_result(f"ops-{device}", report), report)  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for peer in sorted(getattr(config, "skipped_peers", set())):
        terminalreporter.write_line(f"not compared: {peer}")
    if not (found := getattr(config, "bench_report", None)):
        return
    path, report = found
    terminalreporter.write_line(
        f"{'op':<8}{'device':<7}{'sizes':<14}{'peer':<34}{'median µs':>12}{'× fastrl':>10}"
    )
    for row in sorted(
        report["rows"],
        key=lambda row: (row["op"], row["device"], row["sizes"], row["peer"] != "fastrl", row["median_us"]),
    ):
        sizes = "×".join(map(str, row["sizes"]))
        ratio = f"{row['times_fastrl']:.2f}" if "times_fastrl" in row else ""
        terminalreporter.write_line(
            f"{row['op']:<8}{row['device']:<7}{sizes:<14}{row['peer']:<34}"
            f"{row['median_us']:>12.2f}{ratio:>10}"
        )
        for name, value in row.get("inside", {}).items():
            terminalreporter.write_line(f"{'':<29}  {name:<38}{value:>10.2f}")
    terminalreporter.write_line(f"written to {path.relative_to(record.ROOT)}")
