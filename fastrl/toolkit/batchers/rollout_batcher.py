"""Rollouts as batches: T steps of E environments at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.data.collector import Collector
from fastrl.data.rollout import Rollout
from fastrl.envs import Episode, VectorEnv, make_vector_env
from fastrl.envs.absent import AbsentEnvs
from fastrl.envs.action_scale import require_same_scale
from fastrl.envs.own import is_environment
from fastrl.envs.space_info import SpaceInfo, space_info
from fastrl.envs.toolkit import BaseEnv
from fastrl.errors import SettingError
from fastrl.machine import require_memory
from fastrl.nn.precision import require_float32_default
from fastrl.runs.memory import row_bytes
from fastrl.runs.state_check import Maybe
from fastrl.runs.trainer_state import rollout_outline
from fastrl.toolkit.batchers.batch import Batch
from fastrl.toolkit.batchers.transforms import Transform
from fastrl.toolkit.batchers.view import StateView, ViewActor

SelectAction = Callable[[Tensor, int], Tensor | np.ndarray]


class RolloutBatcher:
    """Steps vector environments with the current policy.

    Rollouts follow one another and cut episodes where they end.

    Copies and pickles of a batcher have no environments; `use_environments` gives them some.

    Args:
        env: what `make_vector_env` takes (an id, a factory, a Gymnasium environment or vector environment, a
            `VectorEnv`, which is used as it is), or a `GymEnv`, whose kind is made `num_envs` times.
        batch_size: rows of a batch, T · E; a multiple of the number of environments.
        transforms: applied in order to states and to rollouts.
        num_envs: E.
        seed: of the environments.
        num_threads: threads that step them; None chooses.

    Raises:
        SettingError: batch_size is no multiple of the number of environments, a batch is more than the
            machine's memory, or environments cannot be made.
    """

    def __init__(
        self,
        env: Any,
        batch_size: int,
        *,
        transforms: Sequence[Transform] = (),
        num_envs: int = 1,
        seed: int = 0,
        num_threads: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        require_float32_default()
        self.env = _vector_env(env, num_envs, seed, num_threads, device)
        envs = self.env.num_envs
        if batch_size < envs or batch_size % envs:
            raise SettingError(f"batch_size must be a multiple of the {envs} environments, got {batch_size}")
        self.batch_size, self.transforms = batch_size, list(transforms)
        self._view = StateView(self.transforms)
        self.num_steps = 0  # transitions, over all environments
        self.steps_before_rollout = (
            0  # those before the rollout that was taken last: what schedules of an update go by
        )
        self.num_episodes = 0
        self._finished: list[Episode] = []
        self._state_shape = tuple(self.env.obs_shape)
        for transform in self.transforms:
            self._state_shape = transform.state_shape(self._state_shape)
        action = self.env.action
        require_memory({"rollout": batch_size * row_bytes(self.env)}, "batch_size", device=str(device))
        self._rollout = Rollout(
            batch_size // envs,
            envs,
            obs=(tuple(self.env.obs_shape), self.env.obs_dtype),
            action=(tuple(action.shape), torch.float32 if action.kind == "continuous" else torch.int64),
            device=device,
        )
        self._obs = self._first_observations()

    def _first_observations(self) -> Tensor:
        self.env.look_at_first_steps(
            scales_observations=any(transform.scales_states for transform in self.transforms),
            scales_rewards=any(transform.scales_rewards for transform in self.transforms),
        )
        return self.env.reset()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: live environments stay behind."""
        return self.__dict__ | {"env": AbsentEnvs(self.env, "give it some by batcher.use_environments(...)")}

    def use_environments(self, env: VectorEnv) -> None:
        """Go on in other environments, all of which begin an episode; a half-collected rollout is dropped.

        Args:
            env: as many as before, with the same observations and actions.

        Raises:
            SettingError: they do not fit.
        """
        for name in ("num_envs", "obs_shape", "obs_dtype"):
            if getattr(env, name) != getattr(self.env, name):
                raise SettingError(
                    f"env must have {name} {getattr(self.env, name)}, got {getattr(env, name)}"
                )
        if (env.action.kind, env.action.shape) != (self.env.action.kind, self.env.action.shape):
            raise SettingError(
                f"env must have the actions of {self.env.name}, {self.env.action}, got {env.action}"
            )
        if env.scaled_bounds() != self.env.scaled_bounds():
            raise SettingError(
                f"env must scale actions to {self.env.scaled_bounds()}, as {self.env.name} does, got "
                f"{env.scaled_bounds()}"
            )
        self.env = env
        self._rollout.reset()
        self._obs = self._first_observations()
        self._view.restart()

    def get_state_info(self) -> SpaceInfo:
        """Shape, space and dtype of a state as models see it; no environment is touched."""
        return SpaceInfo(shape=self._state_shape, space="continuous", dtype="float32")

    def get_action_info(self) -> SpaceInfo:
        """Shape, space, dtype and bounds of an action as policies choose it.

        It is in [−1, 1] where the environments' bounds are finite.
        """
        from fastrl.envs.single import spaces_of

        return space_info(spaces_of(self.env.obs_shape, self.env.action, self.env.obs_dtype)[1])

    def transform_state(self, state: Tensor) -> Tensor:
        """States [..., *obs_shape] as models see them.

        Those of transforms that remember are [E, *obs_shape], as first ones of episodes.
        """
        for transform in self.transforms:
            state = transform.transform_state(state)
        return state

    def get_batch(self, select_action_fn: SelectAction) -> Batch:
        """The next T steps of all environments; read it before the next call, which takes its memory again.

        Args:
            select_action_fn: (states [E, ...] as models see them, number of transitions so far) → actions [E]
                or [E, A].
        """
        self.fill(select_action_fn)
        return self.take()

    def fill(self, select_action_fn: SelectAction, stop: Callable[[], bool] = lambda: False) -> bool:
        """Step until a rollout is complete; False when `stop` asked to end first.

        The next call then goes on with what there is.
        """
        collector = Collector(self.env, self._rollout, count=self._count, inference=False)
        collector.obs = self._obs

        def act(obs: Tensor) -> dict[str, Tensor]:
            if self._rollout.position == 0:
                self._view.mark()
            return {"actions": torch.as_tensor(select_action_fn(self._view.look(obs), self.num_steps))}

        try:
            return collector.fill(act, stop=stop, after_step=self._view.observe)
        finally:
            self._obs = collector.obs

    def _count(self, transitions: int, finished: list[Episode]) -> None:
        self.num_steps += transitions
        self.num_episodes += len(finished)
        self._finished += finished

    def take(self) -> Batch:
        """The complete rollout as models see it; statistics then move, once."""
        rollout = self._rollout
        self.steps_before_rollout = self.num_steps - int(rollout.valid.sum())
        stages = self._view.stages(rollout)
        states = stages[-1]
        batch = Batch(
            state_t_and_tp1=states,
            action=rollout.actions,
            reward=rollout.rewards,
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            done=rollout.terminated | rollout.truncated,
            valid=rollout.valid,
        )
        rewards = []
        for transform in self.transforms:
            rewards.append(batch.reward)
            batch = transform.transform_batch(batch)
        # statistics move after everything is transformed: acting and learning see the same numbers
        for transform, seen, reward in zip(self.transforms, stages, rewards, strict=False):
            transform.count(seen, _with_rewards(rollout, reward))
        return Batch(batch | {"state_t": states[:-1], "state_tp1": states[1:]})

    def actor(self, policy: Callable[[Tensor, bool], Tensor]) -> ViewActor:
        """An actor for other environments.

        `policy` gets states [N, ...] as models see them, and whether it is to be deterministic.
        """
        return ViewActor(self.transforms, policy, self.env.obs_shape)

    def pop_episodes(self) -> list[Episode]:
        """Episodes that have ended since the last call: raw return and length."""
        finished, self._finished = self._finished, []
        return finished

    def state_dict(self) -> dict[str, Any]:
        """Counts, statistics, a half-collected rollout, and environments where they can be saved."""
        return {
            **self.progress_state(),
            "env": self.env.state_dict(),
            "action_bounds": self.env.scaled_bounds(),
        }

    def progress_state(self) -> dict[str, Any]:
        """The state without the environments."""
        return {
            "num_steps": self.num_steps,
            "num_episodes": self.num_episodes,
            "transforms": [transform.state_dict() for transform in self.transforms],
            "view": self._view.state_dict(),
            "obs": self._obs,
            "rollout": None if self._rollout.full else self._rollout.state_dict(),
        }

    def progress_outline(self) -> dict[str, Any]:
        """What a saved `progress_state` must look like (see `fastrl.runs.state_check`)."""
        return {
            **self.progress_state(),
            "transforms": [transform.state_outline(self._rollout.num_envs) for transform in self.transforms],
            "view": self._view.state_outline(self._rollout.num_envs),
            "rollout": Maybe(rollout_outline(self._rollout, self.env.action)),
        }

    def state_outline(self) -> dict[str, Any]:
        """What a saved `state_dict` must look like.

        Environments and units of actions are checked where they are loaded.
        """
        return {**self.progress_outline(), "env": None, "action_bounds": None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; environments that could not be saved begin new episodes.

        Raises:
            CheckpointError: these environments take actions in other units.
        """
        require_same_scale(state.get("action_bounds"), self.env)
        if state["env"] is not None:
            self.env.load_state_dict(state["env"])
        self.load_progress(state, environments_continue=state["env"] is not None)

    def load_progress(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `progress_state`.

        Without environments that go on, a half-collected rollout is dropped.
        """
        self.num_steps, self.num_episodes = int(state["num_steps"]), int(state["num_episodes"])
        for transform, saved in zip(self.transforms, state["transforms"], strict=True):
            transform.load_state_dict(saved)
        self._rollout.reset()
        if not environments_continue:
            self._obs = self.env.reset()
            self._view.restart()
            return
        self._view.load_state_dict(state["view"], self._obs.device)
        self._obs = state["obs"].to(self._obs.device)
        if state["rollout"] is not None:
            self._rollout.load_state_dict(state["rollout"])

    def close(self) -> None:
        """Close the environments."""
        self.env.close()


def _with_rewards(rollout: Rollout, rewards: Tensor) -> Rollout:
    """The rollout, its memory shared, with these rewards [T, E] in place of its own."""
    changed = copy.copy(rollout)
    changed.rewards = rewards
    return changed


def _vector_env(
    env: Any, num_envs: int, seed: int, num_threads: int | None, device: torch.device | str
) -> VectorEnv:
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, BaseEnv) and hasattr(env, "vector"):
        return env.vector(num_envs, seed, device=device, num_threads=num_threads)
    if isinstance(env, str) or is_environment(env):
        return make_vector_env(env, num_envs, seed=seed, num_threads=num_threads, device=device)
    raise SettingError(
        "env must be an id, a factory, a GymEnv, a Gymnasium environment or a VectorEnv, got "
        f"{type(env).__name__}"
    )
