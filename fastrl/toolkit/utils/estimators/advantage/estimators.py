"""Estimators of how much better an action was than the policy's average, on `fastrl.ops.gae`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from fastrl.toolkit.utils.estimators.rollout import Estimator


@dataclass(frozen=True)
class CompleteReturn(Estimator):
    """The discounted return itself: A_t = r_t + γ go_t A_{t+1}, A_T = 0.

    Neither bootstrap nor baseline, so the only one that needs no value function; what comes after a
    truncation or the last row counts as 0. `Estimator` says what a batch holds.

    Args:
        gamma: discount per step, in [0, 1].
    """

    gamma: float
    needs_values: ClassVar[bool] = False

    def __call__(self, batch: Any) -> Tensor:
        """Advantages [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=1.0)[0]


@dataclass(frozen=True)
class Baseline(Estimator):
    """The bootstrapped return above the value of the state: A_t = G_t − V(s_t), with G_T = V(s_T).

    `Estimator` says what a batch holds.

    Args:
        gamma: discount per step, in [0, 1].
    """

    gamma: float

    def __call__(self, batch: Any) -> Tensor:
        """Advantages [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=1.0)[0]


@dataclass(frozen=True)
class TD(Estimator):
    """The one-step residual: A_t = r_t + γ nt_t V(s_{t+1}) − V(s_t), with nt_t = 1 − terminated_t.

    `Estimator` says what a batch holds.

    Args:
        gamma: discount per step, in [0, 1].
    """

    gamma: float = 0.99

    def __call__(self, batch: Any) -> Tensor:
        """Advantages [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=0.0)[0]


@dataclass(frozen=True)
class GAE(Estimator):
    """Generalised advantage estimates: residuals of `TD` summed with weights (γλ)^k within the episode.

    `Estimator` says what a batch holds.

    Args:
        gamma: discount per step, in [0, 1].
        gae_lambda: λ in [0, 1]: 0 is `TD`, 1 is `Baseline`.

    Reference: Schulman et al. 2016, High-Dimensional Continuous Control Using Generalized Advantage
        Estimation, eq. 16.
    """

    gamma: float = 0.99
    gae_lambda: float = 0.95

    def __call__(self, batch: Any) -> Tensor:
        """Advantages [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=self.gae_lambda)[0]
