"""What the toolkit tells about a space: shape, kind, dtype and bounds, in a dict read by attribute too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrl.errors import SettingError

if TYPE_CHECKING:
    import gymnasium as gym

BOUNDS = ("low_bound", "high_bound")


class SpaceInfo(dict[str, Any]):
    """A dict whose entries are attributes: `info.shape` is `info["shape"]`.

    Entries:
        shape: a tuple; of discrete spaces the number of choices, an int.
        space: "continuous", "discrete" or "multi_discrete".
        dtype: the dtype's name: "float32", "uint8", "int64".
        low_bound, high_bound: arrays of that shape, of continuous spaces only.
        nvec: tuple of numbers of choices, of multi-discrete spaces only.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"there is no {name!r} of a space that is {self.get('space')}; it has {', '.join(self)}"
            ) from None

    def plain(self) -> dict[str, Any]:
        """A new dict of numbers, strings and lists, without the bounds: what a file can hold."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.items()
            if key not in BOUNDS
        }


def space_info(space: gym.Space[Any]) -> SpaceInfo:
    """The description of a Gymnasium space.

    Raises:
        SettingError: the space is neither Box, Discrete nor MultiDiscrete.
    """
    import gymnasium as gym

    dtype = str(space.dtype)
    if isinstance(space, gym.spaces.Box):
        bounds = {"low_bound": space.low.copy(), "high_bound": space.high.copy()}
        return SpaceInfo(shape=tuple(space.shape), space="continuous", dtype=dtype, **bounds)
    if isinstance(space, gym.spaces.Discrete):
        return SpaceInfo(shape=int(space.n), space="discrete", dtype=dtype)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return SpaceInfo(
            shape=tuple(space.shape),
            space="multi_discrete",
            dtype=dtype,
            nvec=tuple(np.ravel(space.nvec).tolist()),
        )
    raise SettingError(f"space must be Box, Discrete or MultiDiscrete, got {space}")


def require_same(name: str, found: SpaceInfo, expected: Mapping[str, Any] | None) -> None:
    """Raises SettingError unless the description is as expected in every entry that both have."""
    for key, value in found.plain().items():
        wanted = value if expected is None else expected.get(key, value)
        wanted = list(wanted) if isinstance(wanted, tuple) else wanted
        if wanted != value:
            raise SettingError(f"{name}: the environment has {key} {value}, the configuration says {wanted}")
