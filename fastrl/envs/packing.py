"""Several entries of an observation side by side in one row of bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from fastrl.envs.observation_entries import Leaf
from fastrl.observation_spec import ObservationLayout


class Packing:
    """Writes entries of N environments into rows [N, nbytes].

    Args:
        leaves: the entries of the observation.

    Attributes:
        layout: where they lie in a row.
        float_leaves: those that are float32 there, in the order of the row.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.layout = ObservationLayout.of(leaf.packed_as() for leaf in leaves)
        by_name = {leaf.name: leaf for leaf in leaves}
        self._parts = [(entry, by_name[entry.name]) for entry in self.layout.entries]
        self.float_leaves = [leaf for entry, leaf in self._parts if entry.dtype == torch.float32]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> Packing | None:
        """The packing of several entries that are not vectors alone; None for others."""
        if len(leaves) == 1 or all(leaf.packed_as().kind == "vector" for leaf in leaves):
            return None
        return cls(leaves)

    def rows(self, get: Callable[[Leaf], np.ndarray]) -> np.ndarray:
        """The rows uint8 [N, nbytes] of entries [N, *shape].

        Raises:
            ObservationFault: an entry does not fit its space.
        """
        rows: np.ndarray | None = None
        for entry, leaf in self._parts:
            values = leaf.shaped(get(leaf))
            if entry.dtype == torch.float32:
                encoded = np.ascontiguousarray(leaf.encode(values), np.float32)
            else:
                encoded = np.ascontiguousarray(leaf.checked(values), np.uint8)
            if rows is None:
                rows = np.zeros((len(encoded), self.layout.nbytes), np.uint8)
            place = slice(entry.offset, entry.offset + entry.nbytes)
            rows[:, place] = encoded.reshape(len(encoded), -1).view(np.uint8)
        assert rows is not None
        return rows

    def float_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest values of the float entries, [floats] each."""
        each = [leaf.bounds() for leaf in self.float_leaves]
        if not each:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        low, high = (np.concatenate([np.ravel(pair[side]) for pair in each]) for side in (0, 1))
        return low.astype(np.float32), high.astype(np.float32)
