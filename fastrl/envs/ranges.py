"""Smallest and largest values seen, and whether they leave what a space declares."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-4  # of a bound, or of 1: what float32 may do to a value that lies on it
LARGE_NUMBER = 1e4  # a network that gets larger ones as they are learns badly


class Ranges:
    """Smallest and largest of each number of an array that comes again and again."""

    def __init__(self) -> None:
        self.rows = 0
        self.low = self.high = np.empty(0)

    def see(self, batch: np.ndarray) -> None:
        """Count rows [N, ...], N ≥ 1."""
        low, high = batch.min(axis=0), batch.max(axis=0)
        if self.rows:
            low, high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.low, self.high, self.rows = low, high, self.rows + len(batch)

    def outside(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Flat indices of the numbers that were outside bounds of the same shape."""
        below = self.low.astype(np.float64) < low - ROUNDING * np.maximum(1, np.abs(low))
        above = self.high.astype(np.float64) > high + ROUNDING * np.maximum(1, np.abs(high))
        return np.flatnonzero(below | above)

    def span(self, index: int) -> tuple[float, float]:
        """Smallest and largest of the number at a flat index."""
        return float(np.ravel(self.low)[index]), float(np.ravel(self.high)[index])

    def largest(self) -> int:
        """Flat index of the number with the largest absolute value."""
        return int(
            np.argmax(np.maximum(np.abs(self.low.astype(np.float64)), np.abs(self.high.astype(np.float64))))
        )

    @property
    def smallest_value(self) -> float:
        """Of all numbers."""
        return float(self.low.min())

    @property
    def largest_value(self) -> float:
        """Of all numbers."""
        return float(self.high.max())

    @property
    def constant(self) -> int:
        """How many of the numbers never changed."""
        return int(np.count_nonzero(self.low == self.high))
