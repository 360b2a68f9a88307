"""Acting with memory: what the rollout and an evaluation have in common."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastrl.data.memory_ring import EpisodeClock, MemoryRing
from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.memory.base import MemoryActor
from fastrl.memory.trxl_agent import TrXLAgent
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.precision import without_autocast


class TrXLActor(MemoryActor):
    """An `fastrl.runs.evaluation.Actor` in N environments, each with a memory of its present episode.

    Args:
        agent: the network.
        num_envs: N.
        memory_length: W.
        device: where memory lives.
        action: what the environments take.

    Attributes:
        memory: keys and values of the last W steps.
        tokens: [L, N, D], what memory stores of the row that was last acted on; None before the first.
    """

    tokens: Tensor | None = None

    def __init__(
        self, agent: TrXLAgent, num_envs: int, memory_length: int, device: torch.device, *, action: ActionSpec
    ) -> None:
        self.agent = agent
        self.num_envs = num_envs
        self.action = action
        self.memory = MemoryRing(agent.transformer, num_envs, memory_length, device)

    @property
    def clock(self) -> EpisodeClock:
        """The step of the episode at which each environment stands."""
        return self.memory.clock

    def follow(self, agent: TrXLAgent) -> None:
        """Act with this agent from now on; it has the sizes of the one before."""
        self.agent, self.memory.transformer = agent, agent.transformer

    @without_autocast
    @torch.no_grad()
    def policy_and_value(self, obs: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """Policy and values [N] at observations [N, *shape]; memory stays as it is until `observe`."""
        memory = self.memory
        policy, values, _, inputs = self.agent.read(obs, memory.banks, memory.window(), memory.maps)
        self.tokens = self.agent.transformer.stored(inputs, memory.clock.position)
        return policy, values

    def observe(self, timestep: Timestep) -> None:
        """Go on after a step: the row that was acted on enters memory where it was a transition."""
        assert self.tokens is not None
        self.memory.write(self.tokens, timestep.valid)
        self.memory.clock.advance(timestep.valid, timestep.terminated | timestep.truncated)

    def remembered(self) -> dict[str, Tensor]:
        """Copies of what memory holds of each environment's episode, with the row that was last acted on.

        See `MemoryRing.rows`.
        """
        assert self.tokens is not None
        position = self.memory.clock.position
        self.memory.write(self.tokens, torch.ones_like(position, dtype=torch.bool))
        return self.memory.rows() | {"position": position + 1}

    def empty_memory(self) -> dict[str, Tensor]:
        """What `remembered` returns is like this: memory as it is now, before the first step."""
        return self.memory.rows()

    def remember(self, rows: Mapping[str, Tensor]) -> None:
        """Counterpart of `remembered`; a row at position 0 begins an episode.

        Raises:
            ValueError: an episode is longer than the table of positions.
        """
        limit, position = self.memory.clock.limit, rows["position"]
        if limit is not None and bool((over := position >= limit).any()):
            raise ValueError(
                f"state['position'][{int(over.nonzero()[0])}] is {int(position.max())}, but this policy "
                f"knows episodes of {limit} steps: a new one begins with state=None, or with episode_starts"
            )
        self.memory.load_rows(rows)
