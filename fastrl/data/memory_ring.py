"""What acting reads of an episode's past: a ring of the last W steps' keys and values per environment.

Beside it stands the clock that tells where each episode is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastrl.errors import SettingError
from fastrl.nn.memory_attention import Bank, Window
from fastrl.nn.memory_transformer import Transformer


def window_tables(memory_length: int, max_episode_steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tables of the slots that a step sees: step p sees `indices[p]` where `mask[min(p, W)]` is set.

    For W = 4 (█ seen, · not):

        step p   window         mask
           0     0 1 2 3        · · · ·
           1     0 1 2 3        █ · · ·
           2     0 1 2 3        █ █ · ·
           3     0 1 2 3        █ █ █ ·
           4     0 1 2 3        █ █ █ █
           5     1 2 3 4        █ █ █ █
           6     2 3 4 5        █ █ █ █

    Args:
        memory_length: W.
        max_episode_steps: P.
        device: where the tables live.

    Returns:
        (mask [W + 1, W] bool, indices [P, W] int64).
    """
    mask = torch.ones(memory_length + 1, memory_length, dtype=torch.bool, device=device).tril(-1)
    first = (torch.arange(max_episode_steps, device=device) - memory_length).clamp(min=0)
    return mask, first[:, None] + torch.arange(memory_length, device=device)


