"""The documented names of `fastrl.toolkit.utils.estimators.value`."""

from fastrl.toolkit.utils.estimators.value import CompleteReturn, FromAdvantage, TDTarget

__all__ = ["CompleteReturn", "FromAdvantage", "TDTarget"]
