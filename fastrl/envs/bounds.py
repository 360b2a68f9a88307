"""Bounds of a box, as they are meant."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


def own_bounds(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of a box of floats, [*shape] each, in its own dtype.

    A bound that is the largest (or, below, the smallest positive) number of the box's dtype stands for no bound: some environments give
    C++'s `numeric_limits::min()` where they mean none.
    """
    low, high = space.low.copy(), space.high.copy()
    limits: Any = np.finfo(np.dtype(space.dtype).name)
    low[(low == limits.tiny) | (low <= limits.min)] = -np.inf
    high[high >= limits.max] = np.inf
    return low, high


def box_bounds(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of a box, float32 [*shape] each; of a box of floats those of `own_bounds`."""
    low, high = own_bounds(space) if np.dtype(space.dtype).kind == "f" else (space.low, space.high)
    return low.astype(np.float32), high.astype(np.float32)


def inward_float32(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds as float32, rounded inwards: what lies between them lies between the given ones too."""
    lowest, highest = low.astype(np.float32), high.astype(np.float32)
    lowest = np.where(lowest < low, np.nextafter(lowest, np.float32(np.inf)), lowest)
    highest = np.where(highest > high, np.nextafter(highest, np.float32(-np.inf)), highest)
    return lowest, np.maximum(lowest, highest)  # equal bounds that float32 does not have stay equal
