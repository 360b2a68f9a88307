"""Direct Advantage Estimation: advantages from a network that is fitted to each rollout first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastrl.errors import SettingError
from fastrl.toolkit.utils.estimators.rollout import Estimator


@dataclass(frozen=True, eq=False)
class DAE(Estimator):
    """Â of an `AdvantageModel`, which the optimiser fits to the batch, together with V, before it is asked:
    an estimator that learns.

    Epochs and mini-batches are the optimiser's; a mini-batch is of whole environments, so there are at most
    as many as these. A batch without a transition moves nothing. The policy learns from Â as it is after
    that, over sqrt(mean_s E_π Â²) where advantages are
    normalised: its mean is 0 under the policy in every state.

    `Estimator` says what a batch holds; besides there are `state_t` [T, E, ...], `action` [T, E, ...] and
    `policy_t` [T, E, ...], what the policy's network gave when it acted. `PGAgent` adds it, saves model and
    optimiser, and must not train V by its own optimiser.

    It is not the one-step residual r + γ V(s') − V(s), which is `GAE` with λ = 0 and `TD`.

    Args:
        optimizer: a `SingleOpt` over the `AdvantageModel`.

    Raises:
        SettingError: the optimiser trains anything else.

    Reference: Pan, Gürtler, Neitz, Schölkopf 2022, Direct Advantage Estimation.
    """

    optimizer: Any
    _scale: list[Tensor] = field(default_factory=list, init=False, repr=False)  # of the last batch

    needs_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        models = list(getattr(self.optimizer, "models", []))
        if len(models) != 1 or not hasattr(models[0], "by_environment"):
            raise SettingError("optimizer must be a SingleOpt over one AdvantageModel")

    @property
    def model(self) -> Any:
        """The advantage function."""
        return self.optimizer.models[0]

    def __call__(self, batch: Any) -> Tensor:
        """Fit, then advantages [T, E], 0 on rows that are no transition."""
        environments = self.model.by_environment(batch)
        if bool(environments.valid.any()):  # momentum alone would move the networks
            with torch.enable_grad():
                self.optimizer.learn_from_batch(environments, step=self.model.num_steps)
        with torch.no_grad():
            advantages, scale = self.model.advantages(environments)
        self._scale[:] = [scale]
        return torch.where(environments.valid, advantages, 0.0).transpose(0, 1)

    def normalize(self, advantages: Tensor) -> Tensor:
        """Advantages of the last batch over sqrt(mean_s E_π Â²)."""
        return advantages / self._scale[0]
