"""Where the toolkit's data comes from: a batcher steps vector environments and returns batches."""

from fastrl.batchers.batch import Batch
from fastrl.batchers.rollout_batcher import RolloutBatcher

__all__ = ["Batch", "RolloutBatcher"]
