"""The documented names of `fastrl.toolkit.batchers`."""

from fastrl.toolkit.batchers import Batch, RolloutBatcher

__all__ = ["Batch", "RolloutBatcher"]