class EpisodeClock:
    """The step of the episode at which each of N environments stands.

    Args:
        num_envs: N.
        limit: steps that an episode may have, or None.
        device: where tensors live.

    Attributes:
        position: int64 [N], transitions of the present episode so far.
    """

    def __init__(self, num_envs: int, limit: int | None, device: torch.device) -> None:
        self.limit = limit
        self.position = torch.zeros(num_envs, dtype=torch.int64, device=device)
        # where the present row shows the last observation of an episode
        self.over = torch.zeros(num_envs, dtype=torch.bool, device=device)

    def advance(self, valid: Tensor, done: Tensor) -> None:
        """Go on by one row: `valid` [N] whether it was a transition, `done` [N] whether it ended an episode.

        Raises:
            SettingError: an episode is longer than the limit.
        """
        self.position = torch.where(self.over, 0, self.position + valid)
        self.over = done
        if self.limit is not None and int(self.position.max()) > self.limit - 1:
            too_long = (self.position >= self.limit) & ~done
            if bool(too_long.any()):
                raise SettingError(
                    f"max_episode_steps is {self.limit}, but environment {int(too_long.nonzero()[0])} is in "
                    "a longer episode; give the true limit, or relative positions with endless episodes"
                )

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"position": self.position, "over": self.over}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Counterpart of `state_dict`."""
        device = self.position.device
        self.position, self.over = state["position"].to(device), state["over"].to(device)


class MemoryRing:
    """For each environment a ring of the last W steps' keys and values, to which a step adds one.

    Step p of an episode lies in slot p mod W. After the weights have changed, `refill` makes the ring anew. A
    row is written once it is known to be a transition: on others the clock may stand, and slot p mod W still
    holds step p − W, which the next row sees.

    Args:
        transformer: whose memory it is.
        num_envs: N.
        memory_length: W.
        device: where tensors live.

    Attributes:
        clock: the step of the episode at which each environment stands.
        banks: keys and values of each layer, [N, W, H, K].
        maps: each layer's query and output maps under the weights of the last `refill`.
    """

    def __init__(
        self, transformer: Transformer, num_envs: int, memory_length: int, device: torch.device
    ) -> None:
        self.transformer = transformer
        self.memory_length = memory_length
        self.clock = EpisodeClock(num_envs, transformer.position_limit, device)
        self._mask, _ = window_tables(memory_length, 0, device)
        self._episode = torch.arange(num_envs, device=device)
        self._index = torch.arange(memory_length, device=device).repeat(num_envs, 1)
        layers, dim = transformer.num_layers, transformer.dim
        self._nowhere = num_envs * memory_length  # a slot behind the rings, for what is not to be kept
        self._keys = torch.zeros(layers, self._nowhere + 1, dim, device=device)
        self._values = self._keys if transformer.absorbs else torch.zeros_like(self._keys)
        self.banks = [self._bank(number, num_envs) for number in range(layers)]
        self.maps = transformer.maps()

    def _bank(self, number: int, num_envs: int) -> Bank:
        attention = self.transformer.layer(number).attention
        shape = (num_envs, self.memory_length, attention.num_heads, attention.head_size)
        return Bank(self._keys[number, :-1].view(shape), self._values[number, :-1].view(shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the rings."""
        return self._keys.nbytes + (0 if self._values is self._keys else self._values.nbytes)

    def window(self) -> Window:
        """What the present row of each environment sees."""
        position = self.clock.position
        return Window(
            self._episode, self._index, self._mask[position.clamp(max=self.memory_length)], position
        )

    def write(self, tokens: Tensor, valid: Tensor) -> None:
        """Add what is stored [L, N, D] of the present row, where it was a transition: `valid` [N]."""
        if self.memory_length == 0:
            return
        position = self.clock.position
        slot = self._episode * self.memory_length + position % self.memory_length
        self._store(torch.where(valid, slot, self._nowhere), tokens.unsqueeze(2), position[:, None])

    def refill(self, tokens: Tensor, positions: Tensor) -> None:
        """Compute keys and values anew, with the present weights, from memory [L, N, W, D] at [N, W]."""
        self.maps = self.transformer.maps()
        if self.memory_length == 0:
            return
        # slot of the j-th of them
        in_ring = (self.clock.position[:, None] + self._index) % self.memory_length
        self._store((self._episode[:, None] * self.memory_length + in_ring).flatten(), tokens, positions)

    def rows(self) -> dict[str, Tensor]:
        """A copy of the ring with a row for each environment.

        "position" int64 [N], "keys" and, where they differ from the keys, "values", [N, L, W, D].
        """
        rings = (
            {"keys": self._keys}
            if self._values is self._keys
            else {"keys": self._keys, "values": self._values}
        )
        shape = (len(self._keys), len(self._episode), self.memory_length, -1)
        copies = {name: ring[:, :-1].reshape(shape).transpose(0, 1).clone() for name, ring in rings.items()}
        return {"position": self.clock.position.clone(), **copies}

    def load_rows(self, rows: Mapping[str, Tensor]) -> None:
        """Counterpart of `rows`; none of the environments shows the end of an episode."""
        self.clock.position = rows["position"].to(self._keys.device, copy=True)
        self.clock.over = torch.zeros_like(self.clock.over)
        for name, ring in (("keys", self._keys), ("values", self._values)):
            if name in rows:
                ring[:, :-1] = rows[name].transpose(0, 1).flatten(1, 2)

    def state_dict(self) -> dict[str, Tensor]:
        """The ring as it is, for a checkpoint between two steps.

        Keys and values computed again from the bank would be equal up to rounding only.
        """
        return {"keys": self._keys.clone(), "values": self._values.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Counterpart of `state_dict`."""
        self._keys.copy_(state["keys"])
        self._values.copy_(state["values"])

    def _store(self, slot: Tensor, tokens: Tensor, positions: Tensor) -> None:
        """Put what is stored [L, N, S, D] at episode steps [N, S] into slots [N · S] of the rings."""
        normalized = self.transformer.offered(tokens, positions)
        if self.transformer.absorbs:
            self._keys.index_copy_(1, slot, normalized.flatten(1, 2))
            return
        for number in range(len(normalized)):
            bank = self.transformer.bank(number, normalized[number], positions)
            self._keys[number].index_copy_(0, slot, bank.keys.flatten(2).flatten(0, 1))
            self._values[number].index_copy_(0, slot, bank.values.flatten(2).flatten(0, 1))
