"""A value function, by regression on targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.losses.ppo import clipped_value_loss
from fastrl.nn.containers import FlattenLinear, Shape
from fastrl.toolkit.models.base_model import BaseModel
from fastrl.toolkit.utils.utils import explained_var, make_callable


class ValueModel(BaseModel):
    """V(s), fitted to the targets `vtarget`.

    L = mean (V − y)²  without `clip_range`; with it, V_old being the value before the batch was learned from,
    L = ½ mean max((V − y)², (V_old + clip(V − V_old, ±c) − y)²)

    Mind the ½: it is in the clipped loss alone.

    Args:
        model, batcher: as for `BaseModel`.
        clip_range: c, a number or a function of the environment steps; None: the plain loss.
        kwargs: as for `BaseModel`.

    Reference: Schulman et al. 2016 (GAE); the clipped loss is that of the PPO code of Dhariwal et al. 2017,
        OpenAI Baselines.
    """

    def __init__(self, model: nn.Module, batcher: Any, *, clip_range: Any = None, **kwargs: Any) -> None:
        self.clip_range = None if clip_range is None else make_callable(clip_range)
        super().__init__(model, batcher, **kwargs)

    @property
    def batch_keys(self) -> list[str]:
        return ["state_t", "vtarget"] if self.clip_range is None else ["state_t", "vtarget", "old_pred"]

    def register_losses(self) -> None:
        self.register_loss(self.mse_loss if self.clip_range is None else self.clipped_mse_loss)

    def register_callbacks(self) -> None:
        super().register_callbacks()
        self.callbacks["train_start"].append(self._remember)

    @staticmethod
    def output_layer(input_shape: Shape, action_info: Mapping[str, Any]) -> nn.Module:
        return FlattenLinear(input_shape, 1)

    def values(self, states: Tensor) -> Tensor:
        """V [...] of states [..., *shape]; any leading dimensions."""
        lead = states.shape[: states.dim() - self._state_dims]
        return self(states.reshape(-1, *states.shape[len(lead) :])).reshape(lead)

    @property
    def _state_dims(self) -> int:
        return len(self.batcher.get_state_info()["shape"])

    def mse_loss(self, batch: Any) -> Tensor:
        """mean (V − y)², 0-d."""
        return (self(batch.state_t).flatten() - batch.vtarget).square().mean()

    def clipped_mse_loss(self, batch: Any) -> Tensor:
        """½ mean max((V − y)², (V_old + clip(V − V_old, ±c) − y)²), 0-d."""
        assert self.clip_range is not None
        return clipped_value_loss(
            self(batch.state_t).flatten(), batch.vtarget, batch.old_pred, self.clip_range(self.num_steps)
        ).mean()

    @torch.no_grad()
    def _remember(self, batch: Any) -> None:
        """V before the batch is learned from: what the loss is clipped to, at every epoch the same."""
        known = batch.get("state_value_t")
        batch.old_pred = self(batch.state_t).flatten() if known is None else known

    def write_logs(self, batch: Any) -> None:
        """Explained variance before and after training, means, and the share of clipped values."""
        super().write_logs(batch)
        if "old_pred" not in batch:  # training was called off before it began
            return
        new = self(batch.state_t).flatten()
        self.add_log("Old Explained Var", explained_var(batch.vtarget, batch.old_pred))
        self.add_log("New Explained Var", explained_var(batch.vtarget, new))
        self.add_log("Target_mean", batch.vtarget.mean())
        self.add_log("Pred_mean", new.mean())
        if self.clip_range is not None:
            bound = self.clip_range(self.num_steps)
            self.add_tf_only_log("Clip Range", bound)
            self.add_tf_only_log("Clip Fraction", ((new - batch.old_pred).abs() > bound).float().mean())
