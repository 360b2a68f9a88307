"""Acting with a recurrent policy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastrl.data.memory_ring import EpisodeClock
from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.memory.base import MemoryActor
from fastrl.memory.recurrent_agent import RecurrentAgent
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.precision import without_autocast


class RecurrentActor(MemoryActor):
    """An `fastrl.runs.evaluation.Actor` in N environments, each with the state of its present episode.

    Args:
        agent: the network.
        num_envs: N.
        device: where states live.
        action: what the environments take.

    Attributes:
        state: [N, L, S], in which the present row is acted on.
    """

    def __init__(
        self, agent: RecurrentAgent, num_envs: int, device: torch.device, *, action: ActionSpec
    ) -> None:
        self.agent, self.num_envs, self.action = agent, num_envs, action
        self.state = agent.empty_state(num_envs).to(device)
        self._clock = EpisodeClock(num_envs, None, device)
        self._following = self.state  # the state behind the row that was last acted on

    @property
    def clock(self) -> EpisodeClock:
        """See `MemoryActor.clock`."""
        return self._clock

    @without_autocast
    @torch.no_grad()
    def policy_and_value(self, obs: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """Policy and values [N] at observations [N, *shape]; the state stays as it is until `observe`."""
        policy, values, self._following = self.agent.step(obs, self.state)
        return policy, values

    def observe(self, timestep: Timestep) -> None:
        """Go on after a step.

        A row that was no transition leaves the state as it was; the one that showed the end of an episode is
        followed by an empty state.
        """
        valid, over = timestep.valid[:, None, None], self.clock.over[:, None, None]
        self.state = torch.where(valid, self._following, self.state).masked_fill(over, 0.0)
        self.clock.advance(timestep.valid, timestep.terminated | timestep.truncated)

    def remembered(self) -> dict[str, Tensor]:
        """The states behind the row that was last acted on, and the steps of the episodes."""
        return {"position": self.clock.position + 1, "state": self._following.clone()}

    def empty_memory(self) -> dict[str, Tensor]:
        """What `remembered` returns is like this: states as they are now, before the first step."""
        return {"position": self.clock.position.clone(), "state": self.state.clone()}

    def remember(self, rows: Mapping[str, Tensor]) -> None:
        """Counterpart of `remembered`; a row at position 0 begins an episode."""
        device = self.state.device
        self.clock.position = rows["position"].to(device, copy=True)
        self.clock.over = torch.zeros_like(self.clock.over)
        begins = (self.clock.position == 0)[:, None, None]
        self.state = rows["state"].to(device).masked_fill(begins, 0.0)
