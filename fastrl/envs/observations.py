"""From any Gymnasium observation space to one array per environment: float32, or uint8 images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.bounds import require_few_choices
from fastrl.envs.failures import ObservationFault
from fastrl.envs.observation_entries import Leaf, entries
from fastrl.errors import SettingError, nearest

MINIGRID_VIEW = 7  # cells on a side of MiniGrid's egocentric view


class ObservationMap:
    """Turns observations of one space into one array.

    - A single entry keeps its shape. Images (uint8 with two axes or more) stay uint8, everything else becomes
      float32; discrete entries become one-hot.
    - Several entries are flattened and concatenated as float32, in alphabetical order of their keys, or in
      the order of `obs_keys`.
    - Bytes that become float32, because they are a vector or beside other entries, are divided by 255 where
      their bounds are 0 and 255.
    - Without `obs_keys`, the images of a dict are left out, with a warning that names them, and so are
      entries without a numeric form; of a MiniGrid observation (`image` beside `mission`) the image is taken.
    - What does not fit the space is an `ObservationFault`: floats where bytes are declared, choices that the
      space does not have.

    Args:
        space: observation space of one environment.
        obs_keys: entries to take, by key; "a.b" for an entry b of a nested dict a; a key of a nested dict
            takes all of it.
        crop: None, or the side of a smaller MiniGrid view, an odd number up to 7: the cells nearest to the
            agent. The image is indexed [x][y] with the agent at [3][6], so 3 is `image[2:5, 4:7]`, with the
            agent at [1][2].
        name: the environment's, for messages.
        mask: key and numbers of the entry that is a mask of actions, which comes last whatever `obs_keys`
            says; None: there is none.

    Raises:
        SettingError: nothing usable in the space, an unknown key, or a crop or mask that does not fit.
    """

    def __init__(
        self,
        space: gym.Space[Any],
        *,
        obs_keys: Sequence[str] | None = None,
        crop: int | None = None,
        name: str = "",
        mask: tuple[str, int] | None = None,
    ) -> None:
        self.leaves = (
            _select(space, obs_keys, name) if mask is None else _masked(space, obs_keys, name, *mask)
        )
        left_out = left_out_entries(space, self.leaves) if obs_keys is None else {}
        if left_out:
            warnings.warn(_left_out_sentence(left_out, self.leaves, name), stacklevel=3)
        only = self.leaves[0] if len(self.leaves) == 1 and mask is None else None
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
            raise SettingError(
                f"crop is for MiniGrid images of shape [7, 7, 3]; observations of {name} have shape "
                f"{list(self.shape)}"
            )
        if crop not in (1, 3, 5, 7):
            raise SettingError(f"crop must be 1, 3, 5 or 7 cells, got {crop!r}")
        first = (MINIGRID_VIEW - crop) // 2
        self.shape = (crop, crop, self.shape[2])
        return slice(first, first + crop), slice(MINIGRID_VIEW - crop, MINIGRID_VIEW)

    def batch(self, obs: Any) -> np.ndarray:
        """Observations of N environments, entries being arrays [N, ...]; may share memory with the input."""
        return self._encode(lambda leaf: np.asarray(dig(obs, leaf)))

    def stack(self, obs: Sequence[Any]) -> np.ndarray:
        """A list of single observations as a new array [N, ...]."""
        return self._encode(lambda leaf: _stacked([dig(one, leaf) for one in obs], leaf))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest observation, [*shape] each, in the observations' dtype."""
        each = [leaf.declared_bounds() if self._stays_uint8 else leaf.bounds() for leaf in self.leaves]
        low, high = (
            each[0]
            if self._single
            else (np.concatenate([np.ravel(pair[side]) for pair in each]) for side in (0, 1))
        )
        if self._window is not None:
            low, high = low[self._window], high[self._window]
        return low.reshape(self.shape).astype(self._dtype), high.reshape(self.shape).astype(self._dtype)

    def place(self, column: int) -> str:
        """Where in the environment's observation a number of the flattened array comes from, for messages."""
        if self._single is not None:
            return _place(self._single, self.shape, column)
        for leaf in self.leaves:
            if column < leaf.size:
                return _place(leaf, leaf.shape, column)
            column -= leaf.size
        raise IndexError(f"column {column} is beyond the observation")

    def _encode(self, get: Callable[[Leaf], np.ndarray]) -> np.ndarray:
        leaf = self._single
        if leaf is None:
            return np.concatenate([leaf.encode(leaf.shaped(get(leaf))) for leaf in self.leaves], axis=1)
        values = get(leaf)
        if leaf.kind == "choices":
            return leaf.encode(values)
        values = leaf.checked(values)
        if self._window is not None:
            values = values[:, self._window[0], self._window[1]]
        elif not leaf.shape:
            values = values.reshape(-1, 1)
        numbers: Any = np.ascontiguousarray(values, self._dtype)
        return numbers / np.float32(255) if leaf.scaled and not self._stays_uint8 else numbers


