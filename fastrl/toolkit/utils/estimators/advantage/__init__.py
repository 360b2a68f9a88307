"""Estimators of the advantage."""

from fastrl.toolkit.utils.estimators.advantage.direct import DAE
from fastrl.toolkit.utils.estimators.advantage.estimators import GAE, TD, Baseline, CompleteReturn

__all__ = ["DAE", "GAE", "TD", "Baseline", "CompleteReturn"]
