"""What the value function should have said: three targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastrl.toolkit.utils.estimators.rollout import Estimator, entry, state_values


@dataclass(frozen=True)
class CompleteReturn(Estimator):
    """The bootstrapped return: G_t = r_t + γ G_{t+1} until the episode ends, G_T = V(s_T).

    A truncated step is followed by V of the state it led to, a terminated one by 0. `Estimator` says what a
    batch holds.

    Args:
        gamma: discount per step, in [0, 1].
    """

    gamma: float

    def __call__(self, batch: Any) -> Tensor:
        """Targets [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=1.0)[1]


@dataclass(frozen=True)
class TDTarget(Estimator):
    """One step, then the value: r_t + γ nt_t V(s_{t+1}), with nt_t = 1 − terminated_t.

    `Estimator` says what a batch holds.

    Args:
        gamma: discount per step, in [0, 1].
    """

    gamma: float

    def __call__(self, batch: Any) -> Tensor:
        """Targets [T, E]."""
        return self._scan(batch, gamma=self.gamma, gae_lambda=0.0)[1]


@dataclass(frozen=True)
class FromAdvantage(Estimator):
    """advantage_t + V(s_t): with `GAE` the TD(λ) return.

    Besides `state_value_t_and_tp1` [T+1, E] the batch has `advantage` [T, E], as estimated: this comes before
    any normalisation.
    """

    def __call__(self, batch: Any) -> Tensor:
        """Targets [T, E]."""
        advantage = torch.as_tensor(entry(batch, "advantage")).detach()
        values = state_values(batch, advantage.shape)
        return advantage.to(values) + values[:-1]
