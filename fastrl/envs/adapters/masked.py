"""EnvPool's environments with part of the observation hidden, so that acting well needs memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrl.envs.adapters.envpool import EnvPoolEnv
from fastrl.envs.masks import refuse_mask
from fastrl.envs.timestep import Advance


class MaskedEnv(EnvPoolEnv):
    """An environment of EnvPool of whose observation, a vector, only some columns are seen.

    Args:
        env_id: EnvPool's id.
        num_envs: N.
        name: the id of the masked environment.
        columns: entries of the observation that are kept, in this order.
        options: the other arguments of `EnvPoolEnv`.
    """

    def __init__(
        self, env_id: str, num_envs: int = 1, *, name: str, columns: Sequence[int], **options: Any
    ) -> None:
        refuse_mask(options.get("action_mask_key"), name)
        super().__init__(env_id, num_envs, **options)
        self.name = name
        self._columns = np.asarray(columns)
        self.obs_shape = (len(columns),)

    @property
    def obs_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the columns that are seen."""
        low, high = super().obs_bounds
        return low[self._columns], high[self._columns]

    @property
    def own_spaces(self) -> None:
        """None: EnvPool's space has what is not seen, too."""
        return None

    def obs_place(self, column: int) -> str:
        """As in the environment behind it."""
        return super().obs_place(int(self._columns[column]))

    def _reset_all(self) -> np.ndarray:
        return super()._reset_all().take(self._columns, axis=1)

    def _advance(self, actions: np.ndarray) -> Advance:
        advance = super()._advance(actions)
        return advance._replace(obs=advance.obs.take(self._columns, axis=1))
