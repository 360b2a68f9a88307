"""The memory of sequence replay: a ring of rows, laid out so that a window is one stretch of memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.data.rollout import Field
from fastrl.native import load_module
from fastrl.ops import gather_sequences

_LINE = 64  # bytes of a cache line
_CACHE_WAY = 4096  # bytes after which lines go to the same places of a first-level cache
_HUGE_PAGE = 2 << 20
_MOST_PADDING = 1 / 8  # of a row, to let it begin with a cache line


class SequenceStorage:
    """A ring of rows [capacity, num_envs] of several fields, in one allocation.

        memory: environment 0: | row 0 | row 1 | ... | row C−1 |  environment 1: | row 0 | ...
        a row of one environment: | obs | action | reward | flags | padding |

    The fields of a transition lie side by side, and so do an environment's consecutive rows. Replay reads
    windows from random places of a
    memory far larger than any cache: here each of them is one stretch of it, while with a tensor for each
    field it would be one for each field, and with environments side by side one for each row. What that
    gains: `bench/results`, `*-gather-sequences.json`.

    Args:
        fields: name -> (shape, dtype) of what one row of one environment holds.
        capacity: C, rows of the ring. Transitions it can hold: capacity times num_envs.
        num_envs: N, environments side by side.
        device: where the memory is. On the CPU it starts as zeros that take no memory until rows are written.

    `fields` has the views [C, N, ...] by name: what is written to them is stored. `nbytes` is the size of the
    whole, which `nbytes_of` tells beforehand.

    Raises: TypeError, ValueError, naming the field; MemoryError.
    """

    def __init__(
        self, fields: Mapping[str, Field], capacity: int, num_envs: int, device: torch.device | str = "cpu"
    ) -> None:
        offsets, row_bytes = _layout(fields, capacity, num_envs)
        self.capacity = capacity
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.row_bytes = row_bytes  # of one environment, padding included
        self._env_bytes = _env_bytes(row_bytes, capacity)
        self.nbytes = self._env_bytes * num_envs
        self._memory = _zeros(self.nbytes, self.device)
        self._names = tuple(fields)
        self._views = [self._view(fields[name], offsets[name]) for name in self._names]
        # handed out are other views than those read and written here: whatever is done to them, these stay as
        # they are
        self.fields: Mapping[str, Tensor] = MappingProxyType(
            {name: view[:] for name, view in zip(self._names, self._views, strict=True)}
        )
        self._writer = (
            load_module().RowWriter(self._names, tuple(self._views)) if self.device.type == "cpu" else None
        )

    @staticmethod
    def nbytes_of(fields: Mapping[str, Field], capacity: int, num_envs: int) -> int:
        """The bytes that a storage of these sizes takes. Raises TypeError, ValueError."""
        return _env_bytes(_layout(fields, capacity, num_envs)[1], capacity) * num_envs

    def __getitem__(self, name: str) -> Tensor:
        """The view [C, N, ...] of a field."""
        return self.fields[name]

    def write(self, row: int, values: Mapping[str, Tensor | np.ndarray]) -> None:
        """Stores one row of all environments.

        Args:
            row: in [0, C).
            values: name -> [N, ...] of the field's dtype, for every field; any strides. On the CPU tensors or
                numpy arrays, elsewhere tensors.

        Raises: IndexError, TypeError, ValueError, naming the field; nothing has been written then.
        """
        if type(row) is not int or not 0 <= row < self.capacity:
            _check_row(row, self.capacity)
        if type(values) is not dict:
            values = _as_dict(values)
        if self._writer is not None:
            self._writer.write(row, values)
        else:
            self._write_with_torch(row, values)

    def gather(
        self,
        start: Tensor,
        env: Tensor,
        seq_len: int,
        *,
        out: Mapping[str, Tensor] | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Windows of `seq_len` rows: name -> [seq_len, B, ...], contiguous; see `ops.gather_sequences`.

        Args:
            start: [B] int64, the first row of each window; windows go round the end of the ring.
            env: [B] int64, the environment of each window. Both may be on the CPU, where
                `SequenceIndex.sample` puts them, for a storage that is not.
            seq_len: rows of a window, in [1, C].
            out: name -> contiguous tensor [seq_len, B, ...] to write into, of every field; large new tensors
                cost page faults.
            names: the fields to read; None: all.

        Raises: TypeError, ValueError, IndexError, naming the argument.
        """
        if self._writer is None and isinstance(start, Tensor) and isinstance(env, Tensor):
            start, env = start.to(self.device, non_blocking=True), env.to(self.device, non_blocking=True)
        wanted = self._names if names is None else tuple(names)
        views = self._views if names is None else [self._views[self._names.index(name)] for name in wanted]
        targets = None if out is None else [out[name] for name in wanted]
        results = gather_sequences(views, start, env, seq_len, out=targets)
        return dict(zip(wanted, results, strict=True))

    def _view(self, field: Field, offset: int) -> Tensor:
        shape, dtype = field
        flat = self._memory.view(dtype)
        row = self.row_bytes // dtype.itemsize
        inner = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
        return flat.as_strided(
            (self.capacity, self.num_envs, *shape),
            (row, self._env_bytes // dtype.itemsize, *inner),
            flat.storage_offset() + offset // dtype.itemsize,
        )

    def _write_with_torch(self, row: int, values: Mapping[str, Any]) -> None:
        op = "SequenceStorage.write"
        if set(values) != set(self._names):
            raise ValueError(
                f"{op}: values must have {', '.join(self._names)}, got {', '.join(map(str, values))}"
            )
        for name, view in zip(self._names, self._views, strict=True):
            value = values[name]
            if not isinstance(value, Tensor):
                raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(value).__name__}")
            if value.shape != view.shape[1:]:
                raise ValueError(
                    f"{op}: {name} must have shape [N, ...] = {list(view.shape[1:])}, got {list(value.shape)}"
                )
            if value.dtype != view.dtype:
                raise TypeError(f"{op}: {name} must be {_name(view.dtype)}, got {_name(value.dtype)}")
        for name, view in zip(self._names, self._views, strict=True):
            view[row].copy_(values[name].detach(), non_blocking=True)


