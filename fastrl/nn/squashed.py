"""A Gaussian whose samples are squashed into bounds, with its exact density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastrl.nn.distributions import DiagonalGaussian


@dataclass(frozen=True, slots=True)
class SquashedGaussian:
    """a = m + h tanh(u) with u ~ N(mean, diag(exp(log_std))²), m and h middle and half width of the bounds.

    log π(a) = log N(u) − Σ [log h + log(1 − tanh² u)],   log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u))

    Args:
        gaussian: the distribution of u, [..., A].
        low, high: [A], finite bounds.

    Reference: Haarnoja et al. 2018, "Soft Actor-Critic", appendix C.
    """

    gaussian: DiagonalGaussian
    low: Tensor
    high: Tensor

    def sample(self) -> Tensor:
        """One draw [..., A]."""
        return self._squash(self.gaussian.sample())

    def mode(self) -> Tensor:
        """The squashed mean [..., A], the median of the actions."""
        return self._squash(self.gaussian.mean)

    def sample_with_log_prob(self) -> tuple[Tensor, Tensor]:
        """A draw [..., A] and its log-density [...] in nats, summed over action dimensions.

        Both have their gradient for mean and deviation.
        """
        u = self.gaussian.sample()
        return self._squash(u), self._log_prob_at(u)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density [...] in nats of actions [..., A]; those on a bound count as just within it."""
        unit = (actions - 0.5 * (self.high + self.low)) / (0.5 * (self.high - self.low))
        largest = 1.0 - torch.finfo(unit.dtype).eps
        return self._log_prob_at(torch.atanh(unit.clamp(-largest, largest)))

    def _squash(self, u: Tensor) -> Tensor:
        # at ±1 the very bounds: m ± h would be rounded beyond some
        return torch.lerp(self.low, self.high, 0.5 + 0.5 * torch.tanh(u))

    def _log_prob_at(self, u: Tensor) -> Tensor:
        log_slope = 2.0 * (math.log(2.0) - u - functional.softplus(-2.0 * u))  # of tanh, without cancellation
        return self.gaussian.log_prob(u) - (log_slope + torch.log(0.5 * (self.high - self.low))).sum(-1)
