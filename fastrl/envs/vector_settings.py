"""The arguments of `make_vector_env` beside the environment, checked, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastrl.errors import SettingError
from fastrl.machine import require_envs, require_threads, require_whole

_MAP_OPTIONS = ("crop", "num_actions")  # of `env_kwargs`, those that fastrl applies to any environment


@dataclass(frozen=True, kw_only=True)
class VectorSettings:
    """What `make_vector_env` documents, and a name for messages.

    Raises:
        SettingError: a number out of range, or options that are not given by name.
    """

    num_envs: int = 1
    seed: int = 0
    device: torch.device | str = "cpu"
    num_threads: int | None = None
    obs_keys: Sequence[str] | None = None
    max_episode_steps: int | None = None
    env_kwargs: Mapping[str, Any] | None = None
    scale_actions: bool = True
    autoreset_mode: Any = None
    action_mask_key: str | None = None
    name: str | None = None  # None: as the environment calls itself

    def __post_init__(self) -> None:
        require_envs(self.num_envs)
        require_threads("num_threads", self.num_threads)
        require_whole("seed", self.seed, least=0)
        require_whole("max_episode_steps", self.max_episode_steps)
        options = self.env_kwargs
        if options is not None and not (
            isinstance(options, Mapping) and all(isinstance(name, str) for name in options)
        ):
            raise SettingError(f"env_kwargs must be options by name, got {options!r}")

    @property
    def placement(self) -> dict[str, Any]:
        """Where tensors go, what they are in, and the seed: arguments of every `VectorEnv`."""
        return {"seed": self.seed, "device": self.device, "scale_actions": self.scale_actions}

    @property
    def view(self) -> dict[str, Any]:
        """What is taken of observations: arguments of every adapter."""
        return {"obs_keys": self.obs_keys, "action_mask_key": self.action_mask_key}

    def refuse_mask(self, name: str) -> None:
        """Raises SettingError where a mask is asked for of environments that have none."""
        if self.action_mask_key is not None:
            raise SettingError(
                f"action_mask_key is {self.action_mask_key!r}, but {name} gives no masks of actions"
            )

    def named(self, name: str) -> VectorSettings:
        """The same, with a name for messages."""
        return replace(self, name=name)

    def with_options(self, options: Mapping[str, Any]) -> VectorSettings:
        """The same, with other `env_kwargs`."""
        return replace(self, env_kwargs=options)

    def mode_and_options(self) -> tuple[Any, dict[str, Any]]:
        """The autoreset mode, wherever it was given, and the other options."""
        options = dict(self.env_kwargs or {})
        told = options.pop("autoreset_mode", None)
        return (told if self.autoreset_mode is None else self.autoreset_mode), options


def split_options(env_kwargs: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the environment itself, and `crop` and `num_actions` where they are given."""
    options = dict(env_kwargs or {})
    maps = {key: options.pop(key) for key in _MAP_OPTIONS if key in options}
    return options, {key: value for key, value in maps.items() if value is not None}
