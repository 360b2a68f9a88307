"""Memory of a rollout with a Transformer-XL: the bank that its rows read, and the ring that acts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl.data.memory_bank import BankReader, MemoryBank, refresh_bank
from fastrl.envs import Timestep
from fastrl.envs.action_spec import ActionSpec
from fastrl.memory.base import PLACE, Part, RolloutMemory
from fastrl.memory.config import TrXLConfig
from fastrl.memory.trxl_actor import TrXLActor
from fastrl.memory.trxl_agent import TrXLAgent
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.runs.state_check import Maybe, Within
from fastrl.runs.trainer_state import MOST_STEPS


class TransformerMemory(RolloutMemory):
    """Layers' inputs of the rollout's steps and of the W before it, and keys and values to act with.

    Args:
        config: sizes of memory and rollout.
        agent: the network.
        num_envs: N.
        action: what the environments take.
        device: where tensors live.

    Attributes:
        acting: the policy in the training environments.
        bank: the memory that the rollout's rows read.
    """

    fields = {"slots": PLACE, "positions": PLACE}
    acting: TrXLActor

    def __init__(
        self, config: TrXLConfig, agent: TrXLAgent, num_envs: int, action: ActionSpec, device: torch.device
    ) -> None:
        self.config, self.agent, self.action, self.device = config, agent, action, device
        self.bank = MemoryBank(
            num_layers=config.trxl_num_layers,
            num_envs=num_envs,
            num_steps=config.num_steps,
            memory_length=config.trxl_memory_length,
            dim=config.trxl_dim,
            obs=(agent.obs_shape, agent.obs_dtype) if config.memory_refresh == "rollout" else None,
            device=device,
        )
        self.num_envs = num_envs
        self.begin()

    def begin(self) -> None:
        """See `RolloutMemory.begin`."""
        length = self.config.trxl_memory_length
        self.acting = TrXLActor(self.agent, self.num_envs, length, self.device, action=self.action)

    def follow(self, agent: TrXLAgent) -> None:
        """See `RolloutMemory.follow`."""
        self.agent = agent
        self.acting.follow(agent)

    @torch.no_grad()
    def start(self) -> None:
        """Keep the last W steps of memory, and make what acting reads anew for the present weights."""
        ring = self.acting.memory
        self.bank.start()
        if self.config.memory_refresh == "rollout":
            refresh_bank(self.bank, self.agent.transformer, self.agent.encode, ring.clock.position)
        ring.refill(*self.bank.recent())

    def place(self) -> dict[str, Tensor]:
        """See `RolloutMemory.place`: the slot in the bank, and the step of the episode."""
        return {"slots": self.bank.cursor, "positions": self.acting.clock.position}

    def remember(self, obs: Tensor, timestep: Timestep) -> None:
        """The row that was acted on enters bank and ring."""
        assert self.acting.tokens is not None
        self.bank.write(self.acting.tokens, self.acting.clock.position, obs)
        self.bank.advance(timestep.valid)
        self.acting.observe(timestep)

    def reader(self, obs: Tensor, places: Mapping[str, Tensor], valid: Tensor) -> TransformerReader:
        """See `RolloutMemory.reader`."""
        flat = valid.flatten()
        envs = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
        fields = (obs, envs, places["slots"], places["positions"])
        return TransformerReader(self.agent, self.bank, *(field.flatten(0, 1)[flat] for field in fields))

    # ----------------------------------------------------------------------------------------- state

    @property
    def sizes(self) -> dict[str, int]:
        """See `RolloutMemory.sizes`."""
        return {"memory bank": self.bank.nbytes, "acting": self.acting.memory.nbytes}

    def state_dict(self, *, half_collected: bool) -> dict[str, Any]:
        """Bank and clock, and the ring that acts in a half-collected rollout."""
        ring = self.acting.memory
        return {
            "bank": self.bank.state_dict(),
            "clock": ring.clock.state_dict(),
            "ring": ring.state_dict() if half_collected else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        self.begin()
        self.bank.load_state_dict(state["bank"])
        self.acting.clock.load_state_dict(state["clock"])
        if state["ring"] is not None:
            self.acting.memory.load_state_dict(state["ring"])

    def limits(self) -> dict[str, int]:
        """See `RolloutMemory.limits`."""
        limit = self.acting.clock.limit
        return {
            "slots": self.bank.positions.shape[1] - 1,
            "positions": MOST_STEPS if limit is None else limit,
        }

    def outline(self, state: dict[str, Any]) -> dict[str, Any]:
        """See `RolloutMemory.outline`: places that bank and episodes have."""
        limits = self.limits()
        longest, last = limits["positions"], limits["slots"] + 1
        places = {
            "positions": Within(state["bank"]["positions"], 0, longest),
            "cursor": Within(state["bank"]["cursor"], self.bank.memory_length, last),
        }
        return {
            "bank": state["bank"] | places,
            "clock": state["clock"] | {"position": Within(state["clock"]["position"], 0, longest)},
            "ring": Maybe(self.acting.memory.state_dict()),
        }


class TransformerReader:
    """M valid rows and the bank that they see; any of them can be read together.

    Args:
        agent: the network.
        bank: as it stands after the rollout.
        obs: [M, *shape].
        env, slot, position: [M] int64, where each row is in the bank and in its episode.
    """

    def __init__(
        self, agent: TrXLAgent, bank: MemoryBank, obs: Tensor, env: Tensor, slot: Tensor, position: Tensor
    ) -> None:
        self.agent = agent
        self.obs, self.env, self.slot, self.position = obs, env, slot, position
        self._bank = BankReader(agent.transformer, bank)

    def parts(self, count: int, *, shuffled: bool = True) -> Iterator[Part]:
        """See `Reader.parts`."""
        total, device = len(self.obs), self.obs.device
        order = torch.randperm(total, device=device) if shuffled else torch.arange(total, device=device)
        for index in order.tensor_split(min(count, total)):
            yield Part(index, lambda index=index: self.read(index))  # type: ignore[misc]

    def read(self, index: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """Policy and values [K] of rows [K]."""
        window = self._bank.window(self.env[index], self.slot[index], self.position[index], None)
        maps = self.agent.transformer.maps()
        policy, values, _, _ = self.agent.read(self.obs[index], self._bank.banks(None), window, maps)
        return policy, values
