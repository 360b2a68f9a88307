"""What learning reads of an episode's past: the memory of a rollout's steps and of the W steps before it.

The bank has, for each environment, the W slots before the rollout and one for each of its transitions. A row
that is no transition writes a slot that the next row overwrites. So the row in slot s at step p of its
episode sees slots s − min(p, W) … s − 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl.data.rollout import Field
from fastrl.nn.memory_attention import Bank, Window
from fastrl.nn.memory_transformer import Transformer


class MemoryBank:
    """The memory (`Transformer.stored`) of T steps of N environments and of the W steps before them.

    Args:
        num_layers, num_envs, num_steps, memory_length, dim: L, N, T, W, D.
        obs: shape and dtype of one observation, to keep those of the slots too, for `refresh_bank`.
        device: where tensors live.

    Attributes:
        tokens: [L, N, W + T, D], what is stored of the layers' inputs.
        positions: int64 [N, W + T], the episode step of each slot.
        obs: [N, W + T, *shape], the observation of each slot, or None.
        cursor: int64 [N], the slot of the present row.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_envs: int,
        num_steps: int,
        memory_length: int,
        dim: int,
        obs: Field | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        slots = memory_length + num_steps
        self.memory_length = memory_length
        self.tokens = torch.zeros(num_layers, num_envs, slots, dim, device=device)
        self.positions = torch.zeros(num_envs, slots, dtype=torch.int64, device=device)
        self.obs: Tensor | None = None
        if obs is not None:
            shape, dtype = obs
            self.obs = torch.zeros((num_envs, slots, *shape), dtype=dtype, device=device)
        self.cursor = torch.full((num_envs,), memory_length, dtype=torch.int64, device=device)
        self._first = slots * torch.arange(num_envs, device=device)
        self._flat = self.tokens.view(num_layers, num_envs * slots, dim)
        self._before = torch.arange(-memory_length, 0, device=device)
        self._envs = torch.arange(num_envs, device=device)[:, None]

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self.tokens.nbytes + self.positions.nbytes + (0 if self.obs is None else self.obs.nbytes)

    def write(self, tokens: Tensor, position: Tensor, obs: Tensor | None = None) -> None:
        """Keep the memory [L, N, D] and observations [N, *shape] of the present row, at episode steps [N].

        Observations are kept where the bank has room for them.
        """
        slot = self._first + self.cursor
        self._flat.index_copy_(1, slot, tokens)
        self.positions.view(-1).index_copy_(0, slot, position)
        if self.obs is not None:
            assert obs is not None
            self.obs.flatten(0, 1).index_copy_(0, slot, obs)

    def advance(self, valid: Tensor) -> None:
        """Go on by one row; what was written is kept where `valid` [N] says that it was a transition."""
        self.cursor = self.cursor + valid

    def recent(self) -> tuple[Tensor, Tensor]:
        """The W slots before the present row, oldest first: (tokens [L, N, W, D], positions [N, W])."""
        slots = self.cursor[:, None] + self._before
        return self.tokens[:, self._envs, slots], self.positions[self._envs, slots]

    def start(self) -> None:
        """Begin a rollout: move the W slots before the present row to the front."""
        length = self.memory_length
        tokens, positions = self.recent()
        self.tokens[:, :, :length] = tokens
        self.positions[:, :length] = positions
        if self.obs is not None:
            self.obs[:, :length] = self.obs[self._envs, self.cursor[:, None] + self._before]
        self.cursor = torch.full_like(self.cursor, length)

    def window(self, env: Tensor, slot: Tensor, position: Tensor, *, episode: Tensor | None = None) -> Window:
        """The memory that rows in slots [B] of environments [B] see at episode steps [B].

        `episode` [B] numbers the environments where only some of them are read.
        """
        mask = self._before >= -position[:, None]
        return Window(env if episode is None else episode, slot[:, None] + self._before, mask, position)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "tokens": self.tokens.clone(),
            "positions": self.positions.clone(),
            "obs": None if self.obs is None else self.obs.clone(),
            "cursor": self.cursor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        self.tokens.copy_(state["tokens"])
        self.positions.copy_(state["positions"])
        if self.obs is not None:
            self.obs.copy_(state["obs"])
        self.cursor = state["cursor"].to(self.cursor.device)


class BankReader:
    """A full bank as minibatches read it; what does not depend on the weights is made once.

    Args:
        transformer: whose memory it is.
        bank: as it stands after the rollout.
    """

    def __init__(self, transformer: Transformer, bank: MemoryBank) -> None:
        self.transformer = transformer
        self.bank = bank
        fixed = transformer.constant_memory and transformer.absorbs  # keys and values are the memory itself
        self._fixed = self._layers(list(bank.tokens), bank.positions) if fixed else None

    def banks(self, envs: Tensor | None) -> list[Bank]:
        """Every layer's keys and values under the present weights: of these environments, or of all."""
        if self._fixed is not None and envs is None:
            return self._fixed
        positions = self.bank.positions if envs is None else self.bank.positions[envs]
        stored = [tokens if envs is None else tokens[envs] for tokens in self.bank.tokens]
        return self._layers([self.transformer.offered(tokens, positions) for tokens in stored], positions)

    def _layers(self, normalized: list[Tensor], positions: Tensor) -> list[Bank]:
        return [self.transformer.bank(number, layer, positions) for number, layer in enumerate(normalized)]

    def window(self, env: Tensor, slot: Tensor, position: Tensor, envs: Tensor | None) -> Window:
        """What rows, [B] each, see of `banks(envs)`; see `MemoryBank.window`."""
        if envs is None:
            return self.bank.window(env, slot, position)
        place = torch.zeros(len(self.bank.cursor), dtype=torch.int64, device=envs.device)
        place[envs] = torch.arange(len(envs), device=envs.device)
        return self.bank.window(env, slot, position, episode=place[env])


@torch.no_grad()
def refresh_bank(
    bank: MemoryBank, transformer: Transformer, encode: Callable[[Tensor], Tensor], position: Tensor
) -> None:
    """Write the W slots before a rollout anew, as the present weights would have written them.

    Each step is replayed from its observation with those of the W that came before it in its episode; older
    ones are gone.

    Args:
        bank: just started, with observations.
        transformer, encode: the present weights; `encode` makes features [B, D] of observations [B, *shape].
        position: [N] int64, the step of the episode at which each environment stands.
    """
    assert bank.obs is not None
    length = bank.memory_length
    envs, slots = len(position), torch.arange(length, device=position.device)
    earlier = slots < slots[:, None]  # [W, W]: row, slot
    of_episode = slots >= length - position[:, None]  # [N, W]
    mask = (earlier[None] & of_episode[:, None]).flatten(0, 1)
    positions = bank.positions[:, :length]
    window = Window(
        episode=torch.arange(envs, device=position.device).repeat_interleave(length),
        index=slots.expand(envs * length, length),
        mask=mask,
        position=positions.flatten(),
    )
    features = encode(bank.obs[:, :length].flatten(0, 1))
    inputs = transformer.replay(features, positions, window)
    bank.tokens[:, :, :length] = transformer.stored(inputs, positions)
