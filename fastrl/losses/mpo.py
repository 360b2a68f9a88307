"""What MPO is made of: E-step weights at each state, the temperature, the KL multipliers.

What is named after samples takes [B, S], or [B, A] with all A actions of a discrete policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MINIMUM_DUAL = 1e-8


class Dual(nn.Module):
    """A positive Lagrange multiplier (a temperature η, a KL multiplier α), kept and moved in real units.

    `project_` must follow every optimiser step. The gradient of its loss does not shrink with the multiplier,
    so one that was driven onto its floor comes back; parametrisations through exp or softplus lose their
    gradient there.

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
        if self.multiplier.requires_grad:  # a frozen one is somebody else's to set
            self.multiplier.clamp_(min=MINIMUM_DUAL)


def multiplier_loss(multiplier: Tensor, epsilon: float, kl: Tensor) -> Tensor:
    """Loss of a KL multiplier: L_α = Σ α (ε − sg(KL)). It raises α while the KL is above its bound and lowers
    it below.

    Args:
        multiplier: α, a tensor with gradient.
        epsilon: bound on the KL in nats.
        kl: mean KL in nats, of α's shape.

    Reference: Song et al. 2019, eq. 6; Abdolmaleki et al. 2018b.
    """
    return (multiplier * (epsilon - kl.detach())).sum()


def sample_weights(q_values: Tensor, temperature: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """E-step at each state: w_s = exp(q_s/η) / Σ exp(q/η) over samples of the old policy, constant to
    autograd.

    Args:
        q_values: [B, S].
        temperature: η > 0, a 0-d tensor.
        log_prior: log π_old [B, A] where all actions are there instead of samples: then w_a ∝ π_old(a)
            exp(q_a/η).

    Returns:
        Weights [B, S] that sum to 1 at each state.

    Reference: Abdolmaleki et al. 2018a, "Maximum a Posteriori Policy Optimisation", section 4.1.
    """
    scaled = q_values / temperature.detach()
    return torch.softmax(scaled if log_prior is None else scaled + log_prior, dim=1).detach()


def sample_temperature_loss(
    q_values: Tensor,
    temperature: Tensor,
    epsilon: float,
    log_prior: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Dual of the E-step's KL bound at each state: η (ε + mean_B log mean_S exp(q/η)), to be minimised over
    η.

    Args:
        q_values: [B, S], constants.
        temperature: η > 0, a 0-d tensor with gradient.
        epsilon: ε, bound on the mean KL between the weights and the old policy, in nats.
        log_prior: as in `sample_weights`; None is uniform over the S samples.
        weight: [B], what each state counts, summing to 1; None: all alike.

    Reference: Abdolmaleki et al. 2018a, eq. 9.
    """
    q_values = q_values.detach()
    largest = q_values.amax(1, keepdim=True)
    shifted = (q_values - largest) / temperature
    shifted = shifted - math.log(q_values.shape[1]) if log_prior is None else shifted + log_prior
    log_means = torch.logsumexp(shifted, dim=1)
    if weight is None:
        return temperature * (epsilon + log_means.mean()) + largest.mean()
    return temperature * (epsilon + (weight * log_means).sum()) + (weight * largest[:, 0]).sum()


def decoupled_gaussian_loss(
    weights: Tensor, actions: Tensor, mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor
) -> Tensor:
    """−Σ_S w [log N(a; μ, σ_old) + log N(a; μ_old, σ)] at each state: the mean is fitted at the old
    deviation, and the other way round.

    Weighted first and second moments of the actions are all of the samples that the gradient needs, so
    autograd sees [B, A] only.

    Args:
        weights: [B, S], constants; they need not sum to 1.
        actions: [B, S, A].
        mean, log_std: [B, A], what is learned.
        old_mean, old_log_std: [B, A], constants.

    Returns:
        [B], up to the constants of the densities.

    Reference: Abdolmaleki et al. 2018b, "Relative Entropy Regularized Policy Iteration", section 4.2.
    """
    with torch.no_grad():
        total = weights.sum(1, keepdim=True)
        offsets = actions - old_mean.unsqueeze(
            1
        )  # moments about the old mean: far from the origin nothing cancels
        first = torch.bmm(weights.unsqueeze(1), offsets).squeeze(1)
        second = torch.bmm(weights.unsqueeze(1), offsets.square()).squeeze(1)
    shift = mean - old_mean
    of_mean = 0.5 * (total * shift.square() - 2.0 * shift * first + second) * torch.exp(-2.0 * old_log_std)
    of_std = 0.5 * second * torch.exp(-2.0 * log_std) + total * log_std
    return (of_mean + of_std).sum(1)


def gaussian_kl_parts(
    mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(old ‖ new) per action dimension in nats, [B, A] each: the mean's part at the old deviation, the
    deviation's at the old mean.

    Reference: Abdolmaleki et al. 2018b, section 4.2.
    """
    kl_mean = 0.5 * ((mean - old_mean) * torch.exp(-old_log_std)).square()
    twice = 2.0 * (old_log_std - log_std)
    # ½ e^x − ½ x − ½ with x = log σ²_old/σ² as it stands would lose 4 % of a KL of 1e-7, and all of one of
    # 1e-8
    return kl_mean, 0.5 * (torch.expm1(twice) - twice)


def kl_metrics(kls: Sequence[Tensor], epsilons: Sequence[float]) -> dict[str, Tensor]:
    """KLs of the mean, or of discrete actions, and of the deviation, each in nats and over its bound; of
    several dimensions the mean."""
    metrics: dict[str, Tensor] = {}
    for name, kl, epsilon in zip(("mean", "std"), kls, epsilons, strict=False):
        mean_kl = kl.detach().mean()
        metrics |= {f"kl/{name}": mean_kl, f"mpo/kl_{name}_rel": mean_kl / epsilon}
    return metrics


def weights_of_valid(valid: Tensor) -> Tensor:
    """[T, B] flags as weights [T·B] that sum to 1 over the valid rows."""
    flags = valid.flatten().float()
    return flags / flags.sum()


def out_of_bounds_cost(actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """−‖a − clip(a)‖₂ of actions [..., A]: what the action penalty improves, [...].

    Reference: Hoffman et al. 2020, "Acme" (the penalty in its MPO agent), after Huang, Abdolmaleki et al.
        2020, on multi-objective MPO.
    """
    return -(actions - torch.maximum(torch.minimum(actions, high), low)).norm(dim=-1)
