"""What of the machine this process may use: cores, memory, and how many of anything that is sensible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastrl.errors import SettingError

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time a container has, per period
MEMINFO = Path("/proc/meminfo")
GROUP_LIMIT, GROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
STATM = Path("/proc/self/statm")
SHARE = 0.9  # of the memory that is available; libraries need the rest
FEWEST_MOST_THREADS, THREADS_PER_CORE = 64, 4
MOST_ENVS = 2**20


def available_cores() -> int:
    """Cores that this process may run on: those of its affinity mask, or of its container if it has fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _control_group_cores() or cores))


def _control_group_cores() -> int | None:
    try:
        quota, period = CPU_LIMIT.read_text().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


# -------------------------------------------------------------------------------------------- counts


def require_threads(name: str, value: int | None) -> None:
    """Refuse a number of threads that the system would not start; libraries end the whole process then.

    Args:
        name: the setting, for the message.
        value: threads; None passes.

    Raises:
        SettingError: below 1, or more than 4 for each core (64 are always allowed).
    """
    most = max(FEWEST_MOST_THREADS, THREADS_PER_CORE * available_cores())
    _require_count(name, value, most, f"on this machine with {available_cores()} cores")


def require_envs(num_envs: int) -> None:
    """Refuse a number of environments that is none. Raises: SettingError, below 1 or above 2^20."""
    _require_count("num_envs", num_envs, MOST_ENVS, "environments")


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`; numpy's are, None passes. Raises: SettingError."""
    if value is None:
        return
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise SettingError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise SettingError(f"{name} must be at least {least}, got {value}")


def _require_count(name: str, value: int | None, most: int, where: str) -> None:
    require_whole(name, value)
    if value is not None and value > most:
        raise SettingError(f"{name} must be at most {most:,} {where}, got {value}")


# -------------------------------------------------------------------------------------------- memory


def require_memory(parts: Mapping[str, int], settings: str, *, device: str = "cpu") -> str:
    """What will be taken, in a line to print.

    Args:
        parts: bytes by what they are for ("rollout", "replay", ...).
        settings: what the user can lower, for the message ("num_envs or num_steps").
        device: where the memory will be taken.

    Raises:
        SettingError: it is more than nine tenths of what the machine has available; the message names the
            settings. Nothing was taken.
    """
    wanted, available = sum(parts.values()), available_memory(device)
    line = ", ".join(f"{name} {in_words(size)}" for name, size in parts.items())
    if available is not None and wanted > SHARE * available:
        raise SettingError(
            f"{settings} too large: {line} of memory on {device}, but only {in_words(available)} are "
            "available"
        )
    return line


def available_memory(device: str = "cpu") -> int | None:
    """Bytes that can still be taken, within the limits of container and process; None if unknown."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    known = [size for size in (_machine_memory(), _group_memory(), _address_space()) if size is not None]
    return min(known, default=None)


def in_words(size: int) -> str:
    """Bytes with a unit: `1.5 GB`."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"


def _machine_memory() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _group_memory() -> int | None:
    try:
        limit = GROUP_LIMIT.read_text().strip()
        return None if limit == "max" else max(0, int(limit) - int(GROUP_USE.read_text()))
    except (OSError, ValueError):
        return None


def _address_space() -> int | None:
    """What is left of `ulimit -v`."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        return max(0, limit - int(STATM.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (ImportError, OSError, ValueError):
        return None
