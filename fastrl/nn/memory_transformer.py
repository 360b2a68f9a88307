"""A Transformer-XL over an episode's past: attention to what earlier steps left behind, never to the present
or to itself.

Two ways lead to the same numbers. The modules' `forward` takes windows of memory as tensors, in plain torch.
The fast path reads a memory bank where it lies (`fastrl.ops.memory_attention`): what a slot has to offer
depends on the slot alone, so it is worked out once for each slot and not once for each row that sees it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl import ops
from fastrl.errors import SettingError, nearest
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear, linear
from fastrl.nn.positions import ENCODINGS, PositionalEncoding, Rotation

LONGEST_TABLE = 65_536  # rows of absolute positions that are kept; limits of 2^31 − 1 steps stand for none


@dataclass(frozen=True, slots=True)
class Window:
    """What each of B rows sees of a bank of E episodes of S slots, and where the row itself stands.

    Args:
        episode: [B] int64, the row's episode in the bank.
        index: [B, W] int64, slots.
        mask: [B, W] bool, True where the slot is seen.
        position: [B] int64, steps since the row's episode began.
    """

    episode: Tensor
    index: Tensor
    mask: Tensor
    position: Tensor


class Bank(NamedTuple):
    """Keys and values of one layer, [E, S, H, K] each."""

    keys: Tensor
    values: Tensor


class Maps(NamedTuple):
    """The matrices [D, D] that a layer applies to its queries and to what attention returns."""

    query: Tensor
    out: Tensor


class MultiHeadAttention(nn.Module):
    """Softmax attention with H heads of K = embed_dim / H features; scores are scaled by 1/√K.

    A query that sees nothing gets zeros in the place of a weighted sum (and then the bias of the output
    layer).

    Args:
        embed_dim: D.
        num_heads: H, a divisor of D.
        shared_head_projection: one K × K projection of keys, values and queries for all heads, each applied
            to the head's own slice of the features, as in the published PPO-TransformerXL; the default
            projects all features for every head.

    Raises:
        SettingError: num_heads does not divide embed_dim.

    Reference: Vaswani et al. 2017, "Attention Is All You Need".
    """

    def __init__(self, embed_dim: int, num_heads: int, *, shared_head_projection: bool = False) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise SettingError(
                f"trxl_num_heads must divide trxl_dim, got {num_heads} heads and {embed_dim} features"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_size = embed_dim // num_heads
        self.shared_head_projection = shared_head_projection
        width = self.head_size if shared_head_projection else embed_dim
        self.values = Linear(width, width, bias=False)
        self.keys = Linear(width, width, bias=False)
        self.queries = Linear(width, width, bias=False)
        self.fc_out = Linear(embed_dim, embed_dim)

    def forward(
        self,
        values: Tensor,
        keys: Tensor,
        query: Tensor,
        mask: Tensor | None,
        *,
        rotation: Rotation | None = None,
        positions: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            values, keys: [B, W, D].
            query: [B, Q, D].
            mask: [B, W] bool, True where the slot may be seen; None: all.
            rotation: turns keys and queries by their `positions`, ([B, W], [B, Q]).

        Returns:
            (out [B, Q, D], attention [B, H, Q, W]); attention sums to 1 over the slots, or to 0 where none is
            seen.
        """
        value, key, queries = (
            self.heads(rows, layer)
            for rows, layer in ((values, self.values), (keys, self.keys), (query, self.queries))
        )
        if rotation is not None and positions is not None:
            key, queries = rotation(key, positions[0]), rotation(queries, positions[1])
        scores = torch.einsum("bqhk,bwhk->bhqw", queries, key) / math.sqrt(self.head_size)
        if mask is not None:
            seen = mask[:, None, None, :]
            scores = scores.masked_fill(~seen, float("-inf"))
            blind = ~seen.any(-1, keepdim=True)
            attention = torch.softmax(scores.masked_fill(blind, 0.0), dim=-1).masked_fill(blind, 0.0)
        else:
            attention = torch.softmax(scores, dim=-1)
        out = torch.einsum("bhqw,bwhk->bqhk", attention, value).flatten(2)
        return self.fc_out(out), attention

    def heads(self, rows: Tensor, layer: nn.Linear) -> Tensor:
        """Rows [..., D] projected, as heads [..., H, K]."""
        split = (self.num_heads, self.head_size)
        if self.shared_head_projection:
            return layer(rows.unflatten(-1, split))
        return layer(rows.flatten(0, -2)).view(*rows.shape[:-1], *split)

    @property
    def absorbs(self) -> bool:
        """Whether the projections of keys and values can be multiplied into those of queries and outputs
        without making them larger.

        q · (K m) = (Kᵀ q) · m and Σ a (V m) = V Σ a m: attention can go over the memory itself. For one head,
        or heads that look at their own slice each, that takes no more work than attention over projected
        slots, and no slot has to be projected at all.
        """
        return self.num_heads == 1 or self.shared_head_projection

    def absorbed(self) -> Maps:
        """The query and output maps for attention over the memory itself, [D, D] each; for `absorbs`."""
        key, query, value, out = self.keys.weight, self.queries.weight, self.values.weight, self.fc_out.weight
        return Maps(self._for_all_heads(key.t() @ query), out @ self._for_all_heads(value))

    def projected(self) -> Maps:
        """The query and output maps for attention over projected slots."""
        return Maps(self._for_all_heads(self.queries.weight), self.fc_out.weight)

    def _for_all_heads(self, weight: Tensor) -> Tensor:
        """A projection of all features: a shared one stands in every head's block of the diagonal."""
        if not self.shared_head_projection or self.num_heads == 1:
            return weight
        return torch.kron(torch.eye(self.num_heads, dtype=weight.dtype, device=weight.device), weight)


