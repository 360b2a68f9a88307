"""Images as arrays: grey scale, and another size by averages over areas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrl.errors import SettingError

SMALLEST_IMAGE = 16  # pixels on a side; bytes on a smaller field are symbols
LUMA = (299, 587, 114)  # thousandths of red, green and blue in a grey (ITU-R BT.601)


def is_image(shape: Sequence[int], dtype: np.dtype[np.generic]) -> bool:
    """Whether observations of this shape are pixels: bytes with two or three axes, of some size."""
    return dtype == np.uint8 and len(shape) in (2, 3) and sorted(shape)[-2] >= SMALLEST_IMAGE


class ImageSteps:
    """Images [N, H, W], [N, H, W, C] or [N, C, H, W] to [N, C, h, w], grey or resized.

    Args:
        shape: of one image; the smaller one of first and last axis is that of the channels.
        grey_scale: weigh red, green and blue to one channel.
        side: h and w; None: as they are.

    Attributes:
        shape: of one image as it comes out.

    Raises:
        SettingError: grey scale is asked for of something that has other channels.
    """

    def __init__(self, shape: Sequence[int], *, grey_scale: bool, side: int | None) -> None:
        self._flat = len(shape) == 2
        self._last = len(shape) == 3 and shape[-1] < shape[0]
        channels, height, width = (1, *shape) if self._flat else shape
        if self._last:
            height, width, channels = shape
        if grey_scale and channels not in (1, 3, 4):
            raise SettingError(
                f"grey_scale is for images with red, green and blue; these have shape {list(shape)}"
            )
        self._grey = grey_scale and channels > 1
        self._rows, self._columns = (
            None if side in (None, size) else area_weights(size, side) for size in (height, width)
        )
        self.shape = (1 if self._grey else channels, side or height, side or width)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """A new array, contiguous."""
        if self._flat:
            images = images[:, None]
        elif self._last:
            images = np.moveaxis(images, -1, 1)
        if self._grey:
            red, green, blue = (images[:, channel].astype(np.uint32) for channel in range(3))
            total = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
            images = ((total + 500) // 1000).astype(np.uint8)[:, None]
        if self._rows is None and self._columns is None:
            return np.array(images, order="C")
        numbers = images.astype(np.float32)
        if self._rows is not None:
            numbers = self._rows @ numbers
        if self._columns is not None:
            numbers = numbers @ self._columns.T
        return np.rint(numbers).clip(0, 255).astype(np.uint8)


def area_weights(size: int, target: int) -> np.ndarray:
    """What each of `size` pixels counts in each of `target` ones that cover the same line, [target, size].

    The share of the new pixel that the old one covers, so that every row has the sum 1.
    """
    edges = np.arange(target + 1) * (size / target)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (overlap.clip(0.0) * (target / size)).astype(np.float32)
