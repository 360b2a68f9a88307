"""Numbers are looked at once, as they leave the environments, before anything learns from them."""

from __future__ import annotations

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


def all_finite(values: np.ndarray) -> bool:
    """Whether every number is finite, as float32 too."""
    good = np.isfinite(values) if values.itemsize <= 4 else np.abs(values) <= LARGEST
    return np.count_nonzero(good) == values.size


def first_fault(values: np.ndarray, name: str) -> tuple[int, str]:
    """The first number that is not finite.

    Args:
        values: [N, ...], not all of them finite.
        name: of one environment's values.

    Returns:
        (environment, what is there): `(2, "observation[1] is inf")`.
    """
    index = np.argwhere(~(np.abs(values) <= LARGEST))[0].tolist()
    value = float(values[tuple(index)])
    entry = f"{name}{index[1:]}" if index[1:] else "it"
    return index[0], f"{entry} is {value:g}{', too large for float32' if np.isfinite(value) else ''}"
