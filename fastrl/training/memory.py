"""Large memory is spoken of before it is taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fastrl.errors import SettingError

MEMINFO = Path("/proc/meminfo")
GROUP_LIMIT, GROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
SHARE = 0.9  # of what is available; networks and libraries need the rest


def require_memory(parts: Mapping[str, int], settings: str, *, device: str = "cpu") -> str:
    """What will be taken, in a line to print.

    Args:
        parts: bytes by what they are for ("rollout", "replay", ...).
        settings: what the user can lower, for the message ("num_envs or rollout_steps").
        device: where the memory will be taken.

    Raises:
        SettingError: it is more than nine tenths of what the machine has available; the message names the settings. Nothing was taken.
    """
    wanted, available = sum(parts.values()), available_memory(device)
    line = ", ".join(f"{name} {in_words(size)}" for name, size in parts.items())
    if available is not None and wanted > SHARE * available:
        raise SettingError(f"{settings} too large: {line} of memory on {device}, but only {in_words(available)} are available")
    return line


def available_memory(device: str = "cpu") -> int | None:
    """Bytes that can still be taken, within the limit of a container; None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    known = [size for size in (_machine_memory(), _group_memory()) if size is not None]
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
