"""From an observation to D features and back: vectors, images, and grids of symbols."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl.errors import SettingError
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear

SMALLEST_IMAGE = 36  # pixels on a side that three convolutions of 8, 4 and 3 leave something of
LARGEST_GRID = 15  # cells on a side; bytes on a larger field are pixels
SYMBOLS = 16  # a grid's cells hold numbers below this


def observation_encoder(shape: Sequence[int], dtype: torch.dtype, dim: int) -> nn.Module:
    """The encoder for observations of this shape and dtype: [B, *shape] to float32 [B, dim].

    Bytes with three axes are an image, or a grid of symbols if its sides have at most 15 cells (MiniGrid);
    anything else is a vector, with a warning where it looks like a picture or a field.
    """
    if is_image(shape, dtype):
        return ImageEncoder(shape, dim)
    if is_grid(shape, dtype):
        return GridEncoder(shape, dim)
    if _looks_like_a_picture(shape, dtype):
        kind, scale = ("bytes", " over 255") if dtype == torch.uint8 else ("float32", "")
        warnings.warn(
            f"observations, {kind} {list(shape)}, go into a linear layer as a vector of {_size(shape):,} "
            f"numbers{scale}: an image is bytes "
            f"with three axes and sides of at least {SMALLEST_IMAGE} pixels, a grid of symbols is bytes "
            "with three axes and sides of at "
            f"most {LARGEST_GRID} cells",
            stacklevel=3,
        )
    return VectorEncoder(shape, dim)


def _looks_like_a_picture(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether neighbours mean something: bytes with axes, or a large field of other numbers."""
    return len(shape) >= 2 if dtype == torch.uint8 else len(shape) == 3 and sorted(shape)[1] > LARGEST_GRID


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
    """What bytes of observations of this shape are divided by: the largest symbol of a grid, else 255."""
    return SYMBOLS - 1 if is_grid(shape, torch.uint8) else 255


def as_vectors(obs: Tensor) -> Tensor:
    """Observations [B, *shape] as float32 [B, features]; bytes are divided by their `byte_range`."""
    rows = obs.flatten(1)
    return rows.float() / byte_range(obs.shape[1:]) if obs.dtype == torch.uint8 else rows.float()


def is_image(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether observations are pixels: bytes with three axes, large enough to be convolved."""
    return dtype == torch.uint8 and len(shape) == 3 and sorted(shape)[1] >= SMALLEST_IMAGE


def is_grid(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether observations are a small field of symbols: bytes [X, Y, attributes]."""
    return dtype == torch.uint8 and len(shape) == 3 and max(shape) <= LARGEST_GRID


def require_symbols(obs: Tensor, shape: Sequence[int], name: str) -> None:
    """Raise where small pictures are taken for grids.

    A `GridEncoder` could not tell one bright pixel from another.

    Args:
        obs: observations [..., *shape].
        shape: of one observation.
        name: of the environments, for the message.

    Raises:
        SettingError: `shape` is a grid's, but an entry is no symbol.
    """
    if not is_grid(shape, obs.dtype):
        return
    largest = int(obs.max())
    if largest >= SYMBOLS:
        raise SettingError(
            f"observations of {name}, bytes {list(shape)}, are taken for a grid of symbols below {SYMBOLS}, "
            f"but one is {largest}; "
            f"give small pictures as float32, or enlarged to sides of at least {SMALLEST_IMAGE} pixels"
        )


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
        self.convolutions = nn.Sequential(
            layer_init(nn.Conv2d(channels, 32, 8, stride=4)),
            nn.ReLU(),
            layer_init(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            layer_init(nn.Conv2d(64, 64, 3)),
            nn.ReLU(),
            nn.Flatten(),
        )
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
