"""Proximal policy optimisation with a penalty on the KL divergence that adapts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastrl.losses.policy_gradient import adapted_kl_penalty, kl_penalty_loss
from fastrl.toolkit.models.surrogate_pg_model import SurrogatePGModel
from fastrl.toolkit.utils.utils import make_callable


class PPOAdaptiveModel(SurrogatePGModel):
    """L = −mean r A + β KL + 50 max(0, KL − 2 d)² − entropy_coef · entropy.

    KL is the mean KL(π_old ‖ π) of the minibatch.

    After a batch β is halved where KL(π_old ‖ π) on all of it is below d/1.5, and doubled where it is above
    1.5 d, within [1e-4, 1e4]; epochs that are left are not made once it is above 4 d.

    Args:
        model, batcher: as for `BasePGModel`.
        kl_target: d in nats, a number or a function of the environment steps.
        kl_penalty: β to start from; it is in `state_dict()`.
        kwargs: as for `BasePGModel`.

    Reference: Schulman et al. 2017, Proximal Policy Optimization Algorithms, section 4.
    """

    kl_penalty: Tensor
    early_stops: Tensor  # batches whose training was cut short

    def __init__(
        self, model: nn.Module, batcher: Any, *, kl_target: Any = 0.01, kl_penalty: float = 1.0, **kwargs: Any
    ) -> None:
        self.kl_target = make_callable(kl_target)
        super().__init__(model, batcher, **kwargs)
        self.register_buffer("kl_penalty", torch.tensor(float(kl_penalty)))
        self.register_buffer("early_stops", torch.tensor(0))

    def register_losses(self) -> None:
        super().register_losses()
        self.register_loss(self.kl_loss)

    def register_callbacks(self) -> None:
        super().register_callbacks()
        self.callbacks["epoch_end"].append(self._stop_early)
        self.callbacks["train_end"].append(self._adapt)

    @property
    def batch_keys(self) -> list[str]:
        return [*super().batch_keys, "old_output"]

    @torch.no_grad()
    def _remember(self, batch: Any) -> None:
        batch.old_output = self(batch.state_t)
        batch.old_dist = self.create_dist(batch.old_output)
        batch.log_prob = batch.old_dist.log_prob(batch.action)

    def kl_loss(self, batch: Any) -> Tensor:
        """β KL + 50 max(0, KL − 2 d)², 0-d."""
        kl = self.kl_div(self.create_dist(batch.old_output), batch.dist)
        return kl_penalty_loss(kl, self.kl_penalty, self.kl_target(self.num_steps))

    @torch.no_grad()
    def _stop_early(self, batch: Any) -> bool:
        stops = float(self.kl_div(batch.old_dist, self.dist_of(batch.state_t))) > 4.0 * self.kl_target(
            self.num_steps
        )
        self.early_stops += stops
        return stops

    @torch.no_grad()
    def _adapt(self, batch: Any) -> None:
        """Once for each batch, from the policy as training has left it (`batch.dist`, see `_look_again`)."""
        kl, target = float(self.kl_div(batch.old_dist, batch.dist)), self.kl_target(self.num_steps)
        self.kl_penalty.fill_(adapted_kl_penalty(float(self.kl_penalty), kl, target))

    def write_logs(self, batch: Any) -> None:
        """Target, penalty, and how often training was cut short."""
        super().write_logs(batch)
        self.add_tf_only_log("KL Target", self.kl_target(self.num_steps), precision=4)
        self.add_log("KL Penalty", self.kl_penalty, precision=4)
        self.add_tf_only_log("Early Stops", self.early_stops)
