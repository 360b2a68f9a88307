"""What maximum-a-posteriori policy optimisation is made of: E-step weights, the temperature, the KL multipliers.

V-MPO uses these over a batch of visited states; each function takes flat rows and returns scalars or one number per row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MINIMUM_DUAL = 1e-8


class Dual(nn.Module):
    """A positive Lagrange multiplier (a temperature η, a KL multiplier α), kept and moved in real units.

    `project_` must follow every optimiser step. The gradient of its loss does not shrink with the multiplier, so one that was driven onto
    its floor comes back; parametrisations through exp or softplus lose their gradient there.

    Args:
        initial: value to start from, > 0.
        shape: () for one multiplier, [A] for one per action dimension.

    Raises:
        ValueError: initial is not a positive finite number.

    Reference: Song et al. 2019, section 4 (projection onto values above 1e-8).
    """

    def __init__(self, initial: float, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not (math.isfinite(initial) and initial > 0):
            raise ValueError(f"Dual: initial must be a positive finite number, got {initial}")
        self.multiplier = nn.Parameter(torch.full(shape, float(initial)))

    def forward(self) -> Tensor:
        """The multiplier, of the given shape, with its gradient."""
        return self.multiplier

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the multiplier at or above 1e-8; call after each optimiser step."""
        self.multiplier.clamp_(min=MINIMUM_DUAL)


def top_fraction(advantages: Tensor, fraction: float) -> Tensor:
    """Rows of the largest advantages: exactly k = max(1, ⌊fraction · M⌋) of them, ties broken by position in the sort.

    Args:
        advantages: [M], valid rows only.
        fraction: share to keep, in (0, 1].

    Returns:
        Indices [k] int64, in no particular order.
    """
    k = max(1, math.floor(fraction * advantages.numel() + 1e-9))  # 1e-9: 0.29 · 100 is 28.999… in binary
    return torch.topk(advantages, k, sorted=False).indices


def e_step_weights(advantages: Tensor, temperature: Tensor, log_importance: Tensor | None = None) -> Tensor:
    """Non-parametric policy over the selected rows: ψ_i = λ_i exp(A_i/η) / Σ_j λ_j exp(A_j/η), constant to autograd.

    Args:
        advantages: [K].
        temperature: η > 0, a 0-d tensor.
        log_importance: log λ [K] for rows that another policy produced; None is λ = 1.

    Returns:
        Weights [K] that sum to 1.

    Reference: Song et al. 2019, eq. 4.
    """
    scaled = advantages / temperature.detach()
    if log_importance is not None:
        scaled = scaled + log_importance
    return torch.softmax(scaled, dim=0).detach()


def temperature_loss(advantages: Tensor, temperature: Tensor, epsilon: float, log_importance: Tensor | None = None) -> Tensor:
    """Dual of the E-step's KL bound, to be minimised over η.

    L_η = η ε_η + η log (1/K) Σ_i λ_i exp(A_i/η)

    The largest advantage is taken out before and put back after the sum, so that neither the loss nor its gradient loses digits at small η.

    Args:
        advantages: [K], constants.
        temperature: η > 0, a 0-d tensor with gradient.
        epsilon: ε_η, bound on the KL between the weights and the uniform distribution over the K rows, in nats.
        log_importance: as in `e_step_weights`.

    Returns:
        0-d loss.

    Reference: Song et al. 2019, eq. 5.
    """
    largest = advantages.max().detach()
    shifted = (advantages.detach() - largest) / temperature
    if log_importance is not None:
        shifted = shifted + log_importance
    return largest + temperature * (epsilon + torch.logsumexp(shifted, dim=0) - math.log(advantages.numel()))


def multiplier_loss(multiplier: Tensor, epsilon: float, kl: Tensor) -> Tensor:
    """Loss of a KL multiplier: L_α = Σ α (ε − sg(KL)). It raises α while the KL is above its bound and lowers it below.

    Args:
        multiplier: α, a tensor with gradient.
        epsilon: bound on the KL in nats.
        kl: mean KL in nats, of α's shape.

    Reference: Song et al. 2019, eq. 6; Abdolmaleki et al. 2018b.
    """
    return (multiplier * (epsilon - kl.detach())).sum()
