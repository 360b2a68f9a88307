"""Convolutions over images: the Nature network, and the residual network of IMPALA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl.errors import SettingError
from fastrl.nn.layers import layer_init
from fastrl.observation_spec import SMALLEST_SIDE, ObservationSpec

NATURE_CHANNELS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # channels, side of the kernel, stride
IMPALA_CHANNELS = (16, 32, 32)


class Geometry(NamedTuple):
    """How an image is laid out.

    Args:
        channels: colours times stacked frames.
        height, width: in pixels.
        order: the axes of a batch [B, *shape] in the order frames (where there are any), channels, height,
            width.
    """

    channels: int
    height: int
    width: int
    order: tuple[int, ...]


def geometry(shape: Sequence[int]) -> Geometry:
    """The layout of images of this shape.

    [height, width]; [channels, height, width] or [height, width, channels], the smaller of the outer axes
    being the channels; or [frames, ...] of these. Frames of grey pictures may stand where the channels are.

    Raises:
        SettingError: another number of axes.
    """
    if len(shape) == 2:
        return Geometry(1, shape[0], shape[1], (0, 1, 2))
    if len(shape) == 3:
        if shape[2] <= shape[0]:
            return Geometry(shape[2], shape[0], shape[1], (0, 3, 1, 2))
        return Geometry(shape[0], shape[1], shape[2], (0, 1, 2, 3))
    if len(shape) == 4:
        channels, height, width, order = geometry(shape[1:])
        moved = (0, 1, *(axis + 1 for axis in order[1:]))
        return Geometry(shape[0] * channels, height, width, moved)
    raise SettingError(f"network must be mlp for observations {list(shape)}: images have two to four axes")


def pixels(obs: Tensor, layout: Geometry) -> Tensor:
    """Images [B, *shape] as float32 [B, channels, height, width] in channels-last memory; bytes over 255.

    Convolutions on a CPU are faster in that memory.
    """
    picture = obs.permute(layout.order).reshape(-1, layout.channels, layout.height, layout.width)
    picture = picture.contiguous(memory_format=torch.channels_last)
    return picture.float() / 255 if obs.dtype == torch.uint8 else picture.float()


def nature_convolutions(channels: int) -> list[nn.Module]:
    """Three convolutions with a ReLU behind each, orthogonal with gain √2.

    Reference: Mnih et al. 2015, "Human-level control through deep reinforcement learning".
    """
    layers: list[nn.Module] = []
    for count, kernel, stride in NATURE_CHANNELS:
        layers += [layer_init(nn.Conv2d(channels, count, kernel, stride=stride)), nn.ReLU()]
        channels = count
    return layers


class ImageNetwork(nn.Module):
    """Convolutions over images [B, *shape] to features [B, width].

    Args:
        spec: of the images.
        convolutions: channels to a module from [B, channels, height, width] to [B, C, h, w].
    """

    def __init__(self, spec: ObservationSpec, convolutions: nn.Module) -> None:
        super().__init__()
        self.geometry = geometry(spec.shape)
        self.convolutions = convolutions
        with torch.no_grad():
            self.width = self(torch.zeros(1, *spec.shape, dtype=spec.dtype)).shape[1]

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *shape] to [B, width]."""
        features = self.convolutions(pixels(obs, self.geometry))
        return features.permute(0, 2, 3, 1).flatten(1)  # in the order of its memory, without a copy


class NatureNetwork(ImageNetwork):
    """Three convolutions, see `nature_convolutions`.

    Raises:
        SettingError: the image is too small for them.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        channels, height, width, _ = geometry(spec.shape)
        if min(height, width) < SMALLEST_SIDE:
            raise SettingError(
                f"network must be impala for images of {height} × {width} pixels, or grid where they are "
                f"symbols: the convolutions of cnn need {SMALLEST_SIDE} × {SMALLEST_SIDE}"
            )
        super().__init__(spec, nn.Sequential(*nature_convolutions(channels)))


class ImpalaNetwork(ImageNetwork):
    """A residual network over images of any size.

    Three times a convolution, a maximum over 3 × 3 at stride 2, and two residual blocks.

    Reference: Espeholt et al. 2018, "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
        Actor-Learner Architectures".
    """

    def __init__(self, spec: ObservationSpec) -> None:
        channels, layers = geometry(spec.shape).channels, []
        for count in IMPALA_CHANNELS:
            layers += [
                layer_init(nn.Conv2d(channels, count, 3, padding=1), 1.0),
                nn.MaxPool2d(3, stride=2, padding=1),
                ResidualBlock(count),
                ResidualBlock(count),
            ]
            channels = count
        super().__init__(spec, nn.Sequential(*layers, nn.ReLU()))


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))) over [B, C, h, w], with kernels of 3 × 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = layer_init(nn.Conv2d(channels, channels, 3, padding=1))
        self.second = layer_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, h, w] to the same shape."""
        return x + self.second(functional.relu(self.first(functional.relu(x))))
