"""Acting with memory: what the rollout and an evaluation have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastrl.envs import Timestep
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.trainers.ppo_trxl.agent import TrXLAgent
from fastrl.trainers.ppo_trxl.memory import ActingMemory


class Acted(NamedTuple):
    """The policy and the values [N] of the present row, and what it leaves to memory, [L, N, D]."""

    policy: BranchedPolicy
    values: Tensor
    tokens: Tensor


class TrXLPlayer:
    """An agent in N environments, each with a memory of its present episode.

    Args:
        agent: the network.
        num_envs: N.
        memory_length: W.
        limit: steps that an episode may have, or None.
    """

    def __init__(self, agent: TrXLAgent, num_envs: int, memory_length: int, limit: int | None, device: torch.device) -> None:
        self.agent = agent
        self.memory = ActingMemory(agent.transformer, num_envs, memory_length, limit, device)

    @torch.no_grad()
    def look(self, obs: Tensor) -> Acted:
        """What the agent makes of the present observations [N, *shape]; memory stays as it is."""
        memory = self.memory
        policy, values, _, tokens = self.agent.read(obs, memory.banks, memory.window(), memory.maps)
        return Acted(policy, values, tokens)

    def choose(self, obs: Tensor) -> Tensor:
        """The most probable actions for observations [N, *shape], which enter memory; as environments take them."""
        acted = self.look(obs)
        self.memory.write(acted.tokens)
        return as_environments_take(self.agent, acted.policy.mode())

    def observe(self, timestep: Timestep) -> None:
        """Go on after a step."""
        self.memory.clock.advance(timestep.valid, timestep.terminated | timestep.truncated)


def as_environments_take(agent: TrXLAgent, actions: Tensor) -> Tensor:
    """Actions [N, branches]; those of a single discrete choice as [N]."""
    return actions.squeeze(-1) if agent.single_choice else actions
