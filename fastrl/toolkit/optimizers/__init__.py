"""How models learn from a batch: epochs, mini-batches, one optimiser for each model or one for several."""

from fastrl.toolkit.optimizers.base_opt import BaseOpt
from fastrl.toolkit.optimizers.opts import JointOpt, ListOpt, SingleOpt

__all__ = ["BaseOpt", "JointOpt", "ListOpt", "SingleOpt"]
