"""Encodings of a token's position in its episode: sinusoidal and learned tables, and rotations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError

ENCODINGS = ("absolute", "learned", "relative", "none")


class PositionalEncoding(nn.Module):
    """Sinusoidal positions, counted down to 0 at the end of the sequence.

    Row i of a sequence of length n stands at position n − 1 − i; its first half are sines, its second half
    cosines, of the position over wavelengths in a geometric progression.

    Args:
        dim: D, features, even.
        min_timescale, max_timescale: the smallest and the largest wavelength over 2π, in steps.

    Raises:
        SettingError: dim is odd.

    Reference: Vaswani et al. 2017, "Attention Is All You Need".
    """

    inverse_timescales: Tensor

    def __init__(self, dim: int, min_timescale: float = 2.0, max_timescale: float = 1e4) -> None:
        super().__init__()
        if dim % 2:
            raise SettingError(f"trxl_dim must be even for sinusoidal positions, got {dim}")
        exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
        timescales = min_timescale * (max_timescale / min_timescale) ** exponents
        self.register_buffer("inverse_timescales", timescales.reciprocal().float(), persistent=False)

    def forward(self, seq_len: int) -> Tensor:
        """The encoding of a sequence, [seq_len, D] float32."""
        positions = torch.arange(
            seq_len - 1, -1, -1, dtype=torch.float32, device=self.inverse_timescales.device
        )
        angles = positions[:, None] * self.inverse_timescales
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def rows(self, index: Tensor, seq_len: int) -> Tensor:
        """The encoding at whole steps index [...], as [..., D] float32; no other rows are made."""
        # float64: neighbouring steps of a long sequence are the same number in float32
        positions = (seq_len - 1 - index).to(torch.float64)
        angles = positions[..., None] * self.inverse_timescales.to(torch.float64)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


class Rotation(nn.Module):
    """Rotates pairs of features by an angle proportional to the position (rotary, Su et al. 2021).

    Products of rows then depend on distances alone.

    Args:
        size: K, features of a head, even.
        base: the largest wavelength over 2π, in steps.

    Raises:
        SettingError: size is odd.

    Reference: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """

    frequencies: Tensor

    def __init__(self, size: int, base: float = 1e4) -> None:
        super().__init__()
        if size % 2:
            raise SettingError(f"trxl_dim / trxl_num_heads must be even for relative positions, got {size}")
        # float64: an endless episode's positions are large, and only what is left of whole turns counts
        self.register_buffer(
            "frequencies", base ** -(torch.arange(0, size, 2, dtype=torch.float64) / size), persistent=False
        )

    def forward(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Rows [..., H, K] at positions [...] (whole steps), turned."""
        angles = positions.to(torch.float64)[..., None, None] * self.frequencies
        cosine, sine = angles.cos().to(rows.dtype), angles.sin().to(rows.dtype)
        first, second = rows.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
