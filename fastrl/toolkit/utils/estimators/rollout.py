"""What the estimators read from a batch, checked and made ready for `fastrl.ops.gae`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastrl import ops
from fastrl.errors import SettingError
from fastrl.nn.containers import to_tensor

VALUES = "state_value_t_and_tp1"
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Estimator:
    """A function from a batch of T steps of E environments to a tensor [T, E]; it changes nothing.

    A batch has, as keys of a mapping or as attributes, arrays or tensors:

    - `reward` [T, E];
    - `terminated` and `truncated` [T, E], or `done` alone, which then counts as terminated;
    - `valid` [T, E], if there: False on rows that are no transition (an environment was reset). Nothing flows
      through them; their advantage is 0, their target their own value;
    - `state_value_t_and_tp1` [T+1, E], where `needs_values`: V of the states, row t+1 being V of the state
      that followed step t, before any reset. A termination takes the bootstrap from it away, a truncation
      does not; either ends the sum.

    Raises: ValueError or TypeError naming the key that is missing or has the wrong shape.
    """

    needs_values: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise SettingError(f"{name} must be a number in [0, 1], got {value!r}")

    def __call__(self, batch: Any) -> Tensor:
        """Estimates [T, E] for a batch."""
        raise NotImplementedError

    def _scan(self, batch: Any, *, gamma: float, gae_lambda: float) -> tuple[Tensor, Tensor]:
        """(advantages, returns) [T, E] of `ops.gae`; V is 0 everywhere without `needs_values`."""
        rewards = _floating(entry(batch, "reward"))
        if rewards.dim() != 2:
            raise ValueError(f"reward must have shape [T, E], got {list(rewards.shape)}")
        if self.needs_values:
            values = state_values(batch, rewards.shape)
            rewards = rewards.to(values)
        else:
            values = rewards.new_zeros(rewards.shape[0] + 1, rewards.shape[1])
        terminated, truncated, valid = flags(batch, rewards)
        return ops.gae(
            rewards,
            values,
            terminated,
            truncated,
            gamma=float(gamma),
            gae_lambda=float(gae_lambda),
            valid=valid,
        )


def state_values(batch: Any, shape: torch.Size) -> Tensor:
    """V [T+1, E] of a batch whose other entries have `shape` [T, E]."""
    values = _floating(entry(batch, VALUES))
    wanted = [shape[0] + 1, *shape[1:]]
    if list(values.shape) != wanted:
        raise ValueError(f"{VALUES} must have shape [T+1, E] = {wanted}, got {list(values.shape)}")
    return values


def entry(batch: Any, name: str) -> Any:
    """An entry of a batch.

    Raises:
        ValueError: there is none.
    """
    value = _optional(batch, name)
    if value is None:
        raise ValueError(f"batch must have {name!r} for this estimator")
    return value


def _optional(batch: Any, name: str) -> Any:
    return batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None)


def _floating(value: Any) -> Tensor:
    tensor = (value if isinstance(value, Tensor) else torch.as_tensor(value)).detach()
    return tensor if tensor.dtype in FLOATING else tensor.to(torch.float32)


def flags(batch: Any, rewards: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """terminated, truncated and valid [T, E] of a batch, on the device of `rewards`.

    valid is None where all rows are transitions.
    """
    terminated, truncated = _flag(batch, "terminated", rewards), _flag(batch, "truncated", rewards)
    if terminated is None and truncated is None:
        terminated = _flag(batch, "done", rewards)
    if terminated is None:
        raise ValueError("batch must have 'terminated' and 'truncated', or 'done'")
    none = torch.zeros_like(terminated)
    return terminated, none if truncated is None else truncated, _flag(batch, "valid", rewards)


def _flag(batch: Any, name: str, rewards: Tensor) -> Tensor | None:
    value = _optional(batch, name)
    if value is None:
        return None
    flag = to_tensor(value, device=rewards.device).to(torch.bool)
    if flag.shape != rewards.shape:
        raise ValueError(
            f"{name} must have the shape of reward, {list(rewards.shape)}, got {list(flag.shape)}"
        )
    return flag
