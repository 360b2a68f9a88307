"""Tools of the toolkit: configurations, networks from them, memories, logger, estimators, functions."""

from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.logger import Logger
from fastrl.toolkit.utils.memories import DefaultMemory, SimpleMemory

__all__ = ["Config", "DefaultMemory", "Logger", "SimpleMemory"]
