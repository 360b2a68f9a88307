"""The rows that one V-MPO update learns from, checked once on the way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution


@dataclass(frozen=True, slots=True)
class Rows:
    """M transitions, on the learner's device; every row is valid.

    Args:
        obs: [M, obs_dim] float32.
        actions: [M, A] float32, or [M] int64 when discrete.
        returns, advantages: [M] float32.
        acted: the policy that chose the actions, over [M] rows.
        log_importance: [M] float32 or None.
        unmoved: the policy to be learned is still the one that acted, so that the KL between them is 0 and so
            is its gradient.
    """

    obs: Tensor
    actions: Tensor
    returns: Tensor
    advantages: Tensor
    acted: Distribution
    log_importance: Tensor | None = None
    unmoved: bool = False

    def __len__(self) -> int:
        return self.advantages.shape[0]

    def at(self, index: slice | Tensor) -> Rows:
        """The rows of a slice, of indices [K] or of a mask [M]; views where it is a slice."""
        importance = None if self.log_importance is None else self.log_importance[index]
        return Rows(
            self.obs[index],
            self.actions[index],
            self.returns[index],
            self.advantages[index],
            _distribution_at(self.acted, index),
            importance,
            self.unmoved,
        )

    def split(self, size: int) -> Iterator[Rows]:
        """Views of at most `size` rows, in order."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))


def _distribution_at(distribution: Distribution, index: slice | Tensor) -> Distribution:
    if isinstance(distribution, Categorical):
        return Categorical(distribution.logits[index])
    log_std = distribution.log_std
    return DiagonalGaussian(distribution.mean[index], log_std if log_std.shape[0] == 1 else log_std[index])


def rows_from_batch(
    batch: Mapping[str, Any], *, obs_dim: int, act_dim: int, discrete: bool, device: torch.device
) -> Rows:
    """Checked, valid rows of a batch as `VMPOAgent.update` takes it.

    Raises:
        ValueError: a key is missing, has the wrong shape, or no row is valid.
    """
    read = _Reader(batch, device)
    rows = read("returns", torch.float32).shape[0]
    obs = read("obs", torch.float32, (rows, obs_dim))
    returns = read("returns", torch.float32, (rows,))
    advantages = read("advantages", torch.float32, (rows,))
    if discrete:
        actions = read("actions", torch.int64, (rows,))
        if bool(((actions < 0) | (actions >= act_dim)).any()):
            raise ValueError(
                f"VMPOAgent.update: actions must be 0 to {act_dim - 1}, got {int(actions.min())} to "
                f"{int(actions.max())}"
            )
        acted: Distribution = Categorical(read("old_logits", torch.float32, (rows, act_dim)))
    else:
        actions = read("actions", torch.float32, (rows, act_dim))
        means = read("old_means", torch.float32, (rows, act_dim))
        log_stds = read("old_log_stds", torch.float32, (rows, act_dim), (1, act_dim))
        acted = DiagonalGaussian(means, log_stds.expand(rows, act_dim))
    importance = (
        read("importance_weights", torch.float32, (rows,))
        if batch.get("importance_weights") is not None
        else None
    )
    valid = read("valid", torch.bool, (rows,)) if batch.get("valid") is not None else None
    if rows == 0 or (valid is not None and not bool(valid.any())):
        raise ValueError("VMPOAgent.update: valid marks no row of the batch as a transition")
    found = Rows(obs, actions, returns, advantages, acted, importance)
    found = found if valid is None or bool(valid.all()) else found.at(valid)
    if found.log_importance is None:
        return found
    if not bool((found.log_importance > 0).all()):
        raise ValueError("VMPOAgent.update: importance_weights must be above 0 on valid rows")
    return replace(found, log_importance=found.log_importance.log())


class _Reader:
    """Reads tensors out of a batch and says in one sentence what is wrong with one."""

    def __init__(self, batch: Mapping[str, Any], device: torch.device) -> None:
        self.batch = batch
        self.device = device

    def __call__(self, name: str, dtype: torch.dtype, *shapes: tuple[int, ...]) -> Tensor:
        if name not in self.batch:
            raise ValueError(
                f"VMPOAgent.update: the batch has no {name!r}; it has {', '.join(sorted(self.batch))}"
            )
        value = self.batch[name]
        tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value).to(
            self.device, dtype
        )
        if shapes and tuple(tensor.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"VMPOAgent.update: {name} must have shape {expected}, got {list(tensor.shape)}")
        return tensor
