"""Which windows of a replay ring may be drawn: the bookkeeping of sequence replay, in native code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.native import load_module

_STATE = ("capacity", "num_envs", "rows", "write_position", "random", "valid")
_MOST = 2**63 - 1


class SequenceIndex:
    """Keeps count of a ring of rows [capacity, num_envs] and draws windows from it, uniformly.

    Every step of the environments appends one row, over the oldest one once the ring is full. In a row each
    environment has a transition, or it has none (the reset row of NEXT_STEP autoreset, a transition that was
    refused). A window is `seq_len` consecutive rows of one environment, all of them stored, that begins with
    a transition and does not go on behind the newest row. Episodes may end within it and
    rows that are no transition may lie in it: the ops cut the trace there.

    The index holds no data: `fastrl.data.sequence_storage` does, and `ops.gather_sequences` reads it. Its
    memory is a bit for every environment of every row, and what append and sample cost does not depend on the
    capacity.

    Args:
        capacity: C, rows of the ring. Transitions it can hold: capacity times num_envs.
        num_envs: N, streams side by side.
        seed: of the generator that draws; any int. It is the index's own: nothing else draws from it.

    Raises: TypeError, ValueError; MemoryError.
    """

    def __init__(self, capacity: int, num_envs: int, seed: int) -> None:
        for name, value in {"capacity": capacity, "num_envs": num_envs, "seed": seed}.items():
            _check_whole("SequenceIndex", name, value)
        if max(abs(capacity), abs(num_envs)) > _MOST:
            raise ValueError(
                f"SequenceIndex: capacity and num_envs must be below 2^63, got {capacity} and {num_envs}"
            )
        self._native = load_module().SequenceIndex(int(capacity), int(num_envs), int(seed) % 2**64)
        self._append = self._native.append
        self.capacity = int(capacity)
        self.num_envs = int(num_envs)

    def __len__(self) -> int:
        """Transitions that are stored, over all environments; rows that are none do not count."""
        return self._native.transitions

    @property
    def rows(self) -> int:
        """Rows that are stored, at most `capacity`."""
        return self._native.rows

    @property
    def write_position(self) -> int:
        """The row that `append` will take next: what a step has brought is written there first."""
        return self._native.write_position

    def append(self, valid: Tensor | np.ndarray) -> int:
        """Stores the next row, over the oldest one if the ring is full.

        Args:
            valid: [N] bool, a tensor on the CPU or an array: whether each environment has a transition in
                this row.

        Returns: the row's position in the ring, what `write_position` was.
        Raises: TypeError, ValueError; nothing has been stored then.
        """
        return self._append(valid)

    def num_windows(self, seq_len: int) -> int:
        """How many windows of `seq_len` rows can be drawn now. Raises TypeError, ValueError."""
        _check_size("SequenceIndex.num_windows", "seq_len", seq_len, 1)
        return self._native.num_windows(seq_len)

    def sample(self, batch_size: int, seq_len: int) -> tuple[Tensor, Tensor]:
        """Draws windows with replacement, each of the `num_windows(seq_len)` with the same probability.

        Args:
            batch_size: B, how many, at least 0.
            seq_len: rows of a window, at least 1.

        Returns: start, the first row of each window, and env, its environment: [B] int64 on the CPU, what
            `ops.gather_sequences` takes.
        Raises: TypeError; ValueError if there is no such window, which says how many rows are stored and are
            needed.
        """
        if (
            type(batch_size) is not int
            or type(seq_len) is not int
            or batch_size < 0
            or not 1 <= seq_len <= _MOST
        ):
            _check_size("SequenceIndex.sample", "batch_size", batch_size, 0)
            _check_size("SequenceIndex.sample", "seq_len", seq_len, 1)
        windows = torch.empty((2, batch_size), dtype=torch.int64)
        self._native.sample(seq_len, windows)
        start, env = windows.unbind(0)
        return start, env

    def state_dict(self) -> dict[str, Any]:
        """Plain values and one tensor of bits, the generator too: a loaded index draws the same windows."""
        valid = torch.empty(self._native.num_bytes, dtype=torch.uint8)
        self._native.save_bits(valid)
        return {
            "capacity": self.capacity,
            "num_envs": self.num_envs,
            "rows": self.rows,
            "write_position": self.write_position,
            "random": list(self._native.random),
            "valid": valid,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()` of an index of the same capacity and number of environments.

        Raises: ValueError if it is anything else or contradicts itself; nothing has changed then.
        """
        op = "SequenceIndex.load_state_dict"
        if not isinstance(state, Mapping) or set(state) != set(_STATE):
            got = ", ".join(map(repr, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"{op}: state must have {', '.join(_STATE)}, got {got}")
        for name in _STATE[:4]:
            if type(state[name]) is not int or not 0 <= state[name] <= _MOST:
                raise ValueError(f"{op}: {name} must be an int, at least 0, got {state[name]!r}")
        if (state["capacity"], state["num_envs"]) != (self.capacity, self.num_envs):
            saved, own = f"[{state['capacity']}, {state['num_envs']}]", f"[{self.capacity}, {self.num_envs}]"
            raise ValueError(f"{op}: [capacity, num_envs] must be {own}, got {saved}")
        random = state["random"]
        if (
            not isinstance(random, (list, tuple))
            or len(random) != 4
            or not all(type(word) is int and 0 <= word < 2**64 for word in random)
        ):
            raise ValueError(f"{op}: random must be four ints in [0, 2^64), got {random!r}")
        valid = state["valid"]
        if (
            not isinstance(valid, Tensor)
            or valid.dtype != torch.uint8
            or valid.dim() != 1
            or valid.layout != torch.strided
        ):
            raise ValueError(f"{op}: valid must be a uint8 tensor of bits, got {_describe(valid)}")
        if valid.device.type == "meta":
            raise ValueError(f"{op}: valid must have data, got a tensor on meta")
        self._native.load(state["rows"], state["write_position"], *random, valid.detach().cpu().contiguous())


def _check_whole(op: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{op}: {name} must be an int, got {type(value).__name__}")


def _check_size(op: str, name: str, value: int, least: int) -> None:
    _check_whole(op, name, value)
    if not least <= value <= _MOST:
        raise ValueError(f"{op}: {name} must be at least {least} and below 2^63, got {value}")


def _describe(value: object) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
