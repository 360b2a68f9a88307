"""Memory made anew: what steps of earlier rollouts left behind under older weights, replayed with the present
ones."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.nn.memory_transformer import Window
from fastrl.trainers.ppo_trxl.agent import TrXLAgent
from fastrl.trainers.ppo_trxl.memory import MemoryBank


class ObservationBank:
    """The observations that belong to a bank's slots.

    Args:
        bank: whose slots these are.
        shape, dtype: of one observation.

    Attributes:
        obs: [N, W + T, *shape].
    """

    def __init__(self, bank: MemoryBank, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.bank = bank
        self.obs = torch.zeros((*bank.positions.shape, *shape), dtype=dtype, device=bank.positions.device)

    def write(self, obs: Tensor) -> None:
        """Store the observations [N, *shape] of the present row."""
        envs = torch.arange(len(obs), device=obs.device)
        self.obs[envs, self.bank.cursor] = obs

    def start(self) -> None:
        """Begin a rollout, before the bank does: what went before is moved to the front."""
        length = self.bank.memory_length
        slots = self.bank.cursor[:, None] + torch.arange(-length, 0, device=self.obs.device)
        envs = torch.arange(len(slots), device=self.obs.device)[:, None]
        self.obs[:, :length] = self.obs[envs, slots]


@torch.no_grad()
def refresh_bank(agent: TrXLAgent, bank: MemoryBank, seen: ObservationBank, position: Tensor) -> None:
    """Write the W slots before a rollout anew, as the present weights would have written them.

    Each step is replayed from its observation with those of the W that came before it in its episode; older
    ones are gone.

    Args:
        agent: the present weights.
        bank, seen: just started.
        position: [N] int64, the step of the episode at which each environment stands.
    """
    length = bank.memory_length
    envs, slots = len(position), torch.arange(length, device=position.device)
    earlier = slots < slots[:, None]  # [row, slot]
    of_episode = slots >= length - position[:, None]  # [N, slot]
    mask = (earlier[None] & of_episode[:, None]).flatten(0, 1)
    positions = bank.positions[:, :length]
    window = Window(
        episode=torch.arange(envs, device=position.device).repeat_interleave(length),
        index=slots.expand(envs * length, length),
        mask=mask,
        position=positions.flatten(),
    )
    x = agent.encode(seen.obs[:, :length].flatten(0, 1))
    bank.tokens[:, :, :length] = agent.transformer.stored(
        agent.transformer.replay(x, positions, window), positions
    )
