"""Others' functions for what `batched_index_select` computes; in the form of `gae_peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]


def gather(inputs: dict[str, Any]) -> Call:
    """torch.gather with the index spread over the axes that it is the same for: the published way."""
    given, dim, index = inputs["input"], inputs["dim"], inputs["index"]
    views = [given.shape[0], *[1] * (given.dim() - 1)]
    views[dim] = -1
    sizes = list(given.shape)
    sizes[dim] = index.shape[1]
    return lambda: given.gather(dim, index.view(views).expand(sizes))


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {"torch.gather": gather}
GPU_PEERS = ("torch.gather",)
