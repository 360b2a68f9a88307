"""All parameters of a network side by side in one tensor: an optimiser step and a norm are then one operation each, not one per layer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class FlatParameters:
    """Parameters moved into one tensor, of which each becomes a view; so do their gradients.

    The parameters stay what they were for their modules, for `state_dict` and `load_state_dict`. Do not move the modules to another device
    or dtype afterwards, and clear gradients with `zero_grad` here.

    Args:
        parameters: of one dtype and device, at least one; each of them once.

    Attributes:
        whole: the one parameter [total] to optimise; its gradient is there from the start.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(dict.fromkeys(parameters))
        with torch.no_grad():
            self.whole = nn.Parameter(torch.cat([parameter.flatten() for parameter in self.parameters]))
        gradient = torch.zeros_like(self.whole)
        self.whole.grad = gradient
        start = 0
        for parameter in self.parameters:
            here = slice(start, start + parameter.numel())
            parameter.data = self.whole.data[here].view_as(parameter)
            parameter.grad = gradient[here].view_as(parameter)
            start = here.stop

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        assert self.whole.grad is not None
        self.whole.grad.zero_()

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Scale the gradient down to this norm if it is larger; returns the norm before, 0-d."""
        assert self.whole.grad is not None
        norm = torch.linalg.vector_norm(self.whole.grad)
        if norm.device.type == "cpu":  # the number is at hand: most steps have nothing to scale, and need no more operations
            length = norm.item()
            if length > max_norm:
                self.whole.grad.mul_(max_norm / (length + 1e-6))
        else:
            self.whole.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm
