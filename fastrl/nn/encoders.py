"""From an observation to D features and back: vectors, images, and grids of symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl.errors import SettingError
from fastrl.nn.image_networks import nature_convolutions
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.torsos import BY_KIND, initialise, make_front
from fastrl.observation_spec import ASSUMED_SYMBOLS, LARGEST_FLAT, MOST_SYMBOLS, ObservationSpec, kind_of

SYMBOLS = ASSUMED_SYMBOLS  # a grid's cells hold numbers below this


def observation_encoder(
    shape: Sequence[int], dtype: torch.dtype, dim: int, *, network: Any = "auto", spec: Any = None
) -> nn.Module:
    """What a policy with memory sees observations through: [B, ...] to float32 [B, dim].

    With "auto", vectors go through a linear layer, images through `ImageEncoder`, small grids through
    `GridEncoder`, each with a ReLU behind it; anything else, and any other network, through `BehindNetwork`.

    Args:
        shape, dtype: of one observation.
        dim: features of the result.
        network: see `fastrl.nn.torsos.make_torso`.
        spec: an `ObservationSpec`, where more is known than shape and dtype.

    Raises:
        SettingError: the network does not fit the observations.
    """
    seen = ObservationSpec(tuple(shape), dtype) if spec is None else spec
    if isinstance(network, str) and network in ("auto", BY_KIND[seen.kind]):
        if seen.kind == "image" and is_image(shape, dtype):
            return ImageEncoder(shape, dim)
        if seen.kind == "grid" and network == "auto" and seen.size <= LARGEST_FLAT:
            return GridEncoder(shape, dim)
        if seen.kind == "vector":
            return VectorEncoder(shape, dim)
    return BehindNetwork(seen, dim, network)


def observation_decoder(shape: Sequence[int], dtype: torch.dtype, dim: int) -> nn.Module:
    """Features [B, dim] to observations [B, *shape], the counterpart of `observation_encoder`.

    For bytes it gives logits of numbers in [0, 1].
    """
    return ImageDecoder(shape, dim) if is_image(shape, dtype) else VectorDecoder(shape, dim)


def reconstruction_loss(decoded: Tensor, obs: Tensor) -> Tensor:
    """Error of a decoder's output against observations [B, *shape], 0-d: the mean over rows and entries.

    Binary cross-entropy for bytes, as parts of their range; squared error for other numbers.
    """
    if obs.dtype != torch.uint8:
        return functional.mse_loss(decoded, obs)
    return functional.binary_cross_entropy_with_logits(decoded, in_unit_range(obs))


def in_unit_range(obs: Tensor) -> Tensor:
    """Bytes [B, *shape] as float32 in [0, 1]: pixels over 255, symbols over the largest symbol."""
    return (obs.float() / byte_range(obs.shape[1:])).clamp(max=1.0)


def byte_range(shape: Sequence[int]) -> int:
    """What bytes of observations of this shape are divided by, see `ObservationSpec.divisor`."""
    return ObservationSpec(tuple(shape), torch.uint8).divisor


def as_vectors(obs: Tensor) -> Tensor:
    """Observations [B, *shape] as float32 [B, features]; bytes are divided by their `byte_range`."""
    rows = obs.flatten(1)
    return rows.float() / byte_range(obs.shape[1:]) if obs.dtype == torch.uint8 else rows.float()


def is_image(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether observations are pixels for `ImageEncoder`: bytes with three axes, large enough to convolve."""
    return dtype == torch.uint8 and len(shape) == 3 and kind_of(shape, dtype) == "image"


def require_symbols(obs: Tensor, spec: ObservationSpec, name: str) -> None:
    """Raise where small pictures are taken for grids of symbols because nobody said what they are.

    Args:
        obs: observations [..., *shape].
        spec: what they are taken for.
        name: of the environments, for the message.

    Raises:
        SettingError: they are taken for a grid that declares bytes from 0 to 255, but an entry is no symbol.
    """
    if spec.kind != "grid" or spec.symbols != MOST_SYMBOLS:
        return
    largest = int(obs.max())
    if largest >= SYMBOLS:
        raise SettingError(
            f"observations of {name}, {spec.described}, are taken for a grid of symbols below {SYMBOLS}, "
            f"but one is {largest}; set network to impala where they are small pictures, to grid where they "
            "are symbols"
        )


