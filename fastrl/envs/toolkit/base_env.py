"""What an environment of the policy-gradient toolkit is: a single one, stepped with numpy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from fastrl.envs.space_info import SpaceInfo


class BaseEnv(ABC):
    """One environment of the toolkit.

    A subclass gives the abstract methods; `_create_env` is called once, by the constructor.

    Args:
        env_name: the environment's name.

    Attributes:
        env_name: the same.
        env: what `_create_env` returned.
    """

    def __init__(self, env_name: str) -> None:
        self.env_name = env_name
        self.env = self._create_env()

    @abstractmethod
    def get_state_info(self) -> SpaceInfo:
        """Shape, kind, dtype and bounds of a state. Does not touch the environment."""

    @abstractmethod
    def get_action_info(self) -> SpaceInfo:
        """Shape, kind, dtype and bounds of an action. Does not touch the environment."""

    @property
    @abstractmethod
    def simulator(self) -> str:
        """Name of the simulator."""

    @abstractmethod
    def _create_env(self) -> Any:
        """The environment object, made from the name."""

    @abstractmethod
    def reset(self) -> np.ndarray:
        """Start an episode; its first state."""

    @abstractmethod
    def step(self, action: Any) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Step once: (next_state, reward, done, info)."""

    def update_config(self, config: Any) -> None:
        """Give a configuration the section `env`, from which the environment can be made again.

        Args:
            config: a `Config`, or any object with `new_section(name, **entries)`.
        """
        config.new_section("env", **self._config_section())

    def _config_section(self) -> dict[str, Any]:
        kind = type(self)
        module = (
            "fastrl.envs" if kind.__module__.startswith("fastrl.envs.") else kind.__module__
        )  # where users import it from
        infos = {"state_info": self.get_state_info().plain(), "action_info": self.get_action_info().plain()}
        return {"func": f"{module}.{kind.__qualname__}", "env_name": self.env_name, **infos}
