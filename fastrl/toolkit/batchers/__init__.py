"""Where the toolkit's data comes from: a batcher steps vector environments and returns batches."""

from fastrl.toolkit.batchers.batch import Batch
from fastrl.toolkit.batchers.rollout_batcher import RolloutBatcher

__all__ = ["Batch", "RolloutBatcher"]
