"""In place of environments, which are never copied: what they were, without anything to step."""

from __future__ import annotations

import warnings
from typing import NoReturn

import numpy as np
from torch import Tensor

from fastrl.envs.action_scale import RawActionsWarning
from fastrl.envs.base import Advance, Timestep, VectorEnv
from fastrl.errors import SettingError


class AbsentEnvs(VectorEnv):
    """Tells what a copied object's environments were: number, shapes, actions, limit.

    Stepping them is an error that says what to do.

    Args:
        env: the environments of the original; they stay its own.
        advice: what to do, the end of the message.
    """

    def __init__(self, env: VectorEnv, advice: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RawActionsWarning)  # said of the original
            super().__init__(
                name=env.name,
                num_envs=env.num_envs,
                obs_shape=env.obs_shape,
                obs_dtype=env.obs_dtype,
                action=env.own_action,
                max_episode_steps=env.max_episode_steps,
                device=env.device,
                scale_actions=env.scale_actions,
                obs_layout=env.obs_layout,
            )
        self._bounds = env.obs_bounds
        self.advice = advice

    @property
    def obs_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the original."""
        return self._bounds

    def _refuse(self) -> NoReturn:
        raise SettingError(
            f"a copy has no environments, those of {self.name} stayed with the original: {self.advice}"
        )

    def reset(self) -> Tensor:
        """Refused, as `step` is."""
        self._refuse()

    def step(self, actions: Tensor | np.ndarray) -> Timestep:
        """Refused."""
        self._refuse()

    def _reset_all(self) -> np.ndarray:
        self._refuse()

    def _advance(self, actions: np.ndarray) -> Advance:
        self._refuse()
