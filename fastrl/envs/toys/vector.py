"""The toy environments for trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fastrl.envs.base import VectorEnv, environment_seeds
from fastrl.envs.timestep import Advance
from fastrl.envs.toys import make_dynamics
from fastrl.errors import SettingError


class ToyVectorEnv(VectorEnv):
    """A toy environment for trainers.

    Args:
        env_id: a key of `TOYS`.
        num_envs: N.
        seed: gives each environment a seed of its own; or `seeds`, one per environment.
        device: where tensors go.
        max_episode_steps, env_kwargs: options of the dynamics.
        scale_actions: see `VectorEnv`.

    Attributes:
        optimal_return: return of the best policy, averaged over starts; None where it is not known.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
        max_episode_steps: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        scale_actions: bool = True,
    ) -> None:
        if num_envs < 1:
            raise SettingError(f"num_envs must be at least 1, got {num_envs}")
        options = dict(env_kwargs or {})
        if max_episode_steps is not None:
            options["max_episode_steps"] = max_episode_steps
        each = environment_seeds(seed, num_envs) if seeds is None else list(seeds)
        self.dynamics = make_dynamics(env_id, each, options)
        super().__init__(
            name=env_id,
            num_envs=num_envs,
            obs_shape=self.dynamics.obs_shape or (self.dynamics.obs_size,),
            obs_dtype=self.dynamics.obs_dtype,
            action=self.dynamics.action,
            max_episode_steps=self.dynamics.max_episode_steps,
            device=device,
            seeds=each,
            scale_actions=scale_actions,
        )

    @property
    def optimal_return(self) -> float | None:
        """Return of the best policy, averaged over starts."""
        return self.dynamics.optimal_return

    @property
    def reference_returns(self) -> Mapping[str, float]:
        """The optimum, and the best return without memory, where they are known."""
        known = {
            "optimum": self.dynamics.optimal_return,
            "best without memory": self.dynamics.memoryless_return,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _reset_all(self) -> np.ndarray:
        self.dynamics.start(np.ones(self.num_envs, bool))
        return self.dynamics.observe()

    def _advance(self, actions: np.ndarray) -> Advance:
        reward, terminated, truncated = self.dynamics.step(actions, ~self._done)
        if self._any_done:
            self.dynamics.start(self._done)
            reward[self._done] = self.dynamics.reset_reward
        return Advance(self.dynamics.observe(), reward, terminated, truncated)

    def state_dict(self) -> dict[str, Any]:
        """State of the dynamics, their random streams and the episode statistics."""
        return {
            "env": self.name,
            "dynamics": self.dynamics.state_dict(),
            "statistics": self._statistics_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; the random streams go on as those of the environment's own seed.

        Raises:
            ValueError: it is of other environments, or is none.
        """
        statistics = state.get("statistics") if isinstance(state, Mapping) else None
        if not isinstance(statistics, Mapping) or set(state) != {"env", "dynamics", "statistics"}:
            raise ValueError(f"this is no state of {self.name}")
        done = statistics.get("done")
        count = done.size if isinstance(done, np.ndarray) else 0
        if (state["env"], count) != (self.name, self.num_envs):
            raise ValueError(
                f"the state is of {count} x {state['env']}, this is {self.num_envs} x {self.name}"
            )
        self.dynamics.load_state_dict(state["dynamics"])
        self._load_statistics(state["statistics"])
