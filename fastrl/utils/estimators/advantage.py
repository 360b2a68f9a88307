"""The documented names of `fastrl.toolkit.utils.estimators.advantage`."""

from fastrl.toolkit.utils.estimators.advantage import DAE, GAE, TD, Baseline, CompleteReturn

__all__ = ["Baseline", "CompleteReturn", "DAE", "GAE", "TD"]
