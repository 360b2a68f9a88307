"""Documented helpers: single Gymnasium environments to step by hand, and selection along an axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from fastrl import ops
from fastrl.data.memory_ring import window_tables
from fastrl.envs.adapters.time_limit import time_limit
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError
from fastrl.runs.video import make_recorded_env, record_episode
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.learner import PPOTrXLLearner
from fastrl.trainers.ppo_trxl.networks import TrXLAgent


class DocumentedHelpers:
    """Documented private methods of `PPOTrXLTrainer`, and the videos of its evaluations.

    Single environments are Gymnasium's, like those of training, with actions in their own units.
    """

    config: PPOTrXLConfig
    run_name: str
    env_steps: int
    run_folder: Path | None
    can_make_envs: bool
    learner: PPOTrXLLearner
    _kept_env: gym.Env[Any, Any] | None = None  # of `_get_eval_env`

    @property
    def agent(self) -> TrXLAgent:
        """The network."""
        return self.learner.agent

    def _make_env(self, *, seed: int, env_index: int, record_video: bool) -> gym.Env[Any, Any]:
        """One Gymnasium environment with episode statistics, seeded `seed + env_index`.

        Environment 0 records video if asked to, into the folder of the run.

        Raises:
            SettingError: it cannot be made again, or not with these options.
        """
        config, chosen = self.config, seed + env_index
        if not self.can_make_envs:
            raise SettingError(
                "env_id is an environment object, which cannot be made again; give an id or a factory"
            )
        if record_video and env_index == 0:
            env = make_recorded_env(config.env_id, seed=chosen, **self._video_options())
        else:
            env = make_gymnasium_env(
                config.env_id, max_episode_steps=config.max_episode_steps, options=config.env_kwargs
            )
            env.action_space.seed(chosen)
            env.reset(seed=chosen)
        return gym.wrappers.RecordEpisodeStatistics(env)

    def _get_eval_env(self, seed: int) -> gym.Env[Any, Any]:
        """A single Gymnasium environment for evaluating by hand: made once, then kept, reset with `seed`."""
        if self._kept_env is None:
            self._kept_env = self._make_env(seed=seed, env_index=0, record_video=False)
        self._kept_env.reset(seed=seed)
        return self._kept_env

    @staticmethod
    def _close_env(env: gym.Env[Any, Any] | None) -> None:
        """Close an environment if there is one; an error on the way out is not hidden."""
        if env is not None:
            env.close()

    def close(self) -> None:
        """Close the environments."""
        env, self._kept_env = self._kept_env, None
        self._close_env(env)
        super().close()  # type: ignore[misc]  # of `Trainer`

    def _resolve_max_episode_steps(self, env: gym.Env[Any, Any]) -> int:
        """The longest episode of a Gymnasium environment in steps, as configured or as it tells.

        Raises:
            SettingError: nobody tells.
        """
        configured = self.config.max_episode_steps
        limit = time_limit(env) if configured is None else configured
        if limit is None:
            raise SettingError(
                f"max_episode_steps must be given, since {env} does not tell its limit; or set endless"
            )
        return limit

    @staticmethod
    def _build_memory_helpers(
        *, memory_length: int, max_episode_steps: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """(mask [W + 1, W] bool, indices [P, W] int64): which slots a step of an episode sees.

        They are drawn in `fastrl.data.memory_ring.window_tables`.
        """
        return window_tables(memory_length, max_episode_steps, device)

    def record_video(self, seed: int) -> None:
        """Record an episode with the most probable actions into the run folder; nothing without one."""
        trainer: Any = self
        if self.run_folder is not None:
            options = self._video_options()
            options["options"] |= {"obs_keys": self.config.obs_keys}
            with trainer.session():
                record_episode(trainer.actor(1), self.config.env_id, seed=seed, **options)

    def _video_options(self) -> dict[str, Any]:
        """Folder, name and options of a recorded environment."""
        config = self.config
        return {
            "folder": Path("videos") if self.run_folder is None else self.run_folder / "videos",
            "name": f"{self.run_name}-{self.env_steps}",
            "options": {"max_episode_steps": config.max_episode_steps, "env_kwargs": config.env_kwargs},
        }


def batched_index_select(input_tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Every sample selects for itself along one axis: see `fastrl.ops.batched_index_select`.

    Args:
        input_tensor: [B, ...].
        dim: the axis to select from, not the first.
        index: [B, W] int64.

    Returns:
        As input_tensor, with W entries along `dim`.
    """
    return ops.batched_index_select(input_tensor, dim, index)
