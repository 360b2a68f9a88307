"""A policy over continuous actions whose deviation depends on the state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.autograd import transformed
from fastrl.nn.critics import Torso, small_init
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.linear import Linear

LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0


class _Limited(torch.autograd.Function):
    """log σ within its limits; beyond them only a gradient that leads back comes through, so that it cannot
    get stuck there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _within_limits(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        leads_away = ((x > HIGHEST_LOG_STD) & (gradient < 0)) | ((x < LOWEST_LOG_STD) & (gradient > 0))
        return gradient.masked_fill(leads_away, 0.0)


def _within_limits(x: Tensor) -> Tensor:
    return torch.where(torch.isfinite(x), x.clamp(LOWEST_LOG_STD, HIGHEST_LOG_STD), x)


class GaussianPolicy(nn.Module):
    """π(a|s) = N(μ(s), diag(σ(s)²)), with log σ in [−20, 2].

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso.
        log_std_init: log σ to start from, in policy units.
        layer_norm: see `Torso`.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        layer_sizes: Sequence[int],
        log_std_init: float = math.log(0.5),
        *,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.act_dim = act_dim
        self.torso = Torso(obs_dim, layer_sizes, layer_norm=layer_norm)
        self.head = small_init(Linear(self.torso.width, 2 * act_dim))
        with torch.no_grad():
            self.head.bias[act_dim:] = log_std_init

    def forward(self, obs: Tensor) -> DiagonalGaussian:
        """The policy at obs [B, obs_dim]. What is not finite stays so: clamping must not hide it."""
        mean, log_std = self.head(self.torso(obs)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, _within_limits(log_std) if transformed() else _Limited.apply(log_std))
