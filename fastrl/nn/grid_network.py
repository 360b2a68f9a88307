"""A network over grids of symbols of any size: a vector for each symbol, then convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.image_networks import geometry
from fastrl.nn.layers import layer_init
from fastrl.observation_spec import ObservationSpec

FEATURES = 16  # of a cell, the sum over its attributes
CHANNELS = (32, 64)
STRIDES = 9  # cells on a side from which the second convolution takes every other cell


class GridNetwork(nn.Module):
    """A vector for each symbol of each attribute, summed over the attributes of a cell, then convolutions.

    Two convolutions of 3 × 3 with a ReLU behind each; on sides of at least 9 cells the second has stride 2.

    Args:
        spec: bytes [X, Y, attributes], [attributes, X, Y] or [X, Y].

    Raises:
        SettingError: the observations are no bytes, or have other axes.
    """

    offsets: Tensor

    def __init__(self, spec: ObservationSpec) -> None:
        super().__init__()
        if spec.dtype != torch.uint8 or len(spec.shape) not in (2, 3):
            raise SettingError(
                f"network must not be grid for {spec.described}: a grid of symbols is bytes with two or "
                "three axes"
            )
        attributes, rows, columns, self.order = geometry(spec.shape)
        self.sizes, self.symbols = (attributes, rows, columns), spec.symbols
        self.table = nn.Embedding(attributes * spec.symbols, FEATURES)
        nn.init.normal_(self.table.weight, std=attributes**-0.5)
        shift = spec.symbols * torch.arange(attributes)
        self.register_buffer("offsets", shift.view(1, 1, attributes), persistent=False)
        stride = 2 if min(rows, columns) >= STRIDES else 1
        self.convolutions = nn.Sequential(
            layer_init(nn.Conv2d(FEATURES, CHANNELS[0], 3, padding=1)),
            nn.ReLU(),
            layer_init(nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, stride=stride, padding=1)),
            nn.ReLU(),
        )
        self.width = CHANNELS[1] * -(-rows // stride) * -(-columns // stride)

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *shape] uint8 to [B, width]."""
        attributes, rows, columns = self.sizes
        symbols = obs.permute(self.order).reshape(-1, attributes, rows * columns).transpose(1, 2)
        # a larger one than declared counts as the largest
        index = symbols.clamp(max=self.symbols - 1).long() + self.offsets
        cells = nn.functional.embedding_bag(index.flatten(0, 1), self.table.weight, mode="sum")
        # a cell's numbers side by side are channels-last memory already
        field = cells.view(-1, rows, columns, FEATURES).permute(0, 3, 1, 2)
        return self.convolutions(field).permute(0, 2, 3, 1).flatten(1)
