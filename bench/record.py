"""Dated result files: what was measured, on which machine, with which torch and which commit. One form for
every bench."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
MEASURED = (
    "csrc",
    "fastrl",
    "CMakeLists.txt",
    "setup.py",
)  # what is measured is built from these; benches and documents may differ


def provenance() -> dict[str, Any]:
    """Date, machine, torch and commit of a measurement that has just ended."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "gpu": gpu_name(),
            "python": platform.python_version(),
            "load_average": load_average(),
        },
        "torch": torch.__version__,
        "commit": commit(),
    }


def write_result(name: str, results: dict[str, Any]) -> Path:
    """Write `results` with their provenance to bench/results/<date>-<name>.json; a commit among the results
    is the one that is written."""
    RESULTS.mkdir(exist_ok=True)
    record = provenance() | results
    path = RESULTS / f"{record['date']}-{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def processor_name() -> str:
    """What the operating system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def gpu_name() -> str | None:
    """The first GPU, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def load_average() -> float | None:
    """Processes that wanted a core over the last five minutes: above the bench's own threads, something else
    was running too."""
    return os.getloadavg()[1] if hasattr(os, "getloadavg") else None


def commit(root: Path = ROOT) -> str:
    """The commit that is checked out, with a + when what is measured differs from it; "unknown" outside a
    checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=root, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *MEASURED)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
