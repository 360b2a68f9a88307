"""The policy gradient itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastrl.losses.policy_gradient import vanilla_pg_loss
from fastrl.toolkit.models.base_pg_model import BasePGModel


class VanillaPGModel(BasePGModel):
    """L = −mean log π(a|s) A − entropy_coef · entropy.

    Args:
        model, batcher, entropy_coef, kwargs: as for `BasePGModel`.

    Reference: Williams 1992, REINFORCE; Sutton et al. 2000, the policy gradient theorem.
    """

    @property
    def batch_keys(self) -> list[str]:
        return ["state_t", "action", "advantage"]

    def register_losses(self) -> None:
        self.register_loss(self.pg_loss)
        self.register_loss(self.entropy_loss)

    def pg_loss(self, batch: Any) -> Tensor:
        """−mean log π(a|s) A, 0-d."""
        return vanilla_pg_loss(batch.new_log_prob, batch.advantage)
