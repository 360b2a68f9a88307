"""Targets for the value function."""

from fastrl.toolkit.utils.estimators.value.estimators import CompleteReturn, FromAdvantage, TDTarget

__all__ = ["CompleteReturn", "FromAdvantage", "TDTarget"]
