"""The entries of an observation space: what each is, how it becomes numbers, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.bounds import box_bounds
from fastrl.envs.failures import ObservationFault
from fastrl.observation_spec import MOST_SYMBOLS, Entry, kind_of

Path = tuple[str | int, ...]
NUMBERS = "biuf"  # kinds of numpy dtypes that are numbers: flags, whole numbers, floats


@dataclass(frozen=True)
class Leaf:
    """One entry of an observation: where it is, what it is, and how many float32 numbers it takes.

    Args:
        path: keys from the whole observation down to the entry.
        kind: "box" (any array of numbers), "choices" (integers, each encoded one-hot).
        shape: shape of the entry in one environment.
        size: float32 numbers of the encoded entry.
        image: whether it is an image: uint8 with two axes or more, or anything with three or more.
        dtype: the entry's own dtype.
        nvec, start: numbers of choices, and the number of the first choice.
        low, high: bounds of a box, float32; None for anything else, which is encoded as 0 and 1.
    """

    path: Path
    kind: Literal["box", "choices"]
    shape: tuple[int, ...]
    size: int
    image: bool
    dtype: np.dtype[Any]
    nvec: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    low: np.ndarray | None = field(default=None, compare=False)
    high: np.ndarray | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))

    @property
    def called(self) -> str:
        """How messages call it: the key, or the whole observation."""
        return f"observation {self.name!r}" if self.path else "the observation"

    @property
    def described(self) -> str:
        """Kind and shape in words: `an image, bytes [84, 84, 3]`, `float32 [4]`, `5 choices`."""
        if self.kind == "choices":
            return " and ".join(map(str, self.nvec)) + " choices"
        numbers = "bytes" if self.dtype == np.uint8 else self.dtype.name
        return f"{'an image, ' if self.image else ''}{numbers} {list(self.shape)}"

    @cached_property
    def scaled(self) -> bool:
        """Whether it is bytes from 0 to 255: they are divided by 255 where they become float32."""
        return (
            self.dtype == np.uint8
            and self.low is not None
            and not self.low.any()
            and bool(np.all(self.high == 255))
        )

    @property
    def symbols(self) -> int:
        """Numbers that a byte may be, by the declared bounds."""
        if self.dtype != np.uint8 or self.high is None or not self.high.size:
            return MOST_SYMBOLS
        return int(self.high.max()) + 1

    def packed_as(self) -> Entry:
        """The entry in a row with others; its place is not known yet."""
        torch_dtype = torch.uint8 if self.dtype == np.uint8 else torch.float32
        kind = kind_of(self.shape, torch_dtype, self.symbols) if self.kind == "box" else "vector"
        if kind == "vector":
            return Entry(self.name, kind, (self.size,), torch.float32)
        return Entry(self.name, kind, self.shape, torch_dtype, self.symbols)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest encoded value, [*shape] of a box, [size] of choices."""
        low, high = self.declared_bounds()
        return (low / 255, high / 255) if self.scaled else (low, high)

    def declared_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The same before bytes are scaled."""
        if self.low is None or self.high is None:
            shape = self.shape if self.kind == "box" else (self.size,)
            return np.zeros(shape, np.float32), np.ones(shape, np.float32)
        return self.low, self.high

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Values [N, *shape] of N environments as float32 [N, size].

        Raises:
            ObservationFault: a choice that the space does not have, or no numbers of the declared kind.
        """
        if self.kind == "choices":
            return self._one_hot(batch)
        numbers = self.checked(batch).reshape(len(batch), self.size).astype(np.float32, copy=False)
        return numbers / np.float32(255) if self.scaled else numbers

    def shaped(self, batch: np.ndarray) -> np.ndarray:
        """The same values [N, *shape]; axes of one number may come and go.

        Raises:
            ObservationFault: another shape, whose numbers would land elsewhere in the flattened observation.
        """
        got = batch.shape[1:]
        if got != self.shape and [n for n in got if n != 1] != [n for n in self.shape if n != 1]:
            raise ObservationFault(
                f"{self.called} has shape {list(got)}, its space declares {list(self.shape)}"
            )
        return batch

    def checked(self, batch: np.ndarray) -> np.ndarray:
        """The same values, if casting them to the declared dtype can be meant.

        Raises:
            ObservationFault: no numbers; or floats, or whole numbers out of range, where bytes are declared:
                a cast would lose them.
        """
        if batch.dtype == self.dtype:
            return batch
        if batch.dtype.kind not in NUMBERS:
            raise ObservationFault(
                f"{self.called} is {batch.dtype}, its space declares {self.dtype} {list(self.shape)}"
            )
        if self.dtype == np.uint8:
            self._require_bytes(batch)
        return batch

    def _require_bytes(self, batch: np.ndarray) -> None:
        if batch.dtype.kind == "f":
            raise ObservationFault(
                f"{self.called} is {batch.dtype}, but its space declares bytes, which would cut off the "
                "fractions: declare "
                f"Box(0.0, 1.0, {self.shape}, np.float32), or whatever its range is, or return np.uint8 "
                "from 0 to 255"
            )
        rows = batch.reshape(len(batch), -1)
        wrong = (rows < 0) | (rows > 255)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise ObservationFault(
                f"{self.called} has {rows[row, column]}, but its space declares bytes, 0 to 255", row
            )

    @cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per branch: number of the first choice, how many choices, and the column of the first one."""
        return (
            np.asarray(self.start, np.int64),
            np.asarray(self.nvec, np.uint64),
            np.cumsum((0, *self.nvec[:-1])),
        )

    def _one_hot(self, batch: np.ndarray) -> np.ndarray:
        start, count, first = self._columns
        given = batch.reshape(len(batch), len(self.nvec))
        choices = given.astype(np.int64) - start if given.dtype.kind in "iub" else self._whole(given) - start
        wrong = choices.view(np.uint64) >= count  # a negative number is a huge one here
        if np.count_nonzero(wrong):  # would be another choice's column, or another entry's
            row, branch = (int(i) for i in np.argwhere(wrong)[0])
            which = "" if len(self.nvec) == 1 else f" in place {branch}"
            low, high = self.start[branch], self.start[branch] + self.nvec[branch] - 1
            raise ObservationFault(
                f"{self.called} is {given[row, branch]}{which}, but its space declares choices from {low} "
                f"to {high}",
                row,
            )
        encoded = np.zeros((len(batch), self.size), np.float32)
        np.put_along_axis(encoded, choices + first, 1.0, axis=1)
        return encoded

    def _whole(self, given: np.ndarray) -> np.ndarray:
        """Floats that are whole numbers as int64."""
        if given.dtype.kind == "f" and np.array_equal(given, np.floor(given)) and np.isfinite(given).all():
            return given.astype(np.int64)
        raise ObservationFault(
            f"{self.called} is {given.ravel()[0]!r} ({given.dtype}), but its space declares choices, whole "
            "numbers"
        )


def entries(space: gym.Space[Any], path: Path = ()) -> Iterator[Leaf | Path]:
    """Entries of a space in alphabetical order of keys; the path alone for one that has no numeric form."""
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces, key=str):
            yield from entries(space.spaces[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from entries(part, (*path, index))
    elif isinstance(space, spaces.Box):
        shape, dtype = tuple(space.shape), np.dtype(space.dtype)
        image = (dtype == np.uint8 and len(shape) >= 2) or len(shape) >= 3
        low, high = box_bounds(space)
        yield Leaf(path, "box", shape, int(np.prod(shape)), image, dtype, low=low, high=high)
    elif isinstance(space, spaces.MultiBinary):
        shape = tuple(space.shape)
        yield Leaf(path, "box", shape, int(np.prod(shape)), len(shape) >= 3, np.dtype(np.int8))
    elif isinstance(space, spaces.Discrete):
        n = int(space.n)
        yield Leaf(path, "choices", (), n, False, np.dtype(np.int64), (n,), (int(space.start),))
    elif isinstance(space, spaces.MultiDiscrete):
        nvec = tuple(int(n) for n in np.ravel(space.nvec))
        start = tuple(int(s) for s in np.ravel(space.start))
        yield Leaf(path, "choices", tuple(space.shape), sum(nvec), False, np.dtype(np.int64), nvec, start)
    else:
        yield path
