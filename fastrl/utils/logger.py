"""The documented names of `fastrl.toolkit.utils.logger`."""

from fastrl.toolkit.utils.logger import Logger

__all__ = ["Logger"]
