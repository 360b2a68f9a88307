"""Collecting a rollout with a policy that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fastrl.data.collector import Collector
from fastrl.data.frames import frames_of
from fastrl.data.rollout import Field, Rollout
from fastrl.envs import Episode, Timestep, VectorEnv
from fastrl.machine import require_memory
from fastrl.memory.base import Reader, RolloutMemory
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.encoders import require_symbols
from fastrl.runs.state_check import Maybe, Within
from fastrl.runs.trainer_state import rollout_outline

Keep = Callable[[BranchedPolicy, Tensor], Mapping[str, Tensor]]


class RememberingCollector:
    """Fills rollouts [T, N] with a policy that remembers, and keeps what learning needs of its past.

    A rollout has, beside observations, actions, rewards and flags, the values that acting saw, the places of
    its rows in memory, and what `keep` says of the policy.

    Args:
        env: what is stepped.
        memory: acts, and keeps the past.
        num_steps: T.
        extras: the rollout's fields that `keep` gives, as shape and dtype.
        keep: (policy over N rows, the actions that it drew) to these fields, [N, ...] each.
        count, stopwatch: as for `fastrl.data.collector.Collector`.
        settings: what takes less memory, for the error where there is too little.

    Attributes:
        rollout: the present rollout.
        memory: as given.
        bootstrap_values: [N], values of the row that follows the rollout.
        sizes: the memory that all of it takes, in words.

    Raises:
        SettingError: the machine has too little memory.
    """

    bootstrap_values: Tensor
    _acted_on: Tensor  # observations [N, ...] of the latest step

    def __init__(
        self,
        env: VectorEnv,
        memory: RolloutMemory,
        num_steps: int,
        *,
        extras: Mapping[str, Field],
        keep: Keep,
        count: Callable[[int, list[Episode]], None],
        stopwatch: Callable[[str], AbstractContextManager[Any]],
        settings: str,
    ) -> None:
        self.env, self.memory, self._keep, self._stopwatch = env, memory, keep, stopwatch
        dtype = torch.float32 if env.action.kind == "continuous" else torch.int64
        fields: dict[str, Any] = {
            "obs": (env.obs_shape, env.obs_dtype),
            "action": (env.action.shape, dtype),
            "extras": {**extras, "values": ((), torch.float32), **memory.fields},
            "frames": frames_of(env),
        }
        wanted = Rollout(num_steps, env.num_envs, **fields, device="meta").nbytes  # counted, not taken
        self.sizes = str(
            require_memory({"rollout": wanted, **memory.sizes}, settings, device=str(env.device))
        )
        self.rollout = Rollout(num_steps, env.num_envs, **fields, device=env.device)
        self.collector = Collector(env, self.rollout, count=count, stopwatch=stopwatch)
        self.begin()

    def begin(self) -> None:
        """New episodes in all environments: nothing is remembered."""
        self.collector.restart()
        self.memory.begin()

    def fill(self, stop: Callable[[], bool]) -> bool:
        """Step until the rollout is full; False when `stop` asked to end first (what is stored stays)."""
        if self.rollout.position in (0, self.rollout.num_steps):
            self.memory.start()
        if not self.collector.fill(self._act, stop=stop, after_step=self._remember):
            return False
        require_symbols(self.rollout.obs, self.env.obs_shape, self.env.name)
        with self._stopwatch("acting"):  # the row that follows acts in the next rollout
            _, self.bootstrap_values = self.memory.acting.policy_and_value(self.collector.obs)
        return True

    def _act(self, obs: Tensor) -> Mapping[str, Tensor]:
        """Actions, and what the rollout keeps beside them."""
        acting, self._acted_on = self.memory.acting, obs
        policy, values = acting.policy_and_value(obs)
        actions = policy.sample()
        kept = {**self._keep(policy, actions), "values": values, **self.memory.place()}
        return {"actions": acting.env_actions(actions), **kept}

    def _remember(self, timestep: Timestep) -> None:
        with self._stopwatch("acting"):
            self.memory.remember(self._acted_on, timestep)

    def values(self) -> Tensor:
        """V of every row and of the one that follows, as acting saw them, [T+1, N]."""
        return torch.cat([self.rollout.extras["values"], self.bootstrap_values[None]])

    def actions(self) -> Tensor:
        """Actions [T, N, branches] or [T, N, A]."""
        rollout = self.rollout
        return rollout.actions.view(*rollout.rewards.shape, -1)

    def reader(self) -> Reader:
        """The rollout as learning reads it under its memory."""
        rollout = self.rollout
        places = {name: rollout.extras[name] for name in self.memory.fields}
        return self.memory.reader(rollout.obs[:-1], places, rollout.valid)

    # ----------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Observations to go on from, memory, and a half-collected rollout."""
        half_collected = 0 < self.rollout.position < self.rollout.num_steps
        collector = {"collector": self.collector.state_dict()}
        return collector | self.memory.state_dict(half_collected=half_collected)

    def outline(self) -> dict[str, Any]:
        """What a `state_dict` must look like; see `fastrl.runs.state_check`."""
        state = self.state_dict()
        rows = rollout_outline(self.rollout, self.env.action)
        for name, most in self.memory.limits().items():
            rows["tensors"][f"extras.{name}"] = Within(rows["tensors"][f"extras.{name}"], 0, most)
        collector = state.pop("collector") | {"rollout": Maybe(rows)}
        return {"collector": collector, **self.memory.outline(state)}

    def load_state_dict(self, state: Mapping[str, Any], env: VectorEnv, *, continues: bool) -> None:
        """Counterpart of `state_dict`; where the environments do not continue, new episodes begin."""
        self.env = self.collector.env = env
        if not continues:
            self.begin()
            return
        self.collector.load_state_dict(state["collector"])
        self.memory.load_state_dict(state)