def _layout(fields: Mapping[str, Field], capacity: int, num_envs: int) -> tuple[dict[str, int], int]:
    """Where each field lies in a row, and the bytes of a row. Raises TypeError, ValueError."""
    op = "SequenceStorage"
    for name, size in {"capacity": capacity, "num_envs": num_envs}.items():
        if type(size) is not int:
            raise TypeError(f"{op}: {name} must be an int, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {size}")
    if not isinstance(fields, Mapping) or not fields:
        raise ValueError(f"{op}: fields must name at least one field")
    sizes = {name: _bytes_of(name, field) for name, field in fields.items()}
    offsets, end = {}, 0
    for name in sorted(
        fields, key=lambda name: -fields[name][1].itemsize
    ):  # each size divides those before: no gaps
        offsets[name] = end
        end += sizes[name]
    alignment = max(dtype.itemsize for _, dtype in fields.values())
    for wider in (2 * alignment, _LINE // 4, _LINE // 2, _LINE):
        if wider > alignment and _round_up(end, wider) - end <= _MOST_PADDING * end:
            alignment = wider
    row_bytes = max(_round_up(end, alignment), alignment)
    if _env_bytes(row_bytes, capacity) * num_envs >= 2**63:
        raise ValueError(
            f"{op}: capacity, num_envs or fields too large: {row_bytes} bytes times {capacity} times "
            f"{num_envs}"
        )
    return offsets, row_bytes


def _env_bytes(row_bytes: int, capacity: int) -> int:
    """Bytes from one environment's rows to the next one's.

    Chosen so that a row of all environments is spread over the sets of the first-level cache.

    A cache finds lines by the lower bits of their address. Were they the same for all environments, their
    lines would turn each other out while a row is written field by field.
    """
    return _round_up(row_bytes * capacity, _CACHE_WAY) + _round_up(row_bytes, _LINE)


def _bytes_of(name: object, field: object) -> int:
    op = "SequenceStorage"
    if not isinstance(name, str):
        raise TypeError(f"{op}: names of fields must be str, got {name!r}")
    if (
        not isinstance(field, tuple)
        or len(field) != 2
        or not isinstance(field[1], torch.dtype)
        or not isinstance(field[0], (tuple, list))
    ):
        raise TypeError(f"{op}: field {name} must be (shape, dtype), got {field!r}")
    shape, dtype = field
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{op}: the shape of field {name} must be of ints, at least 0, got {tuple(shape)}")
    return math.prod(shape) * dtype.itemsize


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _zeros(nbytes: int, device: torch.device) -> Tensor:
    """Zeroed bytes, aligned to a cache line.

    On the CPU in huge pages where the system grants them, and not taken before they are used.
    """
    if device.type != "cpu" or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.zeros(nbytes, dtype=torch.uint8, device=device)
    try:
        memory = mmap.mmap(-1, nbytes + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"SequenceStorage: the system does not give {nbytes:,} bytes: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a system without them
    everything = torch.frombuffer(memory, dtype=torch.uint8)
    start = -everything.data_ptr() % _HUGE_PAGE
    return everything[start : start + nbytes]


def _check_row(row: object, capacity: int) -> None:
    if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
        raise TypeError(f"SequenceStorage.write: row must be an int, got {type(row).__name__}")
    if not 0 <= row < capacity:
        raise IndexError(f"SequenceStorage.write: row must be in [0, {capacity}), got {row}")


def _as_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"SequenceStorage.write: values must be a dict, got {type(values).__name__}")
    return dict(values)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
