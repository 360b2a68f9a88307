"""An advantage function, fitted together with a value function by Direct Advantage Estimation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.losses.dae import advantage_scale, centred_advantages, dae_loss
from fastrl.nn.action_heads import distribution
from fastrl.nn.containers import AdvantageLinear, Shape
from fastrl.toolkit.batchers.batch import Batch
from fastrl.toolkit.models.base_model import BaseModel
from fastrl.toolkit.models.value_model import ValueModel
from fastrl.toolkit.utils.estimators.rollout import VALUES, entry, flags, state_values


class AdvantageModel(BaseModel):
    """Â(s, a), centred under the policy that acted, and V(s); `dae_loss` moves both.

    The estimator `DAE` trains it.

    Its rows are whole environments, so that mini-batches hold every piece of an episode whole: a batch has,
    environments first,

    - `state_t` [E, T, ...], `action` [E, T] or [E, T, A];
    - `policy_t` [E, T, ...]: what the policy's network gave when it acted, see `BasePGModel.create_dist`;
    - `reward`, `terminated`, `truncated`, `valid` [E, T];
    - `state_value_t_and_tp1` [E, T+1]: V when the rollout was made, from which the sums start.

    Args:
        model: gives what `AdvantageLinear` gives; its body may be the value model's.
        batcher: as for `BaseModel`.
        value_model: V; no other optimiser may train it.
        gamma: discount per step, in [0, 1].
        dae_lambda: λ of the sums that Â and V are fitted to, in [0, 1]; 1: up to where the episode or the
            rollout ends.
        kwargs: as for `BaseModel`.

    Raises:
        SettingError: gamma or dae_lambda is out of range, or value_model is no `ValueModel`.

    Reference: Pan, Gürtler, Neitz, Schölkopf 2022, Direct Advantage Estimation.
    """

    def __init__(
        self,
        model: nn.Module,
        batcher: Any,
        *,
        value_model: ValueModel,
        gamma: float = 0.99,
        dae_lambda: float = 1.0,
        **kwargs: Any,
    ) -> None:
        for name, share in (("gamma", gamma), ("dae_lambda", dae_lambda)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SettingError(f"{name} must be a number in [0, 1], got {share!r}")
        if not isinstance(value_model, ValueModel):
            raise SettingError(f"value_model must be a ValueModel, got {type(value_model).__name__}")
        super().__init__(model, batcher, **kwargs)
        self.value_model = value_model
        self.gamma, self.dae_lambda = float(gamma), float(dae_lambda)
        self._action_info = batcher.get_action_info()

    @property
    def batch_keys(self) -> list[str]:
        return ["state_t", "action", "policy_t", "reward", "terminated", "truncated", "valid", VALUES]

    def register_losses(self) -> None:
        self.register_loss(self.dae_loss)

    @staticmethod
    def output_layer(input_shape: Shape, action_info: Mapping[str, Any]) -> nn.Module:
        return AdvantageLinear(input_shape, action_info)

    @staticmethod
    def by_environment(batch: Any) -> Batch:
        """A rollout [T, E, ...], as estimators take it, with environments as its rows: views [E, T, ...]."""
        rewards = torch.as_tensor(entry(batch, "reward"))
        if rewards.dim() != 2:
            raise ValueError(f"reward must have shape [T, E], got {list(rewards.shape)}")
        terminated, truncated, valid = flags(batch, rewards)
        rollout = {
            name: torch.as_tensor(entry(batch, name)) for name in ("state_t", "action", "policy_t")
        } | {
            "reward": rewards,
            VALUES: state_values(batch, rewards.shape),
            "terminated": terminated,
            "truncated": truncated,
            "valid": torch.ones_like(terminated) if valid is None else valid,
        }
        return Batch({name: value.transpose(0, 1) for name, value in rollout.items()})

    def dae_loss(self, batch: Any) -> Tensor:
        """mean e², 0-d, see `fastrl.losses.dae.dae_loss`."""
        return dae_loss(
            self.advantages(batch)[0],
            self.value_model.values(batch.state_t),
            batch.reward,
            batch[VALUES],
            batch.terminated,
            batch.truncated,
            gamma=self.gamma,
            dae_lambda=self.dae_lambda,
            valid=batch.valid,
            environments_first=True,
        )[0]

    def advantages(self, batch: Any) -> tuple[Tensor, Tensor]:
        """(Â of the actions taken [E, T]; sqrt(mean_s E_π Â²), 0-d) of a batch of environments."""
        states = batch.state_t
        outputs = self(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        acted = distribution(batch.policy_t, self._action_info)
        return centred_advantages(outputs, acted, batch.action), advantage_scale(outputs, acted, batch.valid)
