"""Epochs over a batch, in mini-batches, with the models' callbacks around each."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrl.errors import SettingError
from fastrl.runs.optimizers import FlatOptimizer, require_gradients
from fastrl.toolkit.utils.utils import make_callable

EVENTS = (
    "train_start",
    "epoch_start",
    "mini_batch_start",
    "mini_batch_end",
    "epoch_end",
    "train_end",
    "cleanup",
)


class BaseOpt(ABC):
    """One torch optimiser over the parameters of some models, each parameter once.

    Parameters that are frozen (`requires_grad` is False) stay as they are, also by momentum and a decay of
    weights, and go on where they were once they are free again. Those that are frozen when the optimiser is
    made are left out: freeing one later is an error. Parameters that are replaced, by
    `load_state_dict(assign=True)` for example, are followed; see `fastrl.nn.kept`.

    A callback of a model that returns True ends what it is in: at `train_start` the whole training, at a
    mini-batch the epoch, at an epoch the training. Within one event they run in the order of the models, and
    the first True is the last call. `cleanup` comes after an error too.

    Args:
        models: what is trained, `fastrl.models`.
        num_epochs: passes over a batch.
        num_mini_batches: mini-batches of an epoch, whose sizes differ by at most one row; fewer where a batch
            has fewer rows.
        shuffle: draw the order of the rows anew in every epoch, where there are several mini-batches.
        opt_fn: class of the torch optimiser.
        opt_params: its arguments.
        lr_schedule: learning rate as a function of the environment steps before the rollout that is learned
            from; None keeps the optimiser's own.
        clip_grad_norm: largest norm of the gradient of all parameters; inf only measures it.
        loss_coef: factor of each model's loss, a number or a function of the environment steps, or a list of
            these; None: 1.

    Raises:
        SettingError: a setting is out of range, or all parameters are frozen.
    """

    def __init__(
        self,
        models: Sequence[Any],
        *,
        num_epochs: int = 1,
        num_mini_batches: int = 1,
        shuffle: bool = True,
        opt_fn: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        opt_params: Mapping[str, Any] | None = None,
        lr_schedule: Callable[[int], float] | None = None,
        clip_grad_norm: float = math.inf,
        loss_coef: Any = None,
    ) -> None:
        for name, value in (("num_epochs", num_epochs), ("num_mini_batches", num_mini_batches)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}")
        if not clip_grad_norm > 0:
            raise SettingError(f"clip_grad_norm must be above 0, got {clip_grad_norm}")
        self.models = list(models)
        self.num_epochs, self.num_mini_batches, self.shuffle = num_epochs, num_mini_batches, shuffle
        self.lr_schedule = lr_schedule
        self.loss_coefs = _coefficients(loss_coef, len(self.models))
        self.num_steps = 0  # environment steps before the rollout that is learned from
        if not any(parameter.requires_grad for model in self.models for parameter in model.parameters()):
            raise SettingError("models must have a parameter to train")
        params = dict(opt_params or {})
        self._flat = FlatOptimizer(self.models, lambda whole: _build(opt_fn, whole, params), clip_grad_norm)
        self.metrics: dict[str, Tensor] = {}  # of the last step

    @property
    @abstractmethod
    def name(self) -> str:
        """How logs call it."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser."""
        return self._flat.optimizer

    @property
    def clip_grad_norm(self) -> float:
        """Largest norm of the gradient of all parameters."""
        return self._flat.max_grad_norm

    @clip_grad_norm.setter
    def clip_grad_norm(self, norm: float) -> None:
        self._flat.max_grad_norm = norm

    @property
    def batch_keys(self) -> list[str]:
        """The entries that the models' losses read, each once."""
        return list(dict.fromkeys(key for model in self.models for key in model.batch_keys))

    def follow(self) -> None:
        """Follow parameters that were replaced since the last batch; every batch calls it.

        See `fastrl.nn.kept`.

        Raises:
            SettingError: they have changed so that the optimiser cannot follow.
        """
        self._flat.weights.follow()

    def learn_from_batch(self, batch: Any, step: int) -> None:
        """Train on a flat batch.

        Args:
            batch: rows [M, ...]; callbacks add what they work out. Without rows nothing is done.
            step: environment steps before the batch was collected, for schedules.

        Raises:
            NonFiniteError: a loss or its gradient is not finite; that step was not taken.
            SettingError: the models have changed so that the optimiser cannot follow, or gradients are
                switched off around the call.
        """
        self.num_steps = step
        if len(batch) == 0:
            return
        require_gradients()
        self.follow()
        try:
            if not self._run("train_start", batch):
                self._train(batch)
                self._run("train_end", batch)
        finally:  # models keep what they prepared for this batch until they are told
            self._run("cleanup", batch)

    def _train(self, batch: Any) -> None:
        # rows that are no transitions are left out of batches
        num_mini_batches = min(self.num_mini_batches, len(batch))
        for _ in range(self.num_epochs):
            if self._run("epoch_start", batch):
                return
            for mini_batch in batch.sample_keys(
                self.batch_keys, num_mini_batches, self.shuffle and num_mini_batches > 1
            ):
                if "valid" in mini_batch and not bool(mini_batch["valid"].any()):
                    continue  # environments without a transition: momentum alone would move the networks
                if self._run("mini_batch_start", mini_batch):
                    break
                self.optimizer_step(mini_batch)
                if self._run("mini_batch_end", mini_batch):
                    break
            if self._run("epoch_end", batch):
                return

    def _run(self, event: str, batch: Any) -> bool:
        return any(callback(batch) for model in self.models for callback in model.callbacks[event])

    def optimizer_step(self, batch: Any) -> None:
        """One gradient step on a mini-batch."""
        if self.lr_schedule is not None:
            self._flat.learning_rate = self.lr_schedule(self.num_steps)
        loss = self._total_loss(batch)
        norm = self._flat.step(loss, who=self.name, when=f"at environment step {self.num_steps}")
        self.metrics = {"Loss": loss.detach(), "Grad Norm": norm}

    def _total_loss(self, batch: Any) -> Tensor:
        """The sum over models of coefficient · loss, 0-d; a product with 1 is left out, for it costs as much
        as one with rows."""
        total: Tensor | None = None
        for coefficient, model in zip(self.loss_coefs, self.models, strict=True):
            factor, loss = coefficient(self.num_steps), model.calculate_loss(batch)
            part = loss if factor == 1.0 else factor * loss
            total = part if total is None else total + part
        assert total is not None
        return total

    def write_logs(self, logger: Any) -> None:
        """Learning rate, loss and norm of the gradient of the last step, for the files alone."""
        for name, value in self.metrics.items():
            logger.add_tf_only_log(f"{self.name}/{name}", value)
        logger.add_tf_only_log(f"{self.name}/LR", self._flat.learning_rate, precision=6)

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimiser."""
        return self._flat.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; learning rates and the like stay as they were built."""
        self._flat.load_state_dict(state)


def _build(
    opt_fn: Callable[..., torch.optim.Optimizer], whole: Tensor, params: dict[str, Any]
) -> torch.optim.Optimizer:
    """The torch optimiser over one tensor; its fused form where it has one, which is one pass over the
    memory."""
    if "fused" in inspect.signature(opt_fn).parameters and not {"fused", "foreach"} & set(params):
        params["fused"] = True
    return opt_fn([whole], **params)


def _coefficients(given: Any, count: int) -> list[Callable[[int], float]]:
    values = list(given) if isinstance(given, list | tuple) else [1.0 if given is None else given] * count
    if len(values) != count:
        raise SettingError(f"loss_coef must have a value for each of the {count} models, got {len(values)}")
    return [make_callable(value) for value in values]
