"""The documented names of `fastrl.toolkit.utils.config`."""

from fastrl.toolkit.utils.config import DEFAULTS, Config

__all__ = ["Config", "DEFAULTS"]
