"""Proximal policy optimisation with a clipped ratio."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastrl.losses.ppo import ppo_loss
from fastrl.toolkit.models.surrogate_pg_model import SurrogatePGModel
from fastrl.toolkit.utils.utils import make_callable


class PPOClipModel(SurrogatePGModel):
    """L = −mean min(r A, clip(r, 1 − c, 1 + c) A) − entropy_coef · entropy.

    Args:
        model, batcher: as for `BasePGModel`.
        ppo_clip_range: c, a number or a function of the environment steps.
        kwargs: as for `BasePGModel`.

    Reference: Schulman et al. 2017, Proximal Policy Optimization Algorithms, eq. 7.
    """

    def __init__(self, model: nn.Module, batcher: Any, ppo_clip_range: Any = 0.2, **kwargs: Any) -> None:
        self.ppo_clip_range = make_callable(ppo_clip_range)
        super().__init__(model, batcher, **kwargs)

    def register_losses(self) -> None:
        self.register_loss(self.ppo_clip_loss)
        self.register_loss(self.entropy_loss)

    def ppo_clip_loss(self, batch: Any) -> Tensor:
        """−mean min(r A, clip(r, 1 − c, 1 + c) A), 0-d."""
        clip = self.ppo_clip_range(self.num_steps)
        rest: dict[str, Any] = {"clip_coef": clip, "vf_coef": 0.0, "ent_coef": 0.0, "diagnostics": False}
        return ppo_loss(batch.new_log_prob, batch.log_prob, batch.advantage, None, None, None, **rest)[0]

    def clip_fraction(self, ratio: Tensor) -> Tensor:
        """Share of ratios [M] outside the clip range, 0-d."""
        return ((ratio - 1.0).abs() > self.ppo_clip_range(self.num_steps)).float().mean()

    def write_logs(self, batch: Any) -> None:
        """Clip range, and the share of rows whose ratio is outside after training."""
        super().write_logs(batch)
        self.add_tf_only_log("PPO Clip Range", self.ppo_clip_range(self.num_steps))
        if "dist" in batch:
            self.add_log(
                "PPO Clip Fraction",
                self.clip_fraction(self.calculate_prob_ratio(batch.new_log_prob, batch.log_prob)),
            )
