"""What a family of environments is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrl.envs.base import VectorEnv
from fastrl.envs.vector_settings import VectorSettings

if TYPE_CHECKING:
    import gymnasium as gym


class Family(ABC):
    """One kind of environments.

    Attributes:
        source: whose they are: "fastrl", "envpool" or "gymnasium".
        listed_under: beginning of what is looked for, where its ids are listed only then.
    """

    source: str = "gymnasium"
    listed_under: str = ""

    @abstractmethod
    def has(self, env: Any) -> bool:
        """Whether an id or object is of this family.

        Raises:
            SettingError: it can be of no other, and this one does not have it.
        """

    @abstractmethod
    def make_vector(self, env: Any, settings: VectorSettings) -> VectorEnv:
        """N of them."""

    @abstractmethod
    def make_single(
        self, env: Any, options: Mapping[str, Any], max_episode_steps: int | None
    ) -> gym.Env[Any, Any]:
        """One of them, as Gymnasium or a user made it.

        Raises:
            SettingError: there is none.
        """

    def ids(self) -> list[str]:
        """Its ids; none where they cannot be told."""
        return []
