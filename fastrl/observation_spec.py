"""What observations are: shape, numbers and kind, and how entries of several kinds share one row of bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

KINDS = ("vector", "image", "grid", "mask")
DTYPES = {"float32": torch.float32, "uint8": torch.uint8}
ALIGNMENT = 4  # bytes: what a row begins at, so that its float32 numbers can be read in place
SMALLEST_SIDE = 36  # pixels that the three convolutions of the Nature network leave something of
LARGEST_FLAT = 1024  # numbers that a multilayer perceptron takes for a vector whatever axes they have
MOST_SYMBOLS = 256  # that a byte can tell apart
LARGEST_SYMBOLS = 15  # cells on a side of grids whose bytes, as vectors, are parts of 15 and not of 255
ASSUMED_SYMBOLS = 16  # of a grid that declares bytes from 0 to 255, as MiniGrid does


def kind_of(shape: Sequence[int], dtype: torch.dtype, symbols: int = MOST_SYMBOLS) -> str:
    """What observations are taken for where nobody says: "vector", "image" or "grid".

    - Bytes with three axes are a grid of symbols where their bounds leave out 255, or where they are too
      small for the Nature network (36 pixels on a side); otherwise an image.
    - Bytes with two axes, or four, are an image, if they are more than 1,024 numbers.
    - Other numbers with three or four axes are an image, if they are more than 1,024.
    - Everything else is a vector.

    Args:
        shape: of one observation.
        dtype: float32 or uint8.
        symbols: numbers that a byte may be, by the declared bounds.
    """
    large = math.prod(shape) > LARGEST_FLAT
    if dtype == torch.uint8:
        if len(shape) == 3:
            return "grid" if symbols < MOST_SYMBOLS or sorted(shape)[1] < SMALLEST_SIDE else "image"
        return "image" if len(shape) in (2, 4) and large else "vector"
    return "image" if len(shape) in (3, 4) and large else "vector"


@dataclass(frozen=True)
class ObservationSpec:
    """One array of an observation.

    Args:
        shape: of one observation.
        dtype: torch.float32 or torch.uint8.
        symbols: numbers that a byte may be, by the declared bounds: the largest and 0 are among them.
        layout: what the bytes are where entries of several kinds share one row; None otherwise.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    symbols: int = MOST_SYMBOLS
    layout: ObservationLayout | None = None

    @classmethod
    def vector(cls, size: int) -> ObservationSpec:
        """A vector of `size` numbers."""
        return cls((size,))

    @property
    def size(self) -> int:
        """Numbers of one observation."""
        return math.prod(self.shape)

    @property
    def kind(self) -> str:
        """See `kind_of`; "dict" where there is a layout."""
        return kind_of(self.shape, self.dtype, self.symbols) if self.layout is None else "dict"

    @property
    def divisor(self) -> int:
        """What bytes are divided by where they are numbers of a vector: the largest that they may be.

        Of a small grid that declares bytes from 0 to 255 that is 15.
        """
        assumed = self.kind == "grid" and self.symbols == MOST_SYMBOLS and max(self.shape) <= LARGEST_SYMBOLS
        return max((ASSUMED_SYMBOLS if assumed else self.symbols) - 1, 1)

    @property
    def described(self) -> str:
        """In words: `bytes [84, 84, 3]`."""
        return f"{'bytes' if self.dtype == torch.uint8 else 'float32'} {list(self.shape)}"


@dataclass(frozen=True)
class Entry:
    """One entry of a packed observation.

    Args:
        name: its key; "a.b" for an entry b of a nested dict a.
        kind: "vector" (float32), "image" or "grid" (bytes or float32), or "mask" (bytes that are 1 where an
            action is allowed; no network sees them).
        shape: of the entry in one environment.
        dtype: torch.float32 or torch.uint8.
        symbols: see `ObservationSpec`.
        offset: its first byte in the row.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    symbols: int = MOST_SYMBOLS
    offset: int = 0

    @property
    def size(self) -> int:
        """Numbers of the entry."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the entry."""
        return self.size * self.dtype.itemsize

    @property
    def spec(self) -> ObservationSpec:
        """The entry alone."""
        return ObservationSpec(self.shape, self.dtype, self.symbols)


