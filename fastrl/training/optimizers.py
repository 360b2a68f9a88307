"""What agents do with optimisers."""

from __future__ import annotations

from typing import Any

import torch


def load_keeping_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load moments and step counts; learning rates and the like stay as the optimiser was built with them."""
    own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
