"""What of the machine this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time a container has, per period


def available_cores() -> int:
    """Cores this process may run on: its affinity mask, or fewer if a control group (a container) allows fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _control_group_cores() or cores))


def _control_group_cores() -> int | None:
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
