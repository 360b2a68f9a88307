"""Tools of the policy-gradient toolkit: configurations, networks built from them, memories, the logger,
estimators and small functions."""

from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.logger import Logger
from fastrl.toolkit.utils.memories import DefaultMemory, SimpleMemory

__all__ = ["Config", "DefaultMemory", "Logger", "SimpleMemory"]
