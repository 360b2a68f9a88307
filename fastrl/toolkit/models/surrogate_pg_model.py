"""The surrogate objective of conservative policy iteration."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrl.losses.policy_gradient import surrogate_loss
from fastrl.nn.action_heads import Policy
from fastrl.toolkit.models.base_pg_model import BasePGModel


class SurrogatePGModel(BasePGModel):
    """L = −mean r A − entropy_coef · entropy, with r = π(a|s) / π_old(a|s).

    π_old is the policy before the batch was learned from.

    Args:
        model, batcher, entropy_coef, kwargs: as for `BasePGModel`.

    Reference: Kakade and Langford 2002; Schulman et al. 2017, eq. 6.
    """

    @property
    def batch_keys(self) -> list[str]:
        return ["state_t", "action", "advantage", "log_prob"]

    def register_losses(self) -> None:
        self.register_loss(self.surrogate_pg_loss)
        self.register_loss(self.entropy_loss)

    def register_callbacks(self) -> None:
        super().register_callbacks()
        self.callbacks["train_start"].append(self._remember)

    @torch.no_grad()
    def _remember(self, batch: Any) -> None:
        """π_old, on the whole batch."""
        batch.old_dist = self.dist_of(batch.state_t)
        batch.log_prob = batch.old_dist.log_prob(batch.action)

    def surrogate_pg_loss(self, batch: Any) -> Tensor:
        """−mean r A, 0-d."""
        return surrogate_loss(batch.new_log_prob, batch.log_prob, batch.advantage)

    def calculate_prob_ratio(self, new_log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
        """r = exp(new − old), of their shape."""
        return (new_log_probs - old_log_probs).exp()

    @staticmethod
    def kl_div(old: Policy, new: Policy) -> Tensor:
        """Mean KL(old ‖ new) over rows in nats, summed over action dimensions, 0-d."""
        return old.kl(new).mean()  # type: ignore[arg-type]  # both are of the same kind

    def write_logs(self, batch: Any) -> None:
        """KL(π_old ‖ π) after training."""
        super().write_logs(batch)
        if "dist" in batch:
            self.add_log("KL Divergence", self.kl_div(batch.old_dist, batch.dist), precision=4)
