"""Stacked observations of which each frame is stored once, and put together when they are read.

Observations of K frames overlap: K − 1 of them were in the row before. What is kept of a row is its newest
frame, and for each of its K frames the place where it lies. Where those places are is seen by comparing the
frames themselves, so that what is read back is what the environment gave, bit for bit, whatever it puts in
front of the first frame of an episode, and on rows that hold an environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

_NOWHERE = -2  # no place yet


def frames_of(env: VectorEnv) -> int:
    """K, the frames of an observation that are worth keeping apart: those of stacked images, else 1."""
    return env.frame_stack if env.obs_dtype == torch.uint8 else 1


def link(
    obs: Tensor, before: Tensor, places: Tensor, newest: Tensor, nothing: int
) -> tuple[Tensor, Tensor | None]:
    """Where the frames of a row lie, found among those of the row before, and its own newest one.

    Args:
        obs, before: [N, K, P], frames of this row and of the one before it, the newest last.
        places: [N, K] int32, where the latter lie.
        newest: [N] int32, where this row's newest frame is written.
        nothing: the place of a frame of zeros.

    Returns:
        (places [N, K] int32, numbers of the environments that have a frame found nowhere; None where there
        are none).
    """
    found = torch.cat([places[:, 1:], newest[:, None]], dim=1)
    moved, older = _words(obs)[:, :-1], _words(before)[:, 1:]
    differs = moved != older
    if not bool(differs.any()):  # every stack has moved on by a frame, as nearly always
        return found, None
    odd = differs.flatten(1).any(1).nonzero().squeeze(1)
    frames, last, there = obs[odd], before[odd], places[odd]
    result = torch.full_like(there, _NOWHERE)
    result[:, -1] = own = newest[odd]
    for k in range(frames.shape[1] - 1):
        candidates = (
            (last[:, k + 1], there[:, k + 1]),
            (last[:, k], there[:, k]),  # a row that holds its environment
            (frames[:, -1], own),  # the first row of an episode, filled with it
            (torch.zeros_like(frames[:, k]), torch.full_like(own, nothing)),
        )
        for frame, place in candidates:
            same = (frames[:, k] == frame).all(1) & (result[:, k] == _NOWHERE)
            result[same, k] = place[same]
    found[odd] = result
    missing = odd[(result == _NOWHERE).any(1)]
    return found, missing if len(missing) else None


def _words(frames: Tensor) -> Tensor:
    """The same bytes in larger pieces, which are compared faster."""
    whole = frames.dtype == torch.uint8 and frames.shape[-1] % 8 == 0 and frames.is_contiguous()
    return frames.view(torch.int64) if whole and frames.storage_offset() % 8 == 0 else frames


def as_frames(obs: Tensor, count: int) -> Tensor:
    """Observations [N, ...] as [N, K, P]."""
    return obs.reshape(len(obs), count, -1)


class StackedFrames:
    """Observations [..., *shape] that read like a tensor; each is put together when it is read.

    Slices, masks of bools and `flatten` give another one of these; numbers, and tensors of numbers, read.

    Args:
        frames: [F, P], all frames.
        places: int32 [..., K], where those of each observation lie in them.
        shape: of one observation.
    """

    def __init__(self, frames: Tensor, places: Tensor, shape: tuple[int, ...]) -> None:
        self._frames, self._places, self._one = frames, places, tuple(shape)

    @property
    def shape(self) -> torch.Size:
        """As of the tensor that it stands for."""
        return torch.Size((*self._places.shape[:-1], *self._one))

    @property
    def dtype(self) -> torch.dtype:
        """Of the frames."""
        return self._frames.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._frames.device

    @property
    def last_place(self) -> int:
        """The largest number of a frame."""
        return len(self._frames) - 1

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        """A part of it, or the observations of these numbers as a tensor."""
        part = StackedFrames(self._frames, self._places[index], self._one)
        each = index if isinstance(index, tuple) else (index,)
        stays = all(isinstance(i, slice) or getattr(i, "dtype", None) == torch.bool for i in each)
        return part if stays else part.read()

    def flatten(self, start_dim: int, end_dim: int) -> StackedFrames:
        """Rows side by side; only axes before those of an observation."""
        return StackedFrames(self._frames, self._places.flatten(start_dim, end_dim), self._one)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The observations of these numbers [K] along the first axis, as a tensor."""
        return StackedFrames(self._frames, self._places.index_select(dim, index), self._one).read()

    def read(self) -> Tensor:
        """All of it as a new tensor."""
        return self._frames.index_select(0, self._places.flatten()).view(self.shape)