class BehindNetwork(nn.Module):
    """A network of the settings, then a linear layer and a ReLU.

    Args:
        spec: of the observations.
        dim: features of the result.
        network: see `fastrl.nn.torsos.make_torso`.
    """

    def __init__(self, spec: ObservationSpec, dim: int, network: Any) -> None:
        super().__init__()
        self.network = make_front(spec, network, (dim,), "relu")
        initialise(self.network)
        self.layer = layer_init(Linear(self.network.width, dim))

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, ...] to [B, dim]."""
        return torch.relu(self.layer(self.network(obs)))


class VectorEncoder(nn.Module):
    """A linear layer and a ReLU over the flattened observation."""

    def __init__(self, shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.layer = layer_init(Linear(_size(shape), dim))

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *shape] to [B, dim]; bytes count as parts of 255."""
        flat = obs.flatten(1)
        return torch.relu(self.layer(flat.float() / 255 if obs.dtype == torch.uint8 else flat.float()))


class GridEncoder(nn.Module):
    """A vector for each symbol in each place, summed, then a ReLU.

    The same as a linear layer over the one-hot grid, which is never built.

    Args:
        shape: [X, Y, attributes], each entry a symbol below 16 (larger ones count as 15).
        dim: features of the result.
    """

    offsets: Tensor

    def __init__(self, shape: Sequence[int], dim: int) -> None:
        super().__init__()
        places = _size(shape)
        self.table = nn.Embedding(places * SYMBOLS, dim)
        nn.init.normal_(self.table.weight, std=places**-0.5)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("offsets", SYMBOLS * torch.arange(places), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, X, Y, attributes] uint8 to [B, dim]."""
        symbols = obs.flatten(1).clamp(max=SYMBOLS - 1).long() + self.offsets
        return torch.relu(functional.embedding_bag(symbols, self.table.weight, mode="sum") + self.bias)


class ImageEncoder(nn.Module):
    """Three convolutions and a linear layer over pixels in [0, 1].

    Args:
        shape: [height, width, channels] or [channels, height, width]; the smaller of the outer axes holds the
            channels.
        dim: features of the result.

    Reference: Mnih et al. 2015, "Human-level control through deep reinforcement learning".
    """

    def __init__(self, shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.channels_last = shape[2] <= shape[0]
        height, width, channels = shape if self.channels_last else (shape[1], shape[2], shape[0])
        self.convolutions = nn.Sequential(*nature_convolutions(channels), nn.Flatten())
        with torch.no_grad():
            features = self.convolutions(torch.zeros(1, channels, height, width)).shape[1]
        self.layer = layer_init(Linear(features, dim))

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *shape] uint8 to [B, dim]."""
        pixels = obs.permute(0, 3, 1, 2) if self.channels_last else obs
        return torch.relu(self.layer(self.convolutions(pixels.float() / 255)))


class VectorDecoder(nn.Module):
    """A linear layer to every entry of the observation."""

    def __init__(self, shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layer = layer_init(Linear(dim, _size(shape)), std=1.0)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, dim] to [B, *shape]."""
        return self.layer(features).view(-1, *self.shape)


class ImageDecoder(nn.Module):
    """The convolutions of `ImageEncoder` reversed: features [B, dim] to logits of pixels [B, *shape]."""

    def __init__(self, shape: Sequence[int], dim: int) -> None:
        super().__init__()
        self.channels_last = shape[2] <= shape[0]
        height, width, channels = shape if self.channels_last else (shape[1], shape[2], shape[0])
        rows, columns = _convolved(height), _convolved(width)
        left_over = list(
            zip((step.left_over for step in rows), (step.left_over for step in columns), strict=True)
        )
        self.start = (64, rows[-1].above, columns[-1].above)
        self.layer = layer_init(Linear(dim, _size(self.start)))
        self.convolutions = nn.Sequential(
            layer_init(nn.ConvTranspose2d(64, 64, 3)),
            nn.ReLU(),
            layer_init(nn.ConvTranspose2d(64, 32, 4, stride=2, output_padding=left_over[1])),
            nn.ReLU(),
            layer_init(nn.ConvTranspose2d(32, channels, 8, stride=4, output_padding=left_over[0]), std=1.0),
        )

    def forward(self, features: Tensor) -> Tensor:
        """features [B, dim] to [B, *shape]."""
        pixels = self.convolutions(torch.relu(self.layer(features)).view(-1, *self.start))
        return pixels.permute(0, 2, 3, 1) if self.channels_last else pixels


class _Convolved(NamedTuple):
    """What a convolution makes of one side: pixels above it, and how many below no kernel reached."""

    above: int
    left_over: int


def _convolved(length: int) -> list[_Convolved]:
    """One side of an image through the convolutions of `ImageEncoder`."""
    steps = []
    for kernel, stride in ((8, 4), (4, 2), (3, 1)):
        above, left_over = (length - kernel) // stride + 1, (length - kernel) % stride
        steps.append(_Convolved(above, left_over))
        length = above
    return steps


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())
