"""Estimators of the advantage."""

from fastrl.utils.estimators.advantage.estimators import GAE, TD, Baseline, CompleteReturn

__all__ = ["GAE", "TD", "Baseline", "CompleteReturn"]
