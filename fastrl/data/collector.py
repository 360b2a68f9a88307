"""The one way to fill a `Rollout`: act, step the environments, store, count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fastrl.data.rollout import Rollout
from fastrl.envs import Episode, Timestep, VectorEnv

Act = Callable[[Tensor], Mapping[str, Tensor]]


class Collector:
    """Steps environments with the current policy until a rollout is full.

    A rollout that a signal cut off goes on at the next call.

    Args:
        env: what is stepped; `restart` resets it and must be called before the first `fill`.
        rollout: where rows go; its fields besides observation and action are what `act` returns beside those.
        view: observations [N, ...] as acting and the rollout see them; None: as they are.
        count: called after each step with its valid transitions and the episodes that ended in it.
        stopwatch: `stopwatch(phase)` times what is inside a `with`; phases are "acting", "environment".
        inference: collect in torch's inference mode; False where what acts keeps tensors for later gradients.

    Attributes:
        obs: observations [N, ...] of the row that comes next, behind `view`.
    """

    obs: Tensor

    def __init__(
        self,
        env: VectorEnv,
        rollout: Rollout,
        *,
        view: Callable[[Tensor], Tensor] | None = None,
        count: Callable[[int, list[Episode]], None] = lambda transitions, episodes: None,
        stopwatch: Callable[[str], AbstractContextManager[Any]] = lambda phase: nullcontext(),
        inference: bool = True,
    ) -> None:
        self.env, self.rollout = env, rollout
        self._view = view
        self._count = count
        self._stopwatch = stopwatch
        self._inference = inference

    def restart(self) -> None:
        """Reset all environments and drop a half-filled rollout."""
        self.obs = self._seen(self.env.reset())
        self.rollout.reset()

    def fill(
        self,
        act: Act,
        *,
        stop: Callable[[], bool] = lambda: False,
        after_step: Callable[[Timestep], None] = lambda timestep: None,
    ) -> bool:
        """Step until the rollout is full; a full one begins anew, in the same memory.

        Args:
            act: observations [N, ...] to a mapping of `actions`, as `VectorEnv.step` takes them, and the
                rollout's further fields, each [N, ...].
            stop: asked before every step.
            after_step: called once the row is stored, for what else remembers the step.

        Returns:
            Whether the rollout is full; False when `stop` asked to end first, and what is stored stays.

        Raises:
            EnvironmentFailure, NonFiniteError: of the environments; nothing of that step is stored.
        """
        if self.rollout.full:
            self.rollout.reset()
        with self.env.many_steps(), torch.inference_mode(self._inference):
            while not self.rollout.full:
                if stop():
                    return False
                after_step(self._step(act))
        return True

    def _step(self, act: Act) -> Timestep:
        with self._stopwatch("acting"):
            acted = act(self.obs)
        with self._stopwatch("environment"):
            timestep = self.env.step(acted["actions"])
        next_obs = self._seen(timestep.obs)
        self.rollout.append(
            obs=self.obs,
            next_obs=next_obs,
            rewards=timestep.reward,
            terminated=timestep.terminated,
            truncated=timestep.truncated,
            valid=timestep.valid,
            **acted,
        )
        self.obs = next_obs
        self._count(timestep.transitions, self.env.pop_episodes())
        return timestep

    def _seen(self, obs: Tensor) -> Tensor:
        return obs if self._view is None else self._view(obs)

    def state_dict(self) -> dict[str, Any]:
        """The observations to go on from, and the rollout where it is half filled."""
        half_filled = 0 < self.rollout.position < self.rollout.num_steps
        return {"obs": self.obs, "rollout": self.rollout.state_dict() if half_filled else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`, for environments that go on where they were; for others `restart`."""
        self.rollout.reset()
        self.obs = state["obs"].to(self.rollout.obs.device)
        if state["rollout"] is not None:
            self.rollout.load_state_dict(state["rollout"])
