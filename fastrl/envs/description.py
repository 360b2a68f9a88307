"""Environments described by plain values: what a policy must know of them to act, without any being made."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import torch

from fastrl.envs.action_scale import RawActionsWarning
from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.base import Advance, VectorEnv
from fastrl.errors import SettingError

DTYPES = {"float32": torch.float32, "uint8": torch.uint8}
LARGEST = 2**31  # of any whole number in a description
KINDS = ("discrete", "multi_discrete", "continuous")


def description_of(env: VectorEnv) -> dict[str, Any]:
    """What environments are, as plain values and arrays.

    Entries: "name", "obs_shape", "obs_dtype" (its name), "action_kind", "action_shape", "nvec", "masked",
    "low" and "high" (arrays [A] in the environment's own units and dtype, or None), "scale_actions",
    "max_episode_steps", "numbering" (see `ActionMap.numbering`, or None).
    """
    action = env.own_action
    return {
        "name": env.name,
        "obs_shape": list(env.obs_shape),
        "obs_dtype": str(env.obs_dtype).removeprefix("torch."),
        "action_kind": action.kind,
        "action_shape": list(action.shape),
        "nvec": list(action.nvec),
        "masked": action.masked,
        "low": None if action.low is None else action.low.cpu().numpy().copy(),
        "high": None if action.high is None else action.high.cpu().numpy().copy(),
        "scale_actions": env.scale_actions,
        "max_episode_steps": env.max_episode_steps,
        "numbering": env._actions.numbering() if hasattr(env, "_actions") else None,
    }


class DescribedEnvs(VectorEnv):
    """Environments that exist as a description only: they tell their spaces and cannot be stepped.

    Args:
        description: what `description_of` returned.
        device: where observations would go.

    Raises:
        ValueError, TypeError, KeyError, SettingError: it is no such description.
    """

    def __init__(self, description: Mapping[str, Any], device: torch.device | str) -> None:
        obs_shape, shape, nvec = (
            _whole_numbers(name, description[name]) for name in ("obs_shape", "action_shape", "nvec")
        )
        limit = description["max_episode_steps"]
        if limit is not None:
            (limit,) = _whole_numbers("max_episode_steps", [limit])
        low, high = (
            None if bound is None else torch.as_tensor(np.asarray(bound))
            for bound in (description["low"], description["high"])
        )
        kind = description["action_kind"]
        bounded = low is not None and high is not None and low.shape == high.shape == shape
        masked = bool(description.get("masked", False))  # earlier checkpoints do not say
        if masked and sum(nvec) > math.prod(obs_shape):
            raise ValueError("the observations have no room for a mask of the actions")
        if kind not in KINDS or bounded != (kind == "continuous"):
            raise ValueError(f"action_kind {kind!r} does not fit the shape and bounds of the actions")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RawActionsWarning)  # said of the training environments
            super().__init__(
                name=str(description["name"]),
                num_envs=1,
                obs_shape=obs_shape,
                obs_dtype=DTYPES[description["obs_dtype"]],
                action=ActionSpec(kind, shape, nvec, low, high, masked=masked),
                max_episode_steps=limit,
                device=device,
                scale_actions=bool(description["scale_actions"]),
            )
        floats = None if low is None else str(low.dtype).removeprefix("torch.")
        default = {"start": [0], "shape": list(shape), "dtype": floats or "int64"}
        numbering: Mapping[str, Any] = description["numbering"] or default
        self._start = np.asarray(numbering["start"], np.int64)
        self._own_shape = _whole_numbers("numbering", numbering["shape"])
        self._own_dtype = np.dtype(str(numbering["dtype"]))

    def own_actions(self, actions: np.ndarray) -> np.ndarray:
        """A policy's actions [B, ...] as the environment takes them: units, numbering, shape and dtype."""
        own = self.action.check(actions, len(actions))
        if self._scale is not None:
            own = self._scale.to_environment(own)
        if self.action.kind != "continuous":
            own = own + (self._start if own.ndim > 1 else self._start[0])
        return own.astype(self._own_dtype, copy=False).reshape(len(own), *self._own_shape)

    def _refuse(self) -> NoReturn:
        raise SettingError(f"{self.name} is known by its description only: there are no environments to step")

    def _reset_all(self) -> np.ndarray:
        self._refuse()

    def _advance(self, actions: np.ndarray) -> Advance:
        self._refuse()


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    numbers = tuple(values)
    if not all(type(value) is int and 0 <= value < LARGEST for value in numbers):
        raise ValueError(f"{name} must hold whole numbers, got {numbers}")
    return numbers
