"""A Lagrange multiplier with the bound that it enforces."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST = 1e-8


class Multiplier(nn.Module):
    """A positive Lagrange multiplier: a temperature η, or the α of a bound on a KL divergence.

    L = Σ α sg(KL) for what is bounded, L_α = Σ α (ε − sg(KL)) for the multiplier itself

    It is kept and moved in real units; `project_` must follow every optimiser step. The gradient of its loss
    does not shrink with it, so one that was driven onto its floor comes back; parametrisations through exp or
    softplus lose their gradient there.

    Args:
        initial: value to start from, > 0.
        bound: ε, in nats, of each entry.
        shape: () for one multiplier, [A] for one per action dimension.

    Raises:
        ValueError: initial is not a positive finite number.

    Reference: Song et al. 2019, section 4 and eq. 6; Abdolmaleki et al. 2018b.
    """

    def __init__(self, initial: float, bound: float, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not (math.isfinite(initial) and initial > 0):
            raise ValueError(f"Multiplier: initial must be a positive finite number, got {initial}")
        self.bound = bound
        self.value = nn.Parameter(torch.full(shape, float(initial)))

    def forward(self) -> Tensor:
        """The multiplier, of the given shape, with its gradient."""
        return self.value

    def penalty(self, kl: Tensor) -> Tensor:
        """Σ α KL, 0-d, with α a constant: what the bounded policy pays.

        Args:
            kl: mean KL in nats, of the multiplier's shape.
        """
        return (self.value.detach() * kl).sum()

    def loss(self, kl: Tensor) -> Tensor:
        """Σ α (ε − KL), 0-d, with KL a constant: raises α while the KL is above its bound, lowers it below.

        Args:
            kl: as for `penalty`.
        """
        return (self.value * (self.bound - kl.detach())).sum()

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the multiplier at or above 1e-8; call after each optimiser step."""
        if self.value.requires_grad:  # a frozen one is somebody else's to set
            self.value.clamp_(min=SMALLEST)
