"""Others' ways to what `memory_window_gather` computes, without mask and position; in the form of
`gae_peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Call = Callable[[], Any]


def advanced_indexing(inputs: dict[str, Any]) -> Call:
    """memory[episode, index]"""
    memory, episode, index = inputs["memory"], inputs["episode"][:, None], inputs["index"]
    return lambda: memory[episode, index]


def index_select(inputs: dict[str, Any]) -> Call:
    """torch.index_select on the bank flattened to slots, the flat index ready."""
    memory, index = inputs["memory"], inputs["index"]
    slots = memory.shape[1]
    flat, rows = memory.flatten(0, 1).flatten(1), (inputs["episode"][:, None] * slots + index).flatten()
    return lambda: torch.index_select(flat, 0, rows).view(*index.shape, *memory.shape[2:])


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {
    "memory[episode, index]": advanced_indexing,
    "torch.index_select": index_select,
}
GPU_PEERS = tuple(PEERS)
