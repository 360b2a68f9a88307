"""The network of PPO-TrXL, which it shares with every algorithm whose policy remembers."""

from fastrl.memory.trxl_agent import TrXLAgent

__all__ = ["TrXLAgent"]
