"""Where masks of actions come from: an entry of dict observations, or of the infos.

Either way a mask becomes the last numbers of an observation, one for each choice of each branch, above 0
where the choice is allowed. So it is in every rollout, replay, checkpoint and evaluation that has the
observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.failures import ObservationFault
from fastrl.envs.observations import ObservationMap
from fastrl.errors import SettingError

IN_INFO = "info."  # how a key begins that names an entry of the infos


@dataclass(frozen=True)
class InfoMask:
    """A mask in infos, as one more entry of the observation.

    Args:
        key: as the setting names it, `info.<name>`.
        size: numbers of the mask.
    """

    key: str
    size: int

    @property
    def name(self) -> str:
        """The entry of the infos."""
        return self.key.removeprefix(IN_INFO)

    def space(self, space: gym.Space[Any]) -> gym.spaces.Dict:
        """The space of observations with the mask."""
        mask = gym.spaces.Box(0, 1, (self.size,), np.int8)
        inner = space.spaces if isinstance(space, gym.spaces.Dict) else {"observation": space}
        return gym.spaces.Dict({**inner, self.key: mask})

    def attach(self, obs: Any, info: Any) -> dict[str, Any]:
        """One observation with the mask of its info; where that has none nothing is allowed."""
        given = info.get(self.name) if isinstance(info, Mapping) else None
        return _with(obs, self.key, self._flat(given))

    def attach_all(self, obs: Any, infos: Any, num_envs: int) -> dict[str, Any]:
        """Observations [N, ...] of a vector environment with the masks of their infos."""
        if not isinstance(infos, Mapping):  # an info for each environment
            rows = [info.get(self.name) if isinstance(info, Mapping) else None for info in infos]
            return _with(obs, self.key, np.stack([self._flat(row) for row in rows]))
        given, there = infos.get(self.name), infos.get(f"_{self.name}")
        if given is None:
            masks = np.zeros((num_envs, self.size), np.float32)
        elif isinstance(given, np.ndarray):
            masks = np.stack([self._flat(row) for row in given])
        else:  # an array [N, n] for each branch
            branches = [np.asarray(branch) for branch in given]
            masks = np.stack([self._flat([branch[i] for branch in branches]) for i in range(num_envs)])
        if there is not None:
            masks[~np.asarray(there, bool)] = 0.0
        return _with(obs, self.key, masks)

    def attach_any(self, obs: Any) -> dict[str, Any]:
        """The last observation of an episode, after which nothing is chosen."""
        return _with(obs, self.key, np.ones(self.size, np.float32))

    def _flat(self, mask: Any) -> np.ndarray:
        """A mask, or one for each branch, as float32 [size]; None allows nothing."""
        if mask is None:
            return np.zeros(self.size, np.float32)
        parts = [mask] if isinstance(mask, np.ndarray) and mask.dtype != object else list(mask)
        flat = np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
        if flat.shape != (self.size,):
            raise ObservationFault(
                f"info[{self.name!r}] (action_mask_key) has {flat.size} numbers, its actions have "
                f"{self.size} choices"
            )
        return flat


def _with(obs: Any, key: str, mask: np.ndarray) -> dict[str, Any]:
    return {**obs, key: mask} if isinstance(obs, Mapping) else {"observation": obs, key: mask}


def observations_with_mask(
    space: gym.Space[Any],
    action: ActionSpec,
    key: str | None,
    *,
    obs_keys: Sequence[str] | None = None,
    crop: int | None = None,
    name: str = "",
) -> tuple[ObservationMap, InfoMask | None, ActionSpec]:
    """How observations with a mask become one array, where the mask is looked for, and what an action is.

    Args:
        space: observation space of one environment.
        action: what one action is without a mask.
        key: an entry of dict observations, `info.<name>` for one of the infos, or None: no mask.
        obs_keys, crop, name: as for `ObservationMap`.

    Raises:
        SettingError: there can be no mask, or the entry is none.
    """
    if key is None:
        return ObservationMap(space, obs_keys=obs_keys, crop=crop, name=name), None, action
    if action.kind == "continuous":
        raise SettingError(f"action_mask_key is for discrete actions; those of {name} are continuous")
    size = sum(action.nvec)
    info = InfoMask(key, size) if key.startswith(IN_INFO) else None
    space = space if info is None else info.space(space)
    found = ObservationMap(space, obs_keys=obs_keys, crop=crop, name=name, mask=(key, size))
    return found, info, replace(action, masked=True)
