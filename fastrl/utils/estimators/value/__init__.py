"""Targets for the value function."""

from fastrl.utils.estimators.value.estimators import CompleteReturn, FromAdvantage, TDTarget

__all__ = ["CompleteReturn", "FromAdvantage", "TDTarget"]