class GRUGate(nn.Module):
    """A gated residual connection, near the identity at first.

    r = σ(W_r y + U_r x), z = σ(W_z y + U_z x − bias), h = tanh(W_h y + U_h (r ⊙ x)), out = (1 − z) ⊙ x + z ⊙
    h

    Reference: Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning".
    """

    def __init__(self, dim: int, bias: float = 2.0) -> None:
        super().__init__()
        self.from_update = Linear(dim, 3 * dim, bias=False)
        self.from_input = Linear(dim, 2 * dim, bias=False)
        self.from_reset_input = Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.full((dim,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream x [B, D] after an update y [B, D]."""
        reset_y, update_y, new_y = self.from_update(y).chunk(3, dim=-1)
        reset_x, update_x = self.from_input(x).chunk(2, dim=-1)
        reset = torch.sigmoid(reset_y + reset_x)
        update = torch.sigmoid(update_y + update_x - self.bias)
        new = torch.tanh(new_y + self.from_reset_input(reset * x))
        return torch.lerp(x, new, update)


class TransformerLayer(nn.Module):
    """x' = x + Attn(LN_q x, LN_kv m), out = x' + ReLU(FC(LN x')): normalised before each part.

    LN_kv has no parameters of its own: a scale would repeat what the projections behind it can do, and a
    shift cancels in the softmax and adds a constant to the values.

    Args:
        dim: D.
        num_heads: H.
        gating: "residual" (sums, as above) or "gru" (a `GRUGate` in place of each sum, with a ReLU on what
            attention returns).
        shared_head_projection: see `MultiHeadAttention`.
    """

    def __init__(
        self, dim: int, num_heads: int, *, gating: str = "residual", shared_head_projection: bool = False
    ) -> None:
        super().__init__()
        if gating not in ("residual", "gru"):
            raise SettingError(
                f'trxl_gating must be "residual" or "gru", got {gating!r}{nearest(gating, ["residual", "gru"])}'
            )
        self.attention = MultiHeadAttention(dim, num_heads, shared_head_projection=shared_head_projection)
        self.norm_query = nn.LayerNorm(dim)
        self.norm_memory = nn.LayerNorm(dim, elementwise_affine=False)
        self.norm_feedforward = nn.LayerNorm(dim)
        self.feedforward = layer_init(Linear(dim, dim))
        self.gates = nn.ModuleList(GRUGate(dim) for _ in range(2)) if gating == "gru" else None

    def forward(
        self,
        value: Tensor,
        key: Tensor,
        query: Tensor,
        mask: Tensor | None,
        *,
        rotation: Rotation | None = None,
        positions: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One layer over windows.

        Args:
            value, key: [B, W, D], memory with positions added, not normalised yet.
            query: [B, Q, D], the layer's input.
            mask: [B, W] bool or None.
            rotation, positions: see `MultiHeadAttention.forward`.

        Returns:
            (out [B, Q, D], attention [B, H, Q, W]).
        """
        normalized = self.norm_memory(value)
        keys = normalized if key is value else self.norm_memory(key)
        attended, attention = self.attention(
            normalized, keys, self.norm_query(query), mask, rotation=rotation, positions=positions
        )
        rows, updates = query.flatten(0, 1), attended.flatten(0, 1)
        return self.update(rows, updates).view_as(query), attention

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """The stream x [B, D] after what attention returned, and after the feed-forward part."""
        if self.gates is None:
            x = x + attended
            return x + torch.relu(self.feedforward(self.norm_feedforward(x)))
        x = self.gates[0](x, torch.relu(attended))
        return self.gates[1](x, torch.relu(self.feedforward(self.norm_feedforward(x))))

    def read(self, x: Tensor, bank: Bank, window: Window, maps: Maps, rotation: Rotation | None) -> Tensor:
        """The layer over a bank: x [B, D] to [B, D]."""
        attention = self.attention
        query = linear(self.norm_query(x), maps.query).view(-1, attention.num_heads, attention.head_size)
        if rotation is not None:
            query = rotation(query, window.position)
        found = ops.memory_attention(
            query, bank.keys, bank.values, window.episode, window.index, mask=window.mask
        )
        return self.update(x, linear(found.flatten(1), maps.out, attention.fc_out.bias))


class Transformer(nn.Module):
    """Layers over a memory of their own inputs: slot s of layer l holds what layer l was given at step s of
    the episode, detached.

    Args:
        num_layers: L.
        dim: D.
        num_heads: H, a divisor of D.
        max_episode_steps: P, length of the tables of "absolute" and "learned" positions; the others need
            none. The table of more than
            65,536 absolute positions is not made: rows of it are worked out where they are wanted.
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
            own = (
                torch.where(mask, memory_indices + 1, 0).amax(1, keepdim=True)
                if mask.shape[1]
                else memory_indices.new_zeros(len(x), 1)
            )
            positions = (memory_indices, own)
        inputs = []
        for number, layer in enumerate(self.each_layer()):
            inputs.append(x.detach())
            slots = memories[:, :, number]
            out, _ = layer(slots, slots, x[:, None], mask, rotation=self.rotation, positions=positions)
            x = out[:, 0]
        return x, torch.stack(inputs, dim=1) if inputs else x.new_empty(len(x), 0, self.dim)

    def with_positions(self, memories: Tensor, memory_indices: Tensor, mask: Tensor) -> Tensor:
        """Memory [B, W, L, D] with the positions [B, W] added where they are seen; unseen ones may have any
        number."""
        indices = torch.where(mask, memory_indices, 0)
        if self.sinusoids is not None:
            return memories + self.sinusoids.rows(indices, self.max_episode_steps)[:, :, None]
        return (
            memories if self.position_table is None else memories + self.position_table[indices][:, :, None]
        )

    # --------------------------------------------------------------------- a bank read where it lies

    @property
    def absorbs(self) -> bool:
        """Whether attention goes over the memory itself: see `MultiHeadAttention.absorbs`. Rotated keys have
        to be made."""
        return self.rotation is None and all(layer.attention.absorbs for layer in self.each_layer())

    @property
    def constant_memory(self) -> bool:
        """Whether the normalised memory has no parameters in it, so that it stays the same while the layers
        learn."""
        return not isinstance(self.position_table, nn.Parameter)

    def normalize(self, memory: Tensor, positions: Tensor) -> Tensor:
        """Memory [..., S, D] of slots at positions [..., S] as the layers read it: positions added,
        normalised; leading axes broadcast.

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
        """What memory keeps of layers' inputs [..., S, D] at positions [..., S]: normalised already, where
        that has no parameters."""
        return self.normalize(inputs, positions) if self.constant_memory else inputs

    def offered(self, stored: Tensor, positions: Tensor) -> Tensor:
        """What `stored` memory shows under the present weights: normalised."""
        return stored if self.constant_memory else self.normalize(stored, positions)

    def maps(self) -> list[Maps]:
        """Each layer's query and output maps for reading banks; valid as long as the weights stay as they
        are."""
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
        """The layers over banks, one for each: x [B, D] to (out [B, D], the layers' inputs [L, B, D],
        detached)."""
        inputs = []
        for layer, bank, own in zip(self.each_layer(), banks, maps, strict=True):
            inputs.append(x.detach())
            x = layer.read(x, bank, window, own, self.rotation)
        return x, torch.stack(inputs) if inputs else x.new_empty(0, len(x), self.dim)

    def replay(self, x: Tensor, positions: Tensor, window: Window) -> Tensor:
        """The layers' inputs [L, E, S, D] for whole pieces of episodes, x [E·S, D] at positions [E, S], each
        row seeing its `window`."""
        inputs, maps = [], self.maps()
        for number, layer in enumerate(self.each_layer()):
            tokens = x.view(*positions.shape, self.dim)
            inputs.append(tokens)
            bank = self.bank(number, self.normalize(tokens, positions), positions)
            x = layer.read(x, bank, window, maps[number], self.rotation)
        return torch.stack(inputs) if inputs else x.new_empty(0, *positions.shape, self.dim)
