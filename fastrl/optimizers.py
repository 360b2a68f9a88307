"""The documented names of `fastrl.toolkit.optimizers`."""

from fastrl.toolkit.optimizers import BaseOpt, JointOpt, ListOpt, SingleOpt

__all__ = ["BaseOpt", "JointOpt", "ListOpt", "SingleOpt"]
