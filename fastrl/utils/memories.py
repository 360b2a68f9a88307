"""The documented names of `fastrl.toolkit.utils.memories`."""

from fastrl.toolkit.utils.memories import DefaultMemory, SimpleMemory

__all__ = ["DefaultMemory", "SimpleMemory"]
