"""Attention to what earlier steps of an episode left in memory.

Two ways lead to the same numbers. `MultiHeadAttention.forward` takes windows of memory as tensors, in plain
torch. The fast path reads a memory bank where it lies (`fastrl.ops.memory_attention`): keys and values depend
on the slot alone, so they are worked out once for each slot and not once for each row that sees it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.linear import Linear
from fastrl.nn.positions import Rotation


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
        """Whether key and value projections fit into those of queries and outputs without making them larger.

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
