"""Freed memory is kept for the next allocation, not given back to the system in between.

Training takes and frees the same blocks thousands of times a second.

Fresh memory is zeroed and mapped page by page: in MPO's update, which passes over some 30 MB of intermediate
results, that was seen to take a fifth to a third of the time.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
KEPT = 1 << 28  # bytes at the end of the heap that stay when they are free
SMALLEST_MAPPED = 1 << 17  # bytes: glibc's own threshold to start from
LARGEST_ON_HEAP = 1 << 25  # bytes of a block that still comes from the heap: the most that glibc accepts
IS_MAPPED = 2  # the bit of the word before a block that says that it was mapped for itself
ENVIRONMENT = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@dataclass(frozen=True)
class Thresholds:
    """When glibc hands freed memory back to the system.

    Args:
        mapped: bytes from which on a block is mapped for itself, and unmapped when it is freed.
        kept: bytes at the end of the heap that stay when they are free.
    """

    mapped: int
    kept: int


@dataclass(frozen=True)
class _Block:
    """A block of memory, and whether it is mapped for itself."""

    size: int
    address: int
    is_mapped: bool


_latest: Thresholds | None = None  # set by this module; glibc adjusts nothing from then on


def keep_freed_memory() -> Thresholds | None:
    """Let the C library keep up to 256 MB of freed memory for this process; larger blocks still go back.

    Returns:
        The thresholds to put back; None where the user has set the allocator up (one of `ENVIRONMENT`), or it
        is not glibc's: it is left alone then.
    """
    return replace_thresholds(Thresholds(LARGEST_ON_HEAP, KEPT))


def replace_thresholds(wanted: Thresholds) -> Thresholds | None:
    """Set the C library's thresholds, which ends its own adjusting of them.

    Free memory beyond them goes back at once.

    Returns:
        Those that were found: what this function set last, or glibc's own to within a factor of two; None
            where nothing was done, see
        `keep_freed_memory`.
    """
    global _latest
    libc = _glibc()
    if libc is None:
        return None
    blocks = [] if _latest else _blocks_until_one_is_not_mapped(libc)
    found = _latest or _own_thresholds(blocks)
    if not (libc.mallopt(MMAP_THRESHOLD, wanted.mapped) and libc.mallopt(TRIM_THRESHOLD, wanted.kept)):
        return None
    _latest = wanted
    for block in blocks:  # only now: freeing a mapped one would have moved the thresholds
        libc.free(block.address)
    libc.malloc_trim(wanted.kept)
    return found


def _glibc() -> ctypes.CDLL | None:
    if any(name in os.environ for name in ENVIRONMENT):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim  # noqa: B018  # AttributeError: another C library
    except (OSError, AttributeError):
        return None
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    libc.malloc_trim.argtypes = (ctypes.c_size_t,)
    return libc


def _own_thresholds(blocks: list[_Block]) -> Thresholds:
    """Those that glibc has adjusted itself to: it then keeps twice as much as it maps."""
    mapped = min((block.size for block in blocks if block.is_mapped), default=LARGEST_ON_HEAP)
    return Thresholds(mapped, mapped if mapped <= SMALLEST_MAPPED else 2 * mapped)


def _blocks_until_one_is_not_mapped(libc: ctypes.CDLL) -> list[_Block]:
    """Fresh blocks, each half as large as the one before; nothing is written into them, so they take no
    memory.

    glibc tells nobody its thresholds, but the word before a block says where the block came from.
    """
    blocks: list[_Block] = []
    size = LARGEST_ON_HEAP
    libc.malloc_trim(
        0
    )  # what is free at the end of the heap would serve them before a threshold is looked at
    while size >= SMALLEST_MAPPED and (not blocks or blocks[-1].is_mapped):
        address = libc.malloc(size)
        if not address:
            break
        word = ctypes.c_size_t.from_address(address - ctypes.sizeof(ctypes.c_size_t)).value
        blocks.append(_Block(size, address, bool(word & IS_MAPPED)))
        size //= 2
    return blocks
