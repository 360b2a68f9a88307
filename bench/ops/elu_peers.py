"""Others' functions for what `elu` computes; in the form of `gae_peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import functional

Call = Callable[[], Any]


def torch_elu(inputs: dict[str, Any]) -> Call:
    """torch's own."""
    return lambda: functional.elu(inputs["x"])


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {"torch.elu": torch_elu}
GPU_PEERS = ("torch.elu",)
