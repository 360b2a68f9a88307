"""Acting with memory: what the rollout and an evaluation have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import without_autocast
from fastrl.trainers.ppo_trxl.agent import TrXLAgent
from fastrl.trainers.ppo_trxl.memory import ActingMemory


class Acted(NamedTuple):
    """The policy and the values [N] of the present row, and what memory stores of it, [L, N, D]."""

    policy: BranchedPolicy
    values: Tensor
    tokens: Tensor


class TrXLActor:
    """An agent in N environments, each with a memory of its present episode.

    Args:
        agent: the network.
        num_envs: N.
        memory_length: W.
        limit: steps that an episode may have, or None.
        device: where memory lives.
        action: what the environments take.
    """

    def __init__(
        self,
        agent: TrXLAgent,
        num_envs: int,
        memory_length: int,
        limit: int | None,
        device: torch.device,
        *,
        action: ActionSpec,
    ) -> None:
        self.agent = agent
        self.num_envs = num_envs
        self.action = action
        self._chosen: Tensor | None = None  # what memory will keep of the row that `act` acted on
        self.memory = ActingMemory(agent.transformer, num_envs, memory_length, limit, device)

    @without_autocast
    @torch.no_grad()
    def look(self, obs: Tensor) -> Acted:
        """What the agent makes of the present observations [N, *shape]; memory stays as it is."""
        memory = self.memory
        policy, values, _, tokens = self.agent.read(obs, memory.banks, memory.window(), memory.maps)
        return Acted(policy, values, self.agent.transformer.stored(tokens, memory.clock.position))

    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for observations [N, *shape], as environments take them; `observe` comes
        next.

        One observation [*shape] will do where there is one environment.

        Raises:
            ValueError: they have another shape, or are not as many as the environments.
        """
        rows, single = as_rows("TrXLActor.choose", obs, self.agent.obs_shape)
        if len(rows) != self.num_envs:
            raise ValueError(
                f"TrXLActor.choose: obs must be one of each of its {self.num_envs} environments, got "
                f"{len(rows)}"
            )
        acted = self.look(rows)
        self._chosen = acted.tokens
        policy = acted.policy
        actions = self.as_environments_take(policy.mode() if deterministic else policy.sample())
        return actions[0] if single else actions

    def observe(self, timestep: Timestep) -> None:
        """What came of the actions that were chosen."""
        assert self._chosen is not None
        self.keep(self._chosen, timestep)

    def keep(self, tokens: Tensor, timestep: Timestep) -> None:
        """Go on after a step: what is stored [L, N, D] of the row before it enters memory where it was a
        transition."""
        self.memory.write(tokens, timestep.valid)
        self.memory.clock.advance(timestep.valid, timestep.terminated | timestep.truncated)

    def as_environments_take(self, actions: Tensor) -> Tensor:
        """Actions [N, branches] or [N, A] in the shape of `VectorEnv.step`: one choice of a `Discrete` space
        is [N], others have axes."""
        return actions.view(len(actions), *self.action.shape)
