"""From any Gymnasium observation space to one array per environment: float32 of any shape, or uint8 images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.bounds import box_bounds
from fastrl.errors import SettingError, nearest

Path = tuple[str | int, ...]
NUMBERS = "biuf"  # kinds of numpy's dtypes: booleans, whole numbers, floats
MINIGRID_VIEW = 7  # cells on a side of MiniGrid's egocentric view


@dataclass(frozen=True)
class Leaf:
    """One entry of an observation: where it is, what it is, and how many float32 numbers it takes when it is flattened.

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

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest encoded value, [*shape] of a box, [size] of choices."""
        if self.low is None or self.high is None:
            shape = self.shape if self.kind == "box" else (self.size,)
            return np.zeros(shape, np.float32), np.ones(shape, np.float32)
        return self.low, self.high

    def encode(self, batch: np.ndarray) -> np.ndarray:
        """Values [N, *shape] of N environments as float32 [N, size]."""
        if self.kind == "box":
            return batch.reshape(len(batch), self.size).astype(np.float32, copy=False)
        encoded = np.zeros((len(batch), self.size), np.float32)
        offsets = np.cumsum((0, *self.nvec[:-1])) - np.asarray(self.start)
        columns = batch.reshape(len(batch), len(self.nvec)).astype(np.int64) + offsets
        np.put_along_axis(encoded, columns, 1.0, axis=1)
        return encoded


def _leaves(space: gym.Space[Any], path: Path = ()) -> Iterator[Leaf | Path]:
    """Entries of a space in alphabetical order of keys; the path alone for one that has no numeric form."""
    spaces = gym.spaces
    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces, key=str):
            yield from _leaves(space.spaces[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, (*path, index))
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


class ObservationMap:
    """Turns observations of one space into one array.

    - A single entry keeps its shape. Images (uint8 with two axes or more) stay uint8, everything else becomes float32; discrete entries
      become one-hot.
    - Several entries are flattened and concatenated as float32, in alphabetical order of their keys, or in the order of `obs_keys`.
    - Without `obs_keys`, the images of a dict are left out; of a MiniGrid observation (`image` beside `mission`) the image is taken.

    Args:
        space: observation space of one environment.
        obs_keys: entries to take, by key; "a.b" for an entry b of a nested dict a; a key of a nested dict takes all of it.
        crop: None, or the side of a smaller MiniGrid view, an odd number up to 7: the cells nearest to the agent. The image is indexed
            [x][y] with the agent at [3][6], so 3 is `image[2:5, 4:7]`, with the agent at [1][2].
        name: the environment's, for messages.

    Raises:
        SettingError: nothing usable in the space, an unknown key, or a crop that does not fit.
    """

    def __init__(self, space: gym.Space[Any], *, obs_keys: Sequence[str] | None = None, crop: int | None = None, name: str = "") -> None:
        self.leaves = _select(space, obs_keys, name)
        only = self.leaves[0] if len(self.leaves) == 1 else None
        self._single = only
        self._stays_uint8 = only is not None and only.image and only.dtype == np.uint8
        if only is not None and only.kind == "box":
            self.shape = only.shape or (1,)
        else:
            self.shape = (sum(leaf.size for leaf in self.leaves),)
        self.torch_dtype = torch.uint8 if self._stays_uint8 else torch.float32
        self._dtype = np.uint8 if self._stays_uint8 else np.float32
        self._window = self._crop_window(crop, name)

    def _crop_window(self, crop: int | None, name: str) -> tuple[slice, slice] | None:
        if crop is None:
            return None
        if self.shape[:2] != (MINIGRID_VIEW, MINIGRID_VIEW) or len(self.shape) != 3:
            raise SettingError(f"crop is for MiniGrid images of shape [7, 7, 3]; observations of {name} have shape {list(self.shape)}")
        if crop not in (1, 3, 5, 7):
            raise SettingError(f"crop must be 1, 3, 5 or 7 cells, got {crop!r}")
        first = (MINIGRID_VIEW - crop) // 2
        self.shape = (crop, crop, self.shape[2])
        return slice(first, first + crop), slice(MINIGRID_VIEW - crop, MINIGRID_VIEW)

    def batch(self, obs: Any) -> np.ndarray:
        """Observations of N environments, each entry already an array [N, ...]; may share memory with the input."""
        return self._encode(lambda path: _numbers(np.asarray(entry_of(obs, path))))

    def stack(self, obs: Sequence[Any]) -> np.ndarray:
        """A list of single observations as a new array [N, ...]."""
        return self._encode(lambda path: _numbers(np.stack([np.asarray(entry_of(one, path)) for one in obs])))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each number of an observation, [*shape] each, in the observations' dtype."""
        each = [leaf.bounds() for leaf in self.leaves]
        low, high = each[0] if self._single else (np.concatenate([np.ravel(pair[side]) for pair in each]) for side in (0, 1))
        if self._window is not None:
            low, high = low[self._window], high[self._window]
        return low.reshape(self.shape).astype(self._dtype), high.reshape(self.shape).astype(self._dtype)

    def _encode(self, get: Callable[[Path], np.ndarray]) -> np.ndarray:
        leaf = self._single
        if leaf is None:
            return np.concatenate([leaf.encode(get(leaf.path)) for leaf in self.leaves], axis=1)
        values = get(leaf.path)
        if leaf.kind == "choices":
            return leaf.encode(values)
        if self._window is not None:
            values = values[:, self._window[0], self._window[1]]
        elif not leaf.shape:
            values = values.reshape(-1, 1)
        return np.ascontiguousarray(values, self._dtype)


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in NUMBERS:  # numpy would read text, and drop imaginary parts
        raise TypeError(f"observations must be numbers, got an array of {values.dtype}")
    return values


def entry_of(obs: Any, path: Path) -> Any:
    """The entry of an observation at a leaf's path."""
    for key in path:
        obs = obs[key]
    return obs


def _select(space: gym.Space[Any], obs_keys: Sequence[str] | None, name: str) -> list[Leaf]:
    found = list(_leaves(space))
    leaves = [leaf for leaf in found if isinstance(leaf, Leaf)]
    if obs_keys is not None:
        return _by_key(leaves, obs_keys, name)
    if not leaves:
        raise SettingError(f"observations of {name} have no numeric form: {space}")
    if isinstance(space, gym.spaces.Dict) and {"image", "mission"} <= set(space.spaces):
        return _by_key(leaves, ("image",), name)
    vectors = [leaf for leaf in leaves if not leaf.image]
    if vectors:
        return vectors
    if len(leaves) > 1:
        raise SettingError(f"obs_keys must choose among the images of {name}: {', '.join(leaf.name for leaf in leaves)}")
    return leaves


def _by_key(leaves: list[Leaf], obs_keys: Sequence[str], name: str) -> list[Leaf]:
    if isinstance(obs_keys, str):
        obs_keys = (obs_keys,)
    if not obs_keys:
        raise SettingError("obs_keys must name at least one entry")
    if leaves and leaves[0].path == ():
        raise SettingError(f"obs_keys is for dict observations; those of {name} are a single array")
    chosen: list[Leaf] = []
    for key in obs_keys:
        matching = [leaf for leaf in leaves if leaf.name == key or leaf.name.startswith(f"{key}.")]
        if not matching:
            known = [leaf.name for leaf in leaves]
            raise SettingError(f"obs_keys: {name} has no numeric entry {key!r}, it has {', '.join(known)}{nearest(key, known)}")
        chosen += [leaf for leaf in matching if leaf not in chosen]
    return chosen
