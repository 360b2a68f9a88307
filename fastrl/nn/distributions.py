"""Action distributions: plain tensors in, per-row numbers out, no validation in the hot path.

Each class offers the same few methods, so that a loss is written once for discrete and for continuous
actions. `kl_parts(new)` gives the pieces of KL(self ‖ new) that are bounded separately: one for a
categorical, two (mean, covariance) for a Gaussian. `centred` and
`centred_variance` are for advantage functions: what a function of the action is beyond its mean under the
distribution, see `fastrl.losses.dae`; no gradient goes into the distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, slots=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_std))²) over actions [..., A].

    Args:
        mean: [..., A].
        log_std: broadcasts against mean; logarithm of the standard deviation, in nats.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self) -> Tensor:
        """One draw [..., A] from torch's generator of the device."""
        return torch.addcmul(self.mean, self.log_std.exp().expand_as(self.mean), torch.randn_like(self.mean))

    def mode(self) -> Tensor:
        """The mean [..., A]."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Joint log-density [...] in nats, summed over action dimensions."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - _HALF_LOG_TWO_PI).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy [...] in nats, summed over action dimensions."""
        return (self.log_std.expand_as(self.mean) + (0.5 + _HALF_LOG_TWO_PI)).sum(-1)

    def kl_parts(self, new: DiagonalGaussian) -> tuple[Tensor, Tensor]:
        """KL(self ‖ new) split by what moved, each [...], in nats, summed over action dimensions.

        KL_mean = Σ (μ' − μ)² / (2σ²),   KL_cov = Σ log(σ'/σ) + σ²/(2σ'²) − ½      (μ, σ: self; μ', σ': new)

        The mean part is taken at the old covariance and the covariance part at the old mean, so each has a
        gradient in one of them only.

        Reference: Song et al. 2019 (V-MPO), appendix; Abdolmaleki et al. 2018b.
        """
        kl_mean = 0.5 * ((new.mean - self.mean) * torch.exp(-self.log_std)).square().sum(-1)
        kl_cov = self._kl_of_deviations(new).sum(-1)
        return kl_mean, kl_cov.expand(kl_mean.shape)

    def kl(self, new: DiagonalGaussian) -> Tensor:
        """KL(self ‖ new) [...] in nats, summed over action dimensions.

        It is not the sum of `kl_parts` where both mean and covariance moved.
        """
        z = (new.mean - self.mean) * torch.exp(-new.log_std)
        return (self._kl_of_deviations(new) + 0.5 * z.square()).sum(-1)

    def _kl_of_deviations(self, new: DiagonalGaussian) -> Tensor:
        """log(σ'/σ) + σ²/(2σ'²) − ½ for each dimension, by expm1.

        Terms of order 1 would leave their rounding in a KL of 1e-7.
        """
        twice = 2.0 * (self.log_std - new.log_std)
        return 0.5 * (torch.expm1(twice) - twice)

    def centred(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Σ_d b_d z_d + c_d (z_d² − 1) with z = (a − μ)/σ, [...]; outputs [..., A, 2] are (b, c)."""
        z = (actions - self.mean.detach()) * torch.exp(-self.log_std.detach())
        slope, curvature = outputs.unbind(-1)
        return (slope * z + curvature * (z.square() - 1.0)).sum(-1)

    def centred_variance(self, outputs: Tensor) -> Tensor:
        """The variance of `centred` over actions [...]: Σ_d b_d² + 2 c_d²."""
        slope, curvature = outputs.unbind(-1)
        return (slope.square() + 2.0 * curvature.square()).sum(-1)


@dataclass(frozen=True, slots=True)
class Categorical:
    """A categorical over A actions.

    Args:
        logits: [..., A], unnormalised log-probabilities.
    """

    logits: Tensor
    _known: list[Tensor] = field(
        default_factory=list, init=False, repr=False, compare=False
    )  # log-probabilities, once worked out

    def log_probs(self) -> Tensor:
        """Normalised log-probabilities of every action [..., A].

        Computed once, and again where only later a gradient is wanted.
        """
        if self._known and (
            self._known[0].requires_grad or not (self.logits.requires_grad and torch.is_grad_enabled())
        ):
            return self._known[0]
        self._known[:] = [torch.log_softmax(self.logits, dim=-1)]
        return self._known[0]

    def sample(self) -> Tensor:
        """One draw [...] int64 from the device's generator of torch, by the Gumbel-max trick."""
        noise = torch.empty_like(self.logits).exponential_().log_()  # −noise is standard Gumbel
        return (self.logits - noise).argmax(-1)

    def mode(self) -> Tensor:
        """The most probable action [...] int64."""
        return self.logits.argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability [...] in nats of actions [...] int64."""
        return self.log_probs().gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy [...] in nats."""
        log_probs = self.log_probs()
        return -(log_probs.exp() * log_probs).sum(-1)

    def kl_parts(self, new: Categorical) -> tuple[Tensor]:
        """(KL(self ‖ new),) as [...] in nats."""
        return (self.kl(new),)

    def kl(self, new: Categorical) -> Tensor:
        """KL(self ‖ new) [...] in nats: Σ p (e^δ − 1 − δ) with δ = log p' − log p.

        Σ p (e^δ − 1) is 0 and takes the first order out of every term: of near policies, what is left of Σ −p
        δ is mostly rounding.
        """
        log_probs, new_log_probs = self.log_probs(), new.log_probs()
        difference, probs = new_log_probs - log_probs, log_probs.exp()
        # a large δ needs no care, and e^δ may overflow there though p e^δ is a probability
        gained = torch.where(
            difference < 1.0, probs * torch.expm1(difference.clamp(max=1.0)), new_log_probs.exp() - probs
        )
        return (gained - probs * difference).sum(-1)

    def centred(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """f(a) − Σ_a' π(a') f(a') [...], of f = outputs [..., A] at actions [...] int64."""
        return self._centred(outputs).gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def centred_variance(self, outputs: Tensor) -> Tensor:
        """The variance of `centred` over actions [...]."""
        return (self.log_probs().detach().exp() * self._centred(outputs).square()).sum(-1)

    def _centred(self, outputs: Tensor) -> Tensor:
        # without the plain mean first: what is large and common to all actions would leave its rounding
        # behind
        outputs = outputs - outputs.mean(-1, keepdim=True)
        return outputs - (self.log_probs().detach().exp() * outputs).sum(-1, keepdim=True)


Distribution = DiagonalGaussian | Categorical
