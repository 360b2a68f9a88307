"""Memory of a rollout whose policy is recurrent: states, and the sequences that are learned through time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.memory.base import PLACE, Part, RolloutMemory
from fastrl.memory.config import MemoryConfig
from fastrl.memory.recurrent_actor import RecurrentActor
from fastrl.memory.recurrent_agent import RecurrentAgent
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.runs.state_check import Within
from fastrl.runs.trainer_state import MOST_STEPS


class RecurrentMemory(RolloutMemory):
    """The state that acts, and the states at rows 0, S, 2S, … of the rollout, S being `sequence_length`.

    Args:
        config: sizes of memory and rollout.
        agent: the network.
        num_envs: N.
        action: what the environments take.
        device: where tensors live.

    Attributes:
        acting: the policy in the training environments.
        states: [⌈T/S⌉, N, L, S], as acting had them.
    """

    fields = {"positions": PLACE}
    acting: RecurrentActor

    def __init__(
        self,
        config: MemoryConfig,
        agent: RecurrentAgent,
        num_envs: int,
        action: ActionSpec,
        device: torch.device,
    ) -> None:
        self.agent, self.num_envs, self.action, self.device = agent, num_envs, action, device
        self.sequence_length = min(config.sequence_length, config.num_steps)
        windows = -(-config.num_steps // self.sequence_length)
        self.states = torch.zeros(windows, num_envs, *agent.state_shape, device=device)
        self._row = 0  # of the rollout
        self.begin()

    def begin(self) -> None:
        """See `RolloutMemory.begin`."""
        self.acting = RecurrentActor(self.agent, self.num_envs, self.device, action=self.action)
        self._row = 0

    def follow(self, agent: RecurrentAgent) -> None:
        """See `RolloutMemory.follow`."""
        self.agent = agent
        self.acting.follow(agent)

    def start(self) -> None:
        """Begin a rollout; episodes go on in the states that they are in."""
        self._row = 0

    def place(self) -> dict[str, Tensor]:
        """See `RolloutMemory.place`: the step of the episode."""
        window, behind = divmod(self._row, self.sequence_length)
        if behind == 0:
            self.states[window] = self.acting.state
        return {"positions": self.acting.clock.position}

    def remember(self, obs: Tensor, timestep: Timestep) -> None:
        """See `RolloutMemory.remember`."""
        self.acting.observe(timestep)
        self._row += 1

    def reader(self, obs: Tensor, places: Mapping[str, Tensor], valid: Tensor) -> RecurrentReader:
        """See `RolloutMemory.reader`."""
        return RecurrentReader(self.agent, obs, self.states, places["positions"], valid, self.sequence_length)

    # ----------------------------------------------------------------------------------------- state

    @property
    def sizes(self) -> dict[str, int]:
        """See `RolloutMemory.sizes`."""
        return {"states": self.states.nbytes, "acting": self.acting.state.nbytes}

    def state_dict(self, *, half_collected: bool) -> dict[str, Any]:
        """States of the rollout's sequences, those that act, and the clock."""
        return {
            "states": self.states.clone(),
            "state": self.acting.state.clone(),
            "clock": self.acting.clock.state_dict(),
            "row": self._row if half_collected else 0,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        self.begin()
        self.states.copy_(state["states"])
        self.acting.state = state["state"].to(self.device, copy=True)
        self.acting.clock.load_state_dict(state["clock"])
        self._row = int(state["row"])

    def limits(self) -> dict[str, int]:
        """See `RolloutMemory.limits`."""
        return {"positions": MOST_STEPS}

    def outline(self, state: dict[str, Any]) -> dict[str, Any]:
        """See `RolloutMemory.outline`."""
        clock = state["clock"] | {"position": Within(state["clock"]["position"], 0, MOST_STEPS)}
        rows = len(self.states) * self.sequence_length
        return state | {"clock": clock, "row": Within(0, 0, rows - 1)}


class Sequences(NamedTuple):
    """Where the P sequences of a rollout are among its M valid rows, in the order by environments.

    Args:
        order: [M] int64, numbers of the valid rows (which are by time), environment by environment.
        start, length: [P] int64, of each sequence in `order`.
        window, env: [P] int64, where the state is in which the sequence starts.
        fresh: [P] bool, whether it starts an episode, in an empty state.
    """

    order: Tensor
    start: Tensor
    length: Tensor
    window: Tensor
    env: Tensor
    fresh: Tensor


def cut_sequences(position: Tensor, valid: Tensor, sequence_length: int) -> Sequences:
    """Cut a rollout where environments, episodes and windows of `sequence_length` rows begin.

    Rows that are no transition are left out: no state has gone through them.

    Args:
        position: [T, N] int64, the step of the episode of each row; 0 begins one.
        valid: [T, N] bool.
        sequence_length: rows of a window, those that are left out included.
    """
    numbers = (valid.flatten().cumsum(0) - 1).view_as(position)
    env, time = valid.t().nonzero().unbind(1)  # by environments
    order, at, window = numbers[time, env], position[time, env], time // sequence_length
    fresh = at == 0
    begins = fresh.clone()
    begins[:1] = True
    begins[1:] |= (env[1:] != env[:-1]) | (window[1:] != window[:-1])
    start = begins.nonzero().squeeze(1)
    length = torch.diff(start, append=start.new_tensor([len(order)]))
    return Sequences(order, start, length, window[start], env[start], fresh[start])


class RecurrentReader:
    """A rollout by sequences: parts are whole sequences, each from the state that acting had at its start.

    Args:
        agent: the network.
        obs: [T, N, *shape].
        states: [⌈T/S⌉, N, L, S'], of every window's first row.
        position, valid: [T, N].
        sequence_length: S, rows of a window.
    """

    def __init__(
        self,
        agent: RecurrentAgent,
        obs: Tensor,
        states: Tensor,
        position: Tensor,
        valid: Tensor,
        sequence_length: int,
    ) -> None:
        self.agent = agent
        self.obs = obs.flatten(0, 1)[valid.flatten()]  # [M, *shape]
        self.sequences = cut_sequences(position, valid, sequence_length)
        cut = self.sequences
        self.states = states[cut.window, cut.env].masked_fill(cut.fresh[:, None, None], 0.0)

    def parts(self, count: int, *, shuffled: bool = True) -> Iterator[Part]:
        """See `Reader.parts`; sizes are as near to each other as whole sequences allow."""
        total, device = len(self.sequences.start), self.obs.device
        order = torch.randperm(total, device=device) if shuffled else torch.arange(total, device=device)
        rows = self.sequences.length[order].cumsum(0)
        group = (rows - 1) * count // rows[-1]  # of each sequence, by where its last row lies
        for number in range(count):
            chosen = order[group == number]
            if len(chosen):
                index, batch_sizes, state = self._packed(chosen)
                yield Part(index, lambda i=index, b=batch_sizes, s=state: self.read(i, b, s))  # type: ignore[misc]

    def read(self, index: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """Policy and values [K] of whole sequences, packed as `RecurrentAgent.run` takes them."""
        return self.agent.run(self.obs[index], batch_sizes, state)

    def _packed(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(numbers of rows by steps [K], sequences with each step, states) of sequences, longest first."""
        cut = self.sequences
        chosen = chosen[cut.length[chosen].argsort(descending=True, stable=True)]
        length = cut.length[chosen]
        steps = torch.arange(int(length[0]), device=length.device)
        there = steps[:, None] < length  # [steps, sequences]
        index = cut.order[(cut.start[chosen] + steps[:, None])[there]]
        return index, there.sum(1).cpu(), self.states[chosen]
