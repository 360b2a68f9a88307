"""What agents do with optimisers, and with networks and multipliers beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl.errors import NonFiniteError


def load_keeping_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load moments and step counts; learning rates and the like stay as the optimiser was built with them."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def load_parts(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load modules and optimisers by name; learning rates and the like stay as the optimisers were built with them."""
    for name, part in parts.items():
        if isinstance(part, torch.optim.Optimizer):
            load_keeping_settings(part, state[name])
        else:
            part.load_state_dict(state[name])


def backward(loss: Tensor) -> None:
    """The gradient of a loss; nothing where everything that it depends on is frozen."""
    if loss.requires_grad:
        loss.backward()


def names_of_non_finite(named: Mapping[str, Tensor]) -> str:
    """Which of some 0-d tensors (losses, gradient norms) are not finite, with commas between; empty if all are."""
    if bool(torch.isfinite(torch.stack(list(named.values()))).all()):
        return ""
    return ", ".join(name for name, value in named.items() if not bool(torch.isfinite(value)))


def require_finite_step(agent: str, updates: int, named: Mapping[str, Tensor]) -> None:
    """Refuse a gradient step whose losses or gradient norms (0-d tensors) are not all finite.

    Raises:
        NonFiniteError: names agent, update and what is not finite.
    """
    if bad := names_of_non_finite(named):
        raise NonFiniteError(f"{agent}: {bad} not finite in update {updates}; that gradient step was not taken")
