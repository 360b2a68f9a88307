"""Bounds of a box, as they are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.errors import SettingError


def own_bounds(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a box of floats, [*shape] each, in its own dtype (longer ones than float64 as float64).

    A bound that is the largest (or, below, the smallest positive) number of the box's dtype stands for no
    bound: some environments give C++'s `numeric_limits::min()` where they mean none.
    """
    low, high = space.low.copy(), space.high.copy()
    limits: Any = np.finfo(np.dtype(space.dtype).name)
    low[(low == limits.tiny) | (low <= limits.min)] = -np.inf
    high[high >= limits.max] = np.inf
    return (
        (low, high) if low.itemsize <= 8 else (low.astype(np.float64), high.astype(np.float64))
    )  # torch has none longer


def box_bounds(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of a box, float32 [*shape] each; of a box of floats those of `own_bounds`.

    The first and last of whole numbers of 32 and 64 bits stand for no bound likewise.
    """
    if np.dtype(space.dtype).kind == "f":
        low, high = own_bounds(space)
    else:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if np.dtype(space.dtype).itemsize >= 4:
            ends: Any = np.iinfo(np.dtype(space.dtype).name)
            if ends.min < 0:
                low[space.low == ends.min] = -np.inf
            high[space.high == ends.max] = np.inf
    return low.astype(np.float32), high.astype(np.float32)


def inward_float32(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds as float32, rounded inwards: what lies between them lies between the given ones too."""
    lowest, highest = low.astype(np.float32), high.astype(np.float32)
    lowest = np.where(lowest < low, np.nextafter(lowest, np.float32(np.inf)), lowest)
    highest = np.where(highest > high, np.nextafter(highest, np.float32(-np.inf)), highest)
    return lowest, np.maximum(lowest, highest)  # equal bounds that float32 does not have stay equal


MOST_CHOICES = 2**20  # a policy has an output for each, an observation a number


def require_few_choices(what: str, space: gym.Space[Any], nvec: Sequence[int]) -> None:
    """Refuse whole numbers of which there are too many to have a number each.

    Args:
        what: whose they are, for the message.
        space: the space, a Box of integers for example, which has no bounds where none were given.
        nvec: how many each part can be.

    Raises:
        SettingError: together more than 2^20.
    """
    count = sum(int(n) for n in nvec)
    if count <= MOST_CHOICES:
        return
    bounds = ": give the Box bounds" if isinstance(space, gym.spaces.Box) else ""
    raise SettingError(
        f"{what} are {space}, {count:,} choices where at most {MOST_CHOICES:,} can be told apart{bounds}"
    )
