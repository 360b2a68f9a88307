"""A Transformer-XL over an episode's past: layers attend to earlier steps' memory, never to the present."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl.errors import SettingError, nearest
from fastrl.nn.memory_attention import Bank, Maps, Window
from fastrl.nn.memory_layer import TransformerLayer
from fastrl.nn.positions import ENCODINGS, PositionalEncoding, Rotation

LONGEST_TABLE = 65_536  # rows of absolute positions that are kept; limits of 2^31 − 1 steps stand for none


class Transformer(nn.Module):
    """Layers over a memory of their own inputs.

    Slot s of layer l holds what layer l was given at step s of the episode, detached.

    Args:
        num_layers: L.
        dim: D.
        num_heads: H, a divisor of D.
        max_episode_steps: P, length of the tables of "absolute" and "learned" positions; the others need
            none. The table of more than 65,536 absolute positions is not made: rows of it are worked out
            where they are wanted.
        positional_encoding: "absolute" (sinusoidal over the distance to step P − 1, added to the memory),
            "learned" (a table [P, D], added likewise), "relative" (keys and queries are rotated, so that only
            distances count; for endless episodes too), or "none" (also "").
        gating, shared_head_projection: see `TransformerLayer`.

    Raises:
        SettingError: an unknown name, or sizes that do not fit each other.
    """

    position_table: Tensor | None

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        max_episode_steps: int,
        positional_encoding: str,
        *,
        gating: str = "residual",
        shared_head_projection: bool = False,
    ) -> None:
        super().__init__()
        encoding = positional_encoding or "none"
        if encoding not in ENCODINGS:
            known = ", ".join(ENCODINGS)
            raise SettingError(
                f"trxl_positional_encoding must be one of {known}, got "
                f"{positional_encoding!r}{nearest(positional_encoding, ENCODINGS)}"
            )
        if encoding in ("absolute", "learned") and max_episode_steps < 1:
            raise SettingError(
                f"max_episode_steps must be at least 1 for {encoding} positions, got {max_episode_steps}"
            )
        self.num_layers = num_layers
        self.dim = dim
        self.encoding = encoding
        self.max_episode_steps = max_episode_steps
        self.layers = nn.ModuleList(
            TransformerLayer(dim, num_heads, gating=gating, shared_head_projection=shared_head_projection)
            for _ in range(num_layers)
        )
        self.rotation = Rotation(dim // num_heads) if encoding == "relative" else None
        if encoding == "learned":
            self.position_table = nn.Parameter(0.02 * torch.randn(max_episode_steps, dim))
        else:
            tabled = encoding == "absolute" and max_episode_steps <= LONGEST_TABLE
            table = PositionalEncoding(dim)(max_episode_steps) if tabled else None
            self.register_buffer("position_table", table, persistent=False)
        self.sinusoids = (
            PositionalEncoding(dim) if encoding == "absolute" and self.position_table is None else None
        )

    def layer(self, number: int) -> TransformerLayer:
        """The layer of this number, from 0."""
        return cast(TransformerLayer, self.layers[number])

    def each_layer(self) -> Iterator[TransformerLayer]:
        """The layers in order."""
        return (self.layer(number) for number in range(self.num_layers))

    # ---------------------------------------------------------------------------- windows as tensors

    def forward(
        self, x: Tensor, memories: Tensor, mask: Tensor, memory_indices: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The layers over windows.

        Args:
            x: [B, D].
            memories: [B, W, L, D], each row's window.
            mask: [B, W] bool, True where the slot may be seen.
            memory_indices: [B, W] int64, the episode step of each slot.

        Returns:
            (out [B, D], new memory [B, L, D]: the layers' inputs, detached, to be stored for this step).
        """
        memories = self.with_positions(memories, memory_indices, mask)
        positions = None
        if self.rotation is not None:
            present = (
                torch.where(mask, memory_indices + 1, 0).amax(1, keepdim=True)
                if mask.shape[1]
                else memory_indices.new_zeros(len(x), 1)
            )
            positions = (memory_indices, present)
        inputs = []
        for number, layer in enumerate(self.each_layer()):
            inputs.append(x.detach())
            slots = memories[:, :, number]
            out, _ = layer(slots, slots, x[:, None], mask, rotation=self.rotation, positions=positions)
            x = out[:, 0]
        return x, torch.stack(inputs, dim=1) if inputs else x.new_empty(len(x), 0, self.dim)

    def with_positions(self, memories: Tensor, memory_indices: Tensor, mask: Tensor) -> Tensor:
        """Memory [B, W, L, D] with the positions [B, W] added where they are seen.

        Unseen ones may have any number.
        """
        indices = torch.where(mask, memory_indices, 0)
        if self.sinusoids is not None:
            return memories + self.sinusoids.rows(indices, self.max_episode_steps)[:, :, None]
        return (
            memories if self.position_table is None else memories + self.position_table[indices][:, :, None]
        )

    # --------------------------------------------------------------------- a bank read where it lies

    @property
    def absorbs(self) -> bool:
        """Whether attention goes over the memory itself; see `MultiHeadAttention.absorbs`.

        Rotated keys have to be made.
        """
        return self.rotation is None and all(layer.attention.absorbs for layer in self.each_layer())

    @property
    def constant_memory(self) -> bool:
        """Whether the normalised memory has no parameters in it, and so stays while the layers learn."""
        return not isinstance(self.position_table, nn.Parameter)

    @property
    def position_limit(self) -> int | None:
        """Steps that an episode may have before the table of positions ends; None where there is none."""
        return None if self.position_table is None else self.max_episode_steps

    def normalize(self, memory: Tensor, positions: Tensor) -> Tensor:
        """Memory [..., S, D] at positions [..., S] as the layers read it: positions added, normalised.

        Leading axes broadcast.

        A position beyond the tables counts as their last: the last observation of an episode has one, and it
        is nobody's memory.
        """
        if self.position_table is not None:
            memory = memory + functional.embedding(
                positions.clamp(max=self.max_episode_steps - 1), self.position_table
            )
        elif self.sinusoids is not None:
            memory = memory + self.sinusoids.rows(positions, self.max_episode_steps)
        return functional.layer_norm(memory, (self.dim,))

    def stored(self, inputs: Tensor, positions: Tensor) -> Tensor:
        """What memory keeps of layers' inputs [..., S, D] at positions [..., S].

        It is normalised already where that takes no parameters.
        """
        return self.normalize(inputs, positions) if self.constant_memory else inputs

    def offered(self, stored: Tensor, positions: Tensor) -> Tensor:
        """What `stored` memory shows under the present weights: normalised."""
        return stored if self.constant_memory else self.normalize(stored, positions)

    def maps(self) -> list[Maps]:
        """Each layer's query and output maps for reading banks; valid while the weights stay as they are."""
        return [
            layer.attention.absorbed() if self.absorbs else layer.attention.projected()
            for layer in self.each_layer()
        ]

    def bank(self, number: int, normalized: Tensor, positions: Tensor) -> Bank:
        """Keys and values of layer `number` from its normalised memory [E, S, D] at positions [E, S]."""
        attention = self.layer(number).attention
        if self.absorbs:
            slots = normalized.unflatten(-1, (attention.num_heads, attention.head_size))
            return Bank(slots, slots)
        keys, values = (
            attention.heads(normalized, attention.keys),
            attention.heads(normalized, attention.values),
        )
        return Bank(keys if self.rotation is None else self.rotation(keys, positions), values)

    def read(
        self, x: Tensor, banks: Sequence[Bank], window: Window, maps: Sequence[Maps]
    ) -> tuple[Tensor, Tensor]:
        """The layers over a bank each: x [B, D] to (out [B, D], detached inputs of the layers [L, B, D])."""
        inputs = []
        for layer, bank, maps_of_layer in zip(self.each_layer(), banks, maps, strict=True):
            inputs.append(x.detach())
            x = layer.read(x, bank, window, maps_of_layer, self.rotation)
        return x, torch.stack(inputs) if inputs else x.new_empty(0, len(x), self.dim)

    def replay(self, x: Tensor, positions: Tensor, window: Window) -> Tensor:
        """The layers' inputs [L, E, S, D] for whole pieces of episodes, x [E·S, D] at positions [E, S].

        Each row sees its `window`.
        """
        inputs, maps = [], self.maps()
        for number, layer in enumerate(self.each_layer()):
            tokens = x.view(*positions.shape, self.dim)
            inputs.append(tokens)
            bank = self.bank(number, self.normalize(tokens, positions), positions)
            x = layer.read(x, bank, window, maps[number], self.rotation)
        return torch.stack(inputs) if inputs else x.new_empty(0, *positions.shape, self.dim)
