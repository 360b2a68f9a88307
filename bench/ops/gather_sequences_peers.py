"""Others' ways to what `gather_sequences` copies; in the form of `gae_peers`. Each gives the first field and
copies all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]


def flattened(inputs: dict[str, Any]) -> tuple[list[Tensor], Tensor]:
    """The fields with ring positions and streams in one dimension, and the windows' rows in it."""
    fields, start, env = inputs["fields"], inputs["start"], inputs["env"]
    capacity, num_envs = fields[0].shape[:2]
    positions = (start + torch.arange(inputs["seq_len"], device=start.device)[:, None]) % capacity
    return [field.flatten(0, 1) for field in fields], (positions * num_envs + env).flatten()


def index_select(inputs: dict[str, Any]) -> Call:
    """torch.index_select for each field, the flat index ready."""
    fields, rows = flattened(inputs)
    shapes = [(inputs["seq_len"], inputs["start"].shape[0], *field.shape[1:]) for field in fields]
    return lambda: [
        torch.index_select(field, 0, rows).view(shape) for field, shape in zip(fields, shapes, strict=True)
    ][0]


def torchrl(inputs: dict[str, Any]) -> Call:
    """TorchRL's storage of the same fields, indexed by the same flat index."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage

    fields, rows = flattened(inputs)
    storage = LazyTensorStorage(len(fields[0]), device=fields[0].device)
    storage.set(
        range(len(fields[0])),
        TensorDict({str(i): field for i, field in enumerate(fields)}, batch_size=[len(fields[0])]),
    )
    shape = (inputs["seq_len"], inputs["start"].shape[0], *fields[0].shape[1:])
    return lambda: storage.get(rows)["0"].view(shape)


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {
    "torch.index_select, field by field": index_select,
    "torchrl LazyTensorStorage": torchrl,
}
GPU_PEERS = tuple(PEERS)
