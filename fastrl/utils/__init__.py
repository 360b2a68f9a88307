"""The documented names of `fastrl.toolkit.utils`."""

from fastrl.toolkit.utils import Config, DefaultMemory, Logger, SimpleMemory

__all__ = ["Config", "DefaultMemory", "Logger", "SimpleMemory"]