class RolloutFrames:
    """The observations of a rollout, T + 1 rows of N environments.

    Args:
        num_steps, num_envs: T and N.
        shape, dtype: of one observation.
        count: K, frames of an observation, equal parts of its first axis.
        device: where they live.

    Attributes:
        frames: [K − 1 + T + 1 + 1, N, P]: the older frames of the first row, the newest of each row, zeros.
        places: int32 [T + 1, N, K], numbers of rows of `frames` [.. · N, P].
    """

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        count: int,
        device: torch.device | str,
    ) -> None:
        pixels = torch.Size(shape).numel() // count
        self.count, self._shape = count, tuple(shape)
        self.frames = torch.zeros((num_steps + count + 1, num_envs, pixels), dtype=dtype, device=device)
        self.places = torch.zeros((num_steps + 1, num_envs, count), dtype=torch.int32, device=device)
        self._envs = torch.arange(num_envs, dtype=torch.int32, device=device)
        self._last: Tensor | None = None  # the observations of the row that was written last, as they came

    @property
    def obs(self) -> StackedFrames:
        """All rows, to be read."""
        return StackedFrames(self.frames.flatten(0, 1), self.places, self._shape)

    def _begin(self, obs: Tensor) -> None:
        """The observations of row 0: all of their frames are stored."""
        self._write(0, as_frames(obs, self.count), self._all_places())
        self.frames[: self.count - 1].copy_(as_frames(obs, self.count)[:, :-1].transpose(0, 1))
        self._last = obs

    def append(self, row: int, obs: Tensor, following: Tensor, *, first: bool) -> None:
        """Store the observations [N, ...] of the row after `row`.

        Args:
            row: in [0, T).
            obs: those of `row` itself, which are there already unless it is the first to be written.
            following: those of the row after it; they are remembered, and must not be written into.
            first: whether it is.

        Raises:
            ValueError: `obs` is not what is there, or a frame of `following` is neither new nor among those.
        """
        if first:
            self._begin(obs)
        elif obs is not self._last and (self._last is None or not torch.equal(obs, self._last)):
            raise ValueError("Rollout.append: obs must be the next_obs of the row before")
        frames = as_frames(following, self.count)
        newest = (row + self.count) * len(self._envs) + self._envs
        nothing = (len(self.frames) - 1) * len(self._envs)  # any environment's zeros
        places, missing = link(frames, as_frames(obs, self.count), self.places[row], newest, nothing)
        if missing is not None:
            raise ValueError(
                f"Rollout.append: next_obs of environment {int(missing[0])} is no stack of "
                f"{self.count} frames that moves on by one with each row"
            )
        self._write(row + 1, frames, places)
        self._last = following

    def follow(self, position: int) -> None:
        """Take what `frames` and `places` hold now, up to this row, for what was written."""
        self._last = self.obs[position] if position else None

    def _all_places(self) -> Tensor:
        rows = torch.arange(self.count, dtype=torch.int32, device=self.places.device)
        return rows * len(self._envs) + self._envs[:, None]  # [N, K]

    def _write(self, row: int, frames: Tensor, places: Tensor) -> None:
        self.frames[row + self.count - 1].copy_(frames[:, -1])
        self.places[row].copy_(places)