@dataclass(frozen=True)
class ObservationLayout:
    """Where the entries of a packed observation lie in its row of bytes.

    Float entries come first, so that they can be read in place as float32, and vectors before other floats,
    so that all vectors together are one view. Rows end at a multiple of four bytes.

    Args:
        entries: in the order of their bytes; make a layout by `of`.
    """

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> ObservationLayout:
        """The layout of these entries, which are put in order; their offsets are set here."""
        placed, offset = [], 0
        for entry in sorted(
            entries, key=lambda entry: (entry.dtype != torch.float32, entry.kind != "vector")
        ):
            placed.append(replace(entry, offset=offset))
            offset += entry.nbytes
        return cls(tuple(placed))

    @property
    def nbytes(self) -> int:
        """Bytes of a row."""
        end = max(entry.offset + entry.nbytes for entry in self.entries)
        return -(-end // ALIGNMENT) * ALIGNMENT

    @property
    def floats(self) -> int:
        """Numbers of all float entries: the first 4 · floats bytes of a row."""
        return sum(entry.size for entry in self.entries if entry.dtype == torch.float32)

    @property
    def vectors(self) -> int:
        """Numbers of all vectors: the first 4 · vectors bytes of a row."""
        return sum(entry.size for entry in self.entries if entry.kind == "vector")

    def of_kind(self, *kinds: str) -> tuple[Entry, ...]:
        """The entries of these kinds."""
        return tuple(entry for entry in self.entries if entry.kind in kinds)

    def find(self, name: str) -> Entry | None:
        """The entry of that name, if there is one."""
        return next((entry for entry in self.entries if entry.name == name), None)

    # ------------------------------------------------------------------------------------ reading rows

    def numbers(self, rows: Tensor) -> Tensor:
        """All float entries of rows [..., nbytes] as one float32 view [..., floats]."""
        return rows[..., : 4 * self.floats].view(torch.float32)

    def read(self, rows: Tensor, entry: Entry) -> Tensor:
        """An entry of rows [..., nbytes], as a view [..., *shape]."""
        part = rows[..., entry.offset : entry.offset + entry.nbytes]
        return part.view(entry.dtype).unflatten(-1, entry.shape)

    def unpack(self, rows: Tensor) -> dict[str, Tensor]:
        """Every entry of rows [..., nbytes] by its name, as views [..., *shape]."""
        return {entry.name: self.read(rows, entry) for entry in self.entries}

    # ------------------------------------------------------------------------------------ writing rows

    def pack(self, values: Mapping[str, Any]) -> Tensor:
        """Rows [B, nbytes] of entries [B, *shape] by name, arrays or tensors of the declared numbers.

        Raises:
            ValueError: an entry is missing, or has another shape or dtype.
        """
        arrays = {entry.name: self._declared(entry, values) for entry in self.entries}
        counts = {len(array) for array in arrays.values()}
        if len(counts) != 1:
            raise ValueError(f"entries must have the same number of rows, they have {sorted(counts)}")
        rows = torch.zeros(counts.pop(), self.nbytes, dtype=torch.uint8)
        for entry in self.entries:
            self.read(rows, entry).copy_(arrays[entry.name])
        return rows

    @staticmethod
    def _declared(entry: Entry, values: Mapping[str, Any]) -> Tensor:
        if entry.name not in values:
            raise ValueError(f"the observation lacks the entry {entry.name!r}; it has {', '.join(values)}")
        value = torch.as_tensor(values[entry.name]).cpu()
        fits = value.dtype == entry.dtype or (entry.dtype == torch.float32 and value.is_floating_point())
        if tuple(value.shape[1:]) != entry.shape or not fits:
            given = str(value.dtype).removeprefix("torch.")
            raise ValueError(
                f"the entry {entry.name!r} must be {entry.spec.described} in each row, got {given} "
                f"{list(value.shape[1:])}"
            )
        return value

    # ------------------------------------------------------------------------------------ plain values

    def plain(self) -> list[dict[str, Any]]:
        """As lists and dicts of plain values, for files."""
        return [
            {
                "name": entry.name,
                "kind": entry.kind,
                "shape": list(entry.shape),
                "dtype": str(entry.dtype).removeprefix("torch."),
                "symbols": entry.symbols,
            }
            for entry in self.entries
        ]

    @classmethod
    def from_plain(cls, values: Sequence[Mapping[str, Any]]) -> ObservationLayout:
        """Counterpart of `plain`.

        Raises:
            ValueError, TypeError, KeyError: it is no such description.
        """
        entries = [
            Entry(
                str(value["name"]),
                str(value["kind"]),
                tuple(_count(side) for side in value["shape"]),
                DTYPES[value["dtype"]],
                _count(value["symbols"]),
            )
            for value in values
        ]
        if not entries or any(entry.kind not in KINDS for entry in entries):
            raise ValueError(f"entries of observations must be of the kinds {', '.join(KINDS)}")
        return cls.of(entries)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"sizes of observations must be whole numbers, got {value!r}")
    return value
