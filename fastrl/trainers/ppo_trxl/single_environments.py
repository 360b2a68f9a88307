"""Single Gymnasium environments of a trainer that steps vector environments: for films, and for evaluating by
hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

from fastrl.envs import VectorEnv
from fastrl.envs.adapters.time_limit import time_limit
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError
from fastrl.runs.evaluation import Evaluation
from fastrl.runs.seeding import derived_seed
from fastrl.runs.trainer import Trainer
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.video import OF_THE_STREAM, record_episode


class SingleEnvironmentTrainer(Trainer):
    """The part of `PPOTRxLTrainer` that makes them."""

    config: PPOTrXLConfig
    run_name: str
    video_folder: Path  # of the run, while `train` goes on
    _eval_env: gym.Env | None = None

    def evaluate(self, n_episodes: int = 10, seed: int | None = 42) -> Evaluation:
        """Play whole episodes with the most probable actions in environments of their own; see
        `Trainer.evaluate`.

        With `capture_video`, one more episode is recorded into the run folder while `train` goes on.

        Args:
            n_episodes: episodes, ≥ 1.
            seed: seed of those environments; None derives one from the run's seed, as the evaluations of
                `train` do.
        """
        metrics = super().evaluate(n_episodes, seed)
        if self.config.capture_video and hasattr(self, "video_folder") and metrics:
            self._record(derived_seed(self.seed, "video", self.env_steps) if seed is None else seed)
        return metrics

    def _record(self, seed: int) -> None:
        env = self._make_env(seed=seed, env_index=0, record_video=True)
        try:
            record_episode(self.actor(1), env, seed, options=self.env_options)
        finally:
            self._close_env(env)

    def _make_env(self, *, seed: int, env_index: int, record_video: bool) -> gym.Env:
        """One Gymnasium environment with episode statistics, seeded `seed + env_index`; environment 0 records
        video if asked to.

        It has the trainer's `env_kwargs` and `max_episode_steps`, and takes actions in its own units (see
        `fastrl.envs.ActionScale`).
        """
        recorded = record_video and env_index == 0
        if not self.can_make_envs:
            raise SettingError(
                "env_id is an environment object, which cannot be made again; give an id or a factory"
            )
        assert not isinstance(self.config.env_id, gym.Env | VectorEnv)
        options = self._drawing_options() if recorded else self.env_options["env_kwargs"]
        env = make_gymnasium_env(
            self.config.env_id, max_episode_steps=self.config.max_episode_steps, options=options
        )
        env.action_space.seed(seed + env_index)
        env.reset(seed=seed + env_index)  # before a recorder would take it for an episode
        if recorded:
            folder = getattr(self, "video_folder", Path("videos"))
            env = gym.wrappers.RecordVideo(
                env,
                str(folder),
                name_prefix=f"{self.run_name}-{self.env_steps}",
                episode_trigger=lambda _: True,
            )
        return gym.wrappers.RecordEpisodeStatistics(env)

    def _drawing_options(self) -> dict[str, Any]:
        """Arguments of an environment that can be drawn."""
        own = self.env_options["env_kwargs"] or {}
        return {
            "render_mode": "rgb_array",
            **{name: value for name, value in own.items() if name not in OF_THE_STREAM},
        }

    def _get_eval_env(self, seed: int) -> gym.Env:
        """A single Gymnasium environment for evaluating by hand: made once, then kept, and reset with
        `seed`."""
        if self._eval_env is None:
            self._eval_env = self._make_env(seed=seed, env_index=0, record_video=False)
        self._eval_env.reset(seed=seed)
        return self._eval_env

    @staticmethod
    def _close_env(env: gym.Env | None) -> None:
        """Close an environment if there is one; an error on the way out is not hidden."""
        if env is not None:
            env.close()

    def _resolve_max_episode_steps(self, env: gym.Env) -> int:
        """The longest episode of a Gymnasium environment in steps, as its wrappers or the environment itself
        tell.

        Raises:
            SettingError: neither tells.
        """
        if self.config.max_episode_steps is not None:
            return self.config.max_episode_steps
        limit = time_limit(env)
        if limit is None:
            raise SettingError(
                f"max_episode_steps must be given, since {env} does not tell its limit; or set endless"
            )
        return limit

    def close(self) -> None:
        """Close the environments."""
        self._close_env(self._eval_env)
        self._eval_env = None
        super().close()
