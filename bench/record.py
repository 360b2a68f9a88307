"""Dated result files: what was measured, on which machine, with which torch and which commit."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def provenance() -> dict[str, Any]:
    """Date, machine, torch and commit of a measurement."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": processor_name(), "cores": os.cpu_count(), "gpu": gpu_name(), "python": platform.python_version()},
        "torch": torch.__version__,
        "commit": commit(),
    }


def write_result(name: str, results: dict[str, Any]) -> Path:
    """Write `results` with their provenance to bench/results/<date>-<name>.json."""
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
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def gpu_name() -> str | None:
    """The first GPU, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def commit() -> str:
    """The commit that is checked out, with a + when the work tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../csrc", "../fastrl")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
