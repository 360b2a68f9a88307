"""Bounds of a box, as they are meant."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


def box_bounds(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest values of a box, float32 [*shape] each.

    A bound that is the largest (or, below, the smallest positive) number of the box's dtype stands for no bound: some environments give
    C++'s `numeric_limits::min()` where they mean none.
    """
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if np.dtype(space.dtype).kind == "f":
        limits: Any = np.finfo(np.dtype(space.dtype).name)
        low[(low == limits.tiny) | (low <= limits.min)] = -np.inf
        high[high >= limits.max] = np.inf
    return low.astype(np.float32), high.astype(np.float32)
