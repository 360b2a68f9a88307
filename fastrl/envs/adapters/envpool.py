"""EnvPool's environments as a `VectorEnv`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.envpool_entries import default_space, left_out, why_left_out
from fastrl.envs.adapters.envpool_ids import CRASHING
from fastrl.envs.adapters.envpool_options import check_steps, checked_options, description
from fastrl.envs.adapters.shared_core import new_threads, on_one_core
from fastrl.envs.adapters.time_limit import as_limit
from fastrl.envs.base import VectorEnv, environment_seeds
from fastrl.envs.construction import constructing
from fastrl.envs.masks import observations_with_mask
from fastrl.envs.timestep import Advance
from fastrl.errors import SettingError
from fastrl.machine import available_cores, require_envs, require_threads

_SAID: set[str] = set()  # what a user has been told once in this process


def default_num_threads(num_envs: int) -> int:
    """Threads for `num_envs` environments by default: one each, at most one per core of this process."""
    return max(1, min(num_envs, available_cores()))


class EnvPoolEnv(VectorEnv):
    """Environments of EnvPool, stepped by its own threads.

    EnvPool resets on the step after a done by itself. Two of its habits show in the numbers: a termination on
    the very step of the time limit is reported as a truncation, and simulator state cannot be saved
    (`state_dict` is None).

    Atari: with `episodic_life` an episode to learn from ends with every life, while `pop_episodes` reports
    whole games; with `reward_clip` it reports unclipped scores.

    Args:
        env_id: one of EnvPool's ids.
        num_envs: N.
        seed: gives each environment a seed of its own.
        device: where tensors go.
        num_threads: threads that step the environments; None: one per environment, at most one per core.
        obs_keys: entries of a dict observation to take (see `ObservationMap`); None: all but images and those
            of `left_out`.
        action_mask_key: see `observations_with_mask`.
        max_episode_steps: another time limit.
        env_kwargs: options of the environment; `crop` for MiniGrid (see `ObservationMap`) and `num_actions`
            (see `ActionMap`).
        scale_actions: see `VectorEnv`.

    Raises:
        SettingError: an unknown or unusable option, more than one player, or an environment that cannot be
            made here.
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
        scale_actions: bool = True,
        action_mask_key: str | None = None,
    ) -> None:
        import envpool

        require_envs(num_envs)
        require_threads("num_threads", num_threads)
        check_steps(max_episode_steps)
        if env_id in CRASHING:
            raise SettingError(f"env_id: {env_id} cannot be used: {CRASHING[env_id]}")
        options = dict(env_kwargs or {})
        crop, num_actions = options.pop("crop", None), options.pop("num_actions", None)
        defaults = description(env_id)
        if defaults.get("max_num_players", 1) > 1:
            raise SettingError(
                f"{env_id} has {defaults['max_num_players']} players; environments with one agent are "
                "supported"
            )
        threads = default_num_threads(num_envs) if num_threads is None else num_threads
        options = checked_options(env_id, options, defaults, num_envs=num_envs, threads=threads)
        if max_episode_steps is not None:
            options["max_episode_steps"] = max_episode_steps
        seeds = environment_seeds(seed, num_envs)
        self._pool: Any
        with constructing(env_id, options):
            self._pool, self._pool_threads = new_threads(
                lambda: envpool.make_gymnasium(
                    env_id, num_envs=num_envs, num_threads=threads, seed=seeds, **options
                )
            )
        try:
            action = self._read_spaces(env_id, obs_keys, crop, num_actions, action_mask_key)
        except BaseException:
            self._pool.close()
            raise
        self._reports_games = False
        super().__init__(
            name=env_id,
            num_envs=num_envs,
            obs_shape=self._observations.shape,
            obs_dtype=self._observations.torch_dtype,
            action=action,
            max_episode_steps=as_limit(
                self._pool.config.get("max_episode_steps")
            ),  # BabyAI's 0: it depends on the mission
            device=device,
            num_threads=threads,
            seeds=seeds,
            scale_actions=scale_actions,
        )

    def _read_spaces(
        self,
        env_id: str,
        obs_keys: Sequence[str] | None,
        crop: int | None,
        num_actions: int | None,
        action_mask_key: str | None,
    ) -> ActionSpec:
        if self._pool.action_space is None:
            raise SettingError(
                f"env_id: actions of {env_id} have several parts, which EnvPool does not describe; they are "
                "not supported"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*precision lowered.*"
            )  # EnvPool's spaces; nothing a user could do about it
            space, actions = self._pool.observation_space, self._pool.action_space
            seen = default_space(env_id, space) if obs_keys is None else space
            if isinstance(seen, Dict) and isinstance(space, Dict) and action_mask_key in space.spaces:
                seen = Dict({**seen.spaces, action_mask_key: space.spaces[action_mask_key]})
            self._actions: ActionMap = ActionMap(actions, num_actions=num_actions, name=env_id)
            self._observations, self._info_mask, action = observations_with_mask(
                seen, self._actions.spec, action_mask_key, obs_keys=obs_keys, crop=crop, name=env_id
            )
        if obs_keys is None and left_out(env_id, space):
            entries = ", ".join(left_out(env_id, space))
            _say_once(
                f"{env_id}: {entries} of EnvPool's observations left out, which {why_left_out(env_id)}; "
                "obs_keys brings them back"
            )
        if action_mask_key is None and isinstance(space, Dict) and "action_mask" in space.spaces:
            _say_once(
                f"{env_id} tells in action_mask which actions are allowed; policies will choose others too, "
                "unless action_mask_key is 'action_mask'"
            )
        return action

    def _batch(self, obs: Any, info: Any) -> np.ndarray:
        if self._info_mask is not None:
            obs = self._info_mask.attach_all(obs, info, self.num_envs)
        return self._observations.batch(obs)

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
        """With one thread: it, the caller's and EnvPool's helper on one core, since one waits for another."""
        if (
            self.num_threads != 1 or torch.get_num_threads() != 1
        ):  # threads that torch started inside would stay on that core
            return super().many_steps()
        return on_one_core(self._pool_threads)

    def _reset_all(self) -> np.ndarray:
        obs, info = self._pool.reset()
        self._reports_games = {
            "lives",
            "reward",
            "terminated",
        } <= info.keys()  # Atari: the whole game beside what is learned from
        return self._batch(obs, info)

    def _advance(self, actions: np.ndarray) -> Advance:
        obs, reward, terminated, truncated, info = self._pool.step(self._actions.batch(actions))
        obs = self._batch(obs, info)
        if self._reports_games:
            return Advance(
                obs,
                reward,
                terminated,
                truncated,
                None,
                info["reward"],
                truncated | (info["terminated"] != 0),
            )
        return Advance(obs, reward, terminated, truncated)

    def _close(self) -> None:
        self._pool.close()


def _say_once(text: str) -> None:
    """Warn, once in a process: evaluation makes the same environments again."""
    if text not in _SAID:
        _SAID.add(text)
        warnings.warn(text, stacklevel=4)
