"""What all kinds of memory have in common: acting, what a rollout keeps of the past, reading it to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastrl.data.memory_ring import EpisodeClock
from fastrl.data.rollout import Field
from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.observations import as_rows

PLACE: Field = ((), torch.int64)  # where a row is: a number


class MemoryActor(ABC):
    """An `fastrl.runs.evaluation.Actor` in N environments, each with the memory of its present episode.

    Attributes:
        agent: the network.
        num_envs: N.
        action: what the environments take.
    """

    agent: Any
    num_envs: int
    action: ActionSpec

    @property
    @abstractmethod
    def clock(self) -> EpisodeClock:
        """The step of the episode at which each environment stands."""

    def follow(self, agent: Any) -> None:
        """Act with this network from now on; it has the sizes of the one before."""
        self.agent = agent

    @abstractmethod
    def policy_and_value(self, obs: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """Policy and values [N] at observations [N, *shape]; memory stays as it is until `observe`."""

    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for observations [N, *shape], as environments take them; `observe` comes next.

        One observation [*shape] will do where there is one environment.

        Raises:
            ValueError: they have another shape, or are not as many as the environments.
        """
        who = f"{type(self).__name__}.act"
        rows, single = as_rows(who, obs, self.agent.obs_shape)
        if len(rows) != self.num_envs:
            raise ValueError(
                f"{who}: obs must be one of each of its {self.num_envs} environments, got {len(rows)}"
            )
        policy, _ = self.policy_and_value(rows)
        actions = self.env_actions(policy.mode() if deterministic else policy.sample())
        return actions[0] if single else actions

    @abstractmethod
    def observe(self, timestep: Timestep) -> None:
        """Go on after a step: the row that was acted on enters memory where it was a transition."""

    @abstractmethod
    def remembered(self) -> dict[str, Tensor]:
        """Copies of what is remembered of each environment's episode, with the row last acted on.

        `position` [N] int64 tells the step of the episode that comes next.
        """

    @abstractmethod
    def empty_memory(self) -> dict[str, Tensor]:
        """What `remembered` returns is like this: memory as it is now, before the first step."""

    @abstractmethod
    def remember(self, rows: Mapping[str, Tensor]) -> None:
        """Counterpart of `remembered`; a row at position 0 begins an episode."""

    def env_actions(self, actions: Tensor) -> Tensor:
        """Actions [N, branches] or [N, A] in the shape of `VectorEnv.step`; of a `Discrete` space [N]."""
        return actions.view(len(actions), *self.action.shape)


class Part(NamedTuple):
    """Some of the rows of a rollout.

    Args:
        rows: [K] int64, their numbers among the valid rows.
        read: evaluates the present policy and value function on them, under their memory: (policy over K
            rows, values [K]), with gradient.
    """

    rows: Tensor
    read: Callable[[], tuple[BranchedPolicy, Tensor]]


class Reader(Protocol):
    """A full rollout with its memory, as learning reads it."""

    def parts(self, count: int, *, shuffled: bool = True) -> Iterator[Part]:
        """All valid rows, each once, in at most `count` parts of nearly the same size.

        They are drawn at random, or in order where they are not `shuffled`.
        """


class RolloutMemory(ABC):
    """Acting with memory while a rollout is collected, and what is kept to read it afterwards.

    Attributes:
        acting: the policy in the training environments.
        fields: what the rollout keeps of each row beside it, by name; `place` gives the values.
    """

    acting: MemoryActor
    fields: Mapping[str, Field]

    @abstractmethod
    def begin(self) -> None:
        """New episodes in all environments: nothing is remembered."""

    @abstractmethod
    def start(self) -> None:
        """Begin a rollout, under weights that may have changed."""

    @abstractmethod
    def place(self) -> dict[str, Tensor]:
        """The rollout's `fields` of the present row, [N] each; called before it is stored."""

    @abstractmethod
    def remember(self, obs: Tensor, timestep: Timestep) -> None:
        """Go on by a row: observations [N, *shape] that were acted on, and what came of it."""

    @abstractmethod
    def follow(self, agent: Any) -> None:
        """Act with this network from now on; it has the sizes of the one before."""

    @abstractmethod
    def reader(self, obs: Tensor, places: Mapping[str, Tensor], valid: Tensor) -> Reader:
        """The rollout for learning.

        Args:
            obs: [T, N, *shape].
            places: the rollout's `fields`, [T, N] each.
            valid: [T, N] bool.
        """

    @abstractmethod
    def state_dict(self, *, half_collected: bool) -> dict[str, Any]:
        """For a checkpoint."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""

    @abstractmethod
    def outline(self, state: dict[str, Any]) -> dict[str, Any]:
        """What a `state_dict` must look like; see `fastrl.runs.state_check`."""

    @abstractmethod
    def limits(self) -> dict[str, int]:
        """The largest value of each of the `fields`, for checks of a checkpoint."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes by what they are for."""
