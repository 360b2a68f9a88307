"""One layer of the memory transformer: attention to memory, a feed-forward part, and their gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrl import ops
from fastrl.errors import SettingError, nearest
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear, linear
from fastrl.nn.memory_attention import Bank, Maps, MultiHeadAttention, Window
from fastrl.nn.positions import Rotation


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
            hint = nearest(gating, ["residual", "gru"])
            raise SettingError(f'trxl_gating must be "residual" or "gru", got {gating!r}{hint}')
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
        attended = ops.memory_attention(
            query, bank.keys, bank.values, window.episode, window.index, mask=window.mask
        )
        return self.update(x, linear(attended.flatten(1), maps.out, attention.fc_out.bias))