def dig(obs: Any, leaf: Leaf) -> Any:
    try:
        for key in leaf.path:
            obs = obs[key]
    except (KeyError, IndexError, TypeError) as error:
        raise ObservationFault(
            f"the observation lacks {leaf.name!r}, which its space declares; it is {_kind_of(obs)}"
        ) from error
    return obs


def _kind_of(obs: Any) -> str:
    return f"a dict of {', '.join(map(repr, obs))}" if isinstance(obs, Mapping) else type(obs).__name__


def _stacked(values: Sequence[Any], leaf: Leaf) -> np.ndarray:
    """The entry of each environment as one array [N, ...]; they have to have one shape."""
    arrays = [np.asarray(value) for value in values]
    try:
        return np.stack(arrays)
    except ValueError as error:
        row = next(i for i, array in enumerate(arrays) if array.shape != leaf.shape)
        fault = f"{leaf.called} has shape {list(arrays[row].shape)}, its space declares {list(leaf.shape)}"
        raise ObservationFault(fault, row) from error


def _place(leaf: Leaf, shape: tuple[int, ...], column: int) -> str:
    if leaf.size == 1:
        return leaf.called
    index = np.unravel_index(column, shape) if leaf.kind == "box" else (column,)
    return f"{leaf.called} at {[int(i) for i in index]}"


def is_minigrid(space: gym.Space[Any]) -> bool:
    """Whether it is the observation of MiniGrid and its relatives, whose `image` is taken alone."""
    return isinstance(space, gym.spaces.Dict) and {"image", "mission"} <= set(space.spaces)


def left_out_entries(space: gym.Space[Any], taken: Sequence[Leaf]) -> dict[str, str]:
    """Entries of a space that are not taken, and what they are; none for MiniGrid."""
    if is_minigrid(space):
        return {}
    found: dict[str, str] = {}
    for entry in entries(space):
        if not isinstance(entry, Leaf):
            found[".".join(map(str, entry))] = "no numbers"
        elif entry not in taken:
            found[entry.name] = entry.described
    return found


def _left_out_sentence(left_out: Mapping[str, str], taken: Sequence[Leaf], name: str) -> str:
    listed = " and ".join(f"{entry!r} ({what})" for entry, what in left_out.items())
    seen = ", ".join(repr(leaf.name) for leaf in taken)
    return (
        f"observations of {name or 'this space'}: {listed} left out; seen is {seen} alone. obs_keys chooses "
        "other entries"
    )


def _masked(
    space: gym.Space[Any], obs_keys: Sequence[str] | None, name: str, key: str, size: int
) -> list[Leaf]:
    """What is seen, and behind it the entries of the mask."""
    leaves = [leaf for leaf in entries(space) if isinstance(leaf, Leaf)]
    mask = [leaf for leaf in leaves if leaf.name == key or leaf.name.startswith(f"{key}.")]
    if not mask:
        known = [leaf.name for leaf in leaves if leaf.path]
        there = f"it has {', '.join(known)}{nearest(key, known)}" if known else "they are a single array"
        raise SettingError(f"action_mask_key: observations of {name} have no entry {key!r}, {there}")
    numbers = sum(leaf.size for leaf in mask)
    if any(leaf.kind != "box" for leaf in mask) or numbers != size:
        described = " and ".join(leaf.described for leaf in mask)
        raise SettingError(
            f"action_mask_key: {key!r} of {name} must be {size} flags, one for each choice; it is {described}"
        )
    seen = _select(space, obs_keys, name, without=mask)
    if images := [leaf for leaf in seen if leaf.image]:
        raise SettingError(
            f"action_mask_key goes with observations that are vectors; {images[0].name!r} of {name} is "
            f"{images[0].described}: choose others with obs_keys"
        )
    return [*seen, *mask]


def _select(
    space: gym.Space[Any], obs_keys: Sequence[str] | None, name: str, without: Sequence[Leaf] = ()
) -> list[Leaf]:
    found = list(entries(space))
    leaves = [leaf for leaf in found if isinstance(leaf, Leaf) and leaf not in without]
    for leaf in leaves:
        require_few_choices(f"observations of {name}", space, leaf.nvec)
    if obs_keys is not None:
        return _by_key(leaves, obs_keys, name)
    if not leaves and without:
        return []
    if not leaves:
        raise SettingError(f"observations of {name} have no numeric form: {space}")
    if is_minigrid(space):
        return _by_key(leaves, ("image",), name)
    vectors = [leaf for leaf in leaves if not leaf.image]
    if vectors:
        return vectors
    if len(leaves) > 1:
        raise SettingError(
            f"obs_keys must choose among the images of {name}: {', '.join(leaf.name for leaf in leaves)}"
        )
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
            raise SettingError(
                f"obs_keys: {name} has no numeric entry {key!r}, it has "
                f"{', '.join(known)}{nearest(key, known)}"
            )
        chosen += [leaf for leaf in matching if leaf not in chosen]
    return chosen
