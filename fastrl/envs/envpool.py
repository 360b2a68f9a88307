"""EnvPool's environments as a `VectorEnv`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from fastrl.envs.actions import ActionMap
from fastrl.envs.base import Advance, VectorEnv, environment_seeds
from fastrl.envs.observations import ObservationMap
from fastrl.envs.shared_core import new_threads, on_one_core
from fastrl.errors import SettingError, nearest
from fastrl.machine import available_cores

# these have arguments of their own in make_vector_env, or would change what a step returns
_RESERVED = ("num_envs", "batch_size", "num_threads", "seed", "env_seed", "max_episode_steps", "gym_reset_return_info")


def default_num_threads(num_envs: int) -> int:
    """Threads that step `num_envs` environments unless the user says otherwise: one each, no more than this process has cores."""
    return max(1, min(num_envs, available_cores()))


class EnvPoolEnv(VectorEnv):
    """Environments of EnvPool, stepped by its own threads.

    EnvPool resets on the step after a done by itself. Two of its habits show in the numbers: a termination on the very step of the time
    limit is reported as a truncation, and simulator state cannot be saved (`state_dict` is None).

    Atari: with `episodic_life` an episode to learn from ends with every life, while `pop_episodes` reports whole games; with `reward_clip`
    it reports unclipped scores.

    Args:
        env_id: one of EnvPool's ids.
        num_envs: N.
        seed: gives each environment a seed of its own.
        device: where tensors go.
        num_threads: threads that step the environments; None: one per environment, at most one per core.
        obs_keys: entries of a dict observation to take (see `ObservationMap`).
        max_episode_steps: another time limit.
        env_kwargs: options of the environment; `crop` for MiniGrid (see `ObservationMap`) and `num_actions` (see `ActionMap`).

    Raises:
        SettingError: an unknown or unusable option, or more than one player.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        num_threads: int | None = None,
        obs_keys: Sequence[str] | None = None,
        max_episode_steps: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        import envpool

        if num_envs < 1:
            raise SettingError(f"num_envs must be at least 1, got {num_envs}")
        options = dict(env_kwargs or {})
        crop, num_actions = options.pop("crop", None), options.pop("num_actions", None)
        config = _checked_config(env_id, options)
        if config.get("max_num_players", 1) > 1:
            raise SettingError(f"{env_id} has {config['max_num_players']} players; environments with one agent are supported")
        if max_episode_steps is not None:
            options["max_episode_steps"] = max_episode_steps
        threads = default_num_threads(num_envs) if num_threads is None else num_threads
        if threads < 1:
            raise SettingError(f"num_threads must be at least 1, got {threads}")
        seeds = environment_seeds(seed, num_envs)
        try:
            self._pool: Any
            self._pool, self._pool_threads = new_threads(
                lambda: envpool.make_gymnasium(env_id, num_envs=num_envs, num_threads=threads, seed=seeds, **options)
            )
        except TypeError as error:
            raise SettingError(f"env_kwargs: a value in {options} has the wrong type for {env_id}") from error
        except (ValueError, AssertionError, RuntimeError) as error:
            raise SettingError(f"{env_id} cannot be made with {options}: {error}") from error
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered.*")  # EnvPool's spaces; nothing a user could do about it
            self._observations = ObservationMap(self._pool.observation_space, obs_keys=obs_keys, crop=crop, name=env_id)
            self._actions = ActionMap(self._pool.action_space, num_actions=num_actions, name=env_id)
        self._reports_games = False
        super().__init__(
            name=env_id,
            num_envs=num_envs,
            obs_shape=self._observations.shape,
            obs_dtype=self._observations.torch_dtype,
            action=self._actions.spec,
            max_episode_steps=self._pool.config.get("max_episode_steps"),
            device=device,
            num_threads=threads,
            seeds=seeds,
        )

    @property
    def obs_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """As the environment's space says."""
        return self._observations.bounds()

    @property
    def own_spaces(self) -> tuple[Any, Any] | None:
        """EnvPool's own."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered.*")
            return self._pool.observation_space, self._pool.action_space

    def obs_place(self, column: int) -> str:
        """By the space's own names."""
        return self._observations.place(column)

    def many_steps(self) -> AbstractContextManager[None]:
        """With one thread, that thread and the caller's, of which one always waits for the other, share a core with EnvPool's helper."""
        if self.num_threads != 1 or torch.get_num_threads() != 1:  # threads that torch started inside would stay on that core
            return super().many_steps()
        return on_one_core(self._pool_threads)

    def _reset_all(self) -> np.ndarray:
        obs, info = self._pool.reset()
        self._reports_games = {"lives", "reward", "terminated"} <= info.keys()  # Atari: the whole game beside what is learned from
        return self._observations.batch(obs)

    def _advance(self, actions: np.ndarray) -> Advance:
        obs, reward, terminated, truncated, info = self._pool.step(self._actions.batch(actions))
        obs = self._observations.batch(obs)
        if self._reports_games:
            return Advance(obs, reward, terminated, truncated, None, info["reward"], truncated | (info["terminated"] != 0))
        return Advance(obs, reward, terminated, truncated)

    def _close(self) -> None:
        self._pool.close()


def _checked_config(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The environment's options by name; refuses what EnvPool would crash on or what has an argument of its own."""
    import envpool

    for key in options:
        if key in _RESERVED:
            raise SettingError(f"env_kwargs: {key} has an argument of its own or must keep its default")
        if key == "agent_view_size":
            raise SettingError("env_kwargs: agent_view_size corrupts memory inside EnvPool; use crop (1, 3 or 5 cells) for a smaller view")
    try:
        spec: Any = envpool.make_spec(env_id)
    except RuntimeError as error:  # Procgen without the system's Qt
        raise SettingError(f"{env_id} cannot be made: {error}") from error
    config = dict(zip(spec._config_keys, spec._config_values, strict=True))
    pixel_options = {"from_pixels", "render_mode", "render_env_id", "render_width", "render_height", "render_camera_id"}
    for key in options:
        if key not in config and key not in pixel_options:
            raise SettingError(f"env_kwargs: {env_id} has no option {key!r}{nearest(key, config)}")
    return config


def envpool_ids() -> list[str]:
    """All ids EnvPool has; none when it is not installed."""
    try:
        import envpool
    except ImportError:
        return []
    return list(envpool.list_all_envs())


def dm_control_id(name: str) -> str | None:
    """EnvPool's id of `dm_control/<domain>-<task>` or `dm_control/<domain>/<task>`; None when it has no such task.

    Hyphens, underscores and case do not matter, a version is ignored: `dm_control/ball_in_cup-catch-v0` is `BallInCupCatch-v1`.
    """
    task = re.sub(r"-v\d+$", "", name.removeprefix("dm_control/"))
    wanted = re.sub(r"[-_/]", "", task).lower() + "-v1"
    return next((env_id for env_id in envpool_ids() if env_id.lower() == wanted), None)
