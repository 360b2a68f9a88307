"""Frames of a replay's observations: each is stored once, in the row that brought it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl.data.frames import as_frames, link

PLACES = "frames"  # the field that says where a row's frames lie
_NOTHING = -1  # the place of a frame of zeros


class FrameRing:
    """Which rows of a ring the frames of each row's observation lie in.

    Beside the rows that can be drawn there are some older ones, whose frames the oldest of them still need.

    Args:
        count: K, frames of an observation.
        rows: rows that can be drawn.
        num_envs: N.
        obs_size: numbers of one observation.
        device: where the rows live.

    Attributes:
        capacity: rows of the ring.
        written: rows that have been written, those that were written over too.
    """

    def __init__(self, count: int, rows: int, num_envs: int, obs_size: int, device: torch.device) -> None:
        self.count, self.rows, self.num_envs = count, rows, num_envs
        self.size = obs_size // count  # of a frame
        self.capacity = rows + self.reach(count)
        self.written = 0
        self._device = device
        self._last: Tensor | None = None  # [N, K, P] and [N, K] of the newest row
        self._places = torch.zeros((num_envs, count), dtype=torch.int32, device=device)

    @staticmethod
    def reach(count: int) -> int:
        """How many rows before its own the frames of a row may lie in: K − 1, and as many that hold it."""
        return 2 * count

    def newcomers(self, obs: Tensor) -> Iterator[Tensor]:
        """Observations [N, ...] of rows to be written before that of `obs`, which bring in its older frames.

        There are some where the frames of an environment are not those of the row before: of it a stack is
        filled with the oldest of them, and moves on. Other environments are held.
        """
        missing = self._linked(as_frames(obs, self.count))[1]
        if missing is None:
            return
        frames = as_frames(obs, self.count)
        for shown in range(1, self.count):
            older = frames.clone()
            older[missing, : -shown + 1 or None] = frames[missing, :1]
            if shown > 1:
                older[missing, -shown + 1 :] = frames[missing, 1:shown]
            yield older.reshape(obs.shape)

    def row(self, obs: Tensor) -> tuple[int, dict[str, Tensor]]:
        """(row of the ring, its newest frame `obs` [N, P] and the places) of what is written next."""
        frames = as_frames(obs.to(self._device), self.count)
        places, missing = self._linked(frames)
        if missing is not None:
            raise ValueError(f"environment {int(missing[0])}: a frame is neither new nor of the row before")
        position = self.written % self.capacity
        self.written += 1
        self._last, self._places = frames.clone(), places
        return position, {"obs": frames[:, -1], PLACES: places}

    def _linked(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Places of the next row's frames, and the environments of which some are nowhere near."""
        position = self.written % self.capacity
        newest = torch.full((self.num_envs,), position, dtype=torch.int32, device=self._device)
        frames = frames.to(self._device)
        before = torch.zeros_like(frames) if self._last is None else self._last
        known = torch.full_like(self._places, _NOTHING) if self._last is None else self._places
        places, missing = link(frames, before, known, newest, _NOTHING)
        age = (position - places) % self.capacity
        far = ((age > self.reach(self.count)) & (places != _NOTHING)).any(1)
        if bool(far.any()):
            more = far.nonzero().squeeze(1)
            missing = more if missing is None else torch.cat([missing, more]).unique()
        return places, missing

    def position_of(self, start: Tensor, write_position: int) -> Tensor:
        """Rows of this ring for rows [B] of the smaller one that is drawn from."""
        age = (write_position - start - 1) % self.rows + 1
        return (self.written - age) % self.capacity

    def state_dict(self) -> dict[str, Any]:
        """What cannot be read from the rows."""
        return {"written": self.written}

    def load_state_dict(self, state: Mapping[str, Any], write_position: int, places: Tensor) -> None:
        """Counterpart of `state_dict`.

        Args:
            state: from `state_dict`.
            write_position: of the ring that is drawn from.
            places: of all rows that are stored, [.., N, K].

        Raises:
            ValueError: they contradict each other.
        """
        written = state.get("written") if isinstance(state, Mapping) else None
        if type(written) is not int or not 0 <= written < 2**63 or written % self.rows != write_position:
            raise ValueError(f"the replay's 'written' must be the number of its rows, got {written!r}")
        if len(places) and not bool(((places >= _NOTHING) & (places < len(places))).all()):
            raise ValueError(f"the replay's {PLACES!r} must be numbers of its rows")
        self.written = written

    def follow(self, last: Tensor, places: Tensor) -> None:
        """Take these observations [N, ...] and places [N, K] for those of the newest row."""
        self._last, self._places = as_frames(last, self.count), places.clone()
