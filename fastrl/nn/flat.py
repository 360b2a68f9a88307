"""All parameters of a network in one tensor: a step and a norm are one operation each, not one per layer."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.nn.kept import KeptParameters


class FlatParameters(KeptParameters):
    """Parameters moved into one tensor, of which each becomes a view; so do their gradients.

    The parameters stay what they were for their modules, for `state_dict` and `load_state_dict`. Call
    `follow` before each update: whatever was replaced since the last one, parameters, their data or their
    gradients, by hand or by making a copy of all this, is put into the one tensor again with the values that
    it has now. Clear gradients with `zero_grad` here, and step with `step`, which leaves alone what requires
    no gradient. Gradients that a module cleared in between (`module.zero_grad()` in a loss) are collected
    before a norm or a step; parameters that were moved or replaced in between are an error, never a step that
    nobody computes with.

    Args:
        modules: with parameters of one dtype and device, at least one; each of them is taken once.
        trained_only: leave out parameters that do not require a gradient now.

    Attributes:
        whole: the one parameter [total] to optimise; its gradient is there from the start.
    """

    def __init__(self, modules: Iterable[nn.Module], *, trained_only: bool = False) -> None:
        super().__init__(modules, trained_only=trained_only)
        self._slices: list[slice] = []  # of each parameter in the whole
        self._gradients: list[Tensor] = []
        self._wanted: list[bool] = []  # whether each required a gradient at the last `follow`
        self._frozen: list[slice] = []  # those that did not
        with torch.no_grad():
            self.whole = nn.Parameter(torch.cat([parameter.flatten() for parameter in self.parameters]))
        self._seat()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: their gradients begin anew."""
        return self.__dict__ | {"_gradients": []}

    def follow(self, modules: Iterable[nn.Module] | None = None) -> None:
        """See `KeptParameters.follow`; gradients are views of the one gradient afterwards."""
        super().follow(modules)
        now = [parameter.grad for parameter in self.parameters]
        # an optimiser's own zero_grad takes the whole gradient away, a module's those of its parameters
        if (
            self.whole.grad is None
            or len(now) != len(self._gradients)
            or not all(map(is_, now, self._gradients))
        ):
            self._seat()
        wanted = [parameter.requires_grad for parameter in self.parameters]
        if wanted != self._wanted:
            self._wanted = wanted
            self._frozen = [here for wants, here in zip(wanted, self._slices, strict=True) if not wants]

    def _find_again(self, modules: list[nn.Module]) -> None:
        super()._find_again(modules)
        self._seat()

    def _seat(self) -> None:
        """Every parameter and its gradient as a view of the whole, with the parameter's present value."""
        self.whole.grad = torch.zeros_like(self.whole)
        self._slices, self._gradients, self._wanted, self._frozen = [], [], [], []
        start = 0
        for parameter in self.parameters:
            here = slice(start, start := start + parameter.numel())
            seat = self.whole.data[here].view_as(parameter)
            if seat.data_ptr() != parameter.data_ptr():
                seat.copy_(parameter.data)
                parameter.data = seat
            parameter.grad = self.whole.grad[here].view_as(parameter)
            self._slices.append(here)
            self._gradients.append(parameter.grad)
        self._pointers = list(map(Tensor.data_ptr, self.parameters))

    @property
    def all_frozen(self) -> bool:
        """Whether no parameter required a gradient at the last `follow`."""
        return len(self._frozen) == len(self.parameters)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0."""
        self._gradient().zero_()

    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Scale the gradient down to this norm if it is larger; returns the norm before, 0-d."""
        gradient = self._gradient()
        norm = torch.linalg.vector_norm(gradient)
        if norm.device.type == "cpu":  # the number is at hand, and most steps have nothing to scale
            length = norm.item()
            if length > max_norm:
                gradient.mul_(max_norm / (length + 1e-6))
        else:
            gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step an optimiser over `whole`.

        Parameters that required no gradient at the last `follow` stay as they are, and so do the optimiser's
        averages of them: a gradient of 0 alone would not keep momentum and weight decay from moving them.

        Raises:
            RuntimeError: parameters were replaced since the last `follow`.
        """
        self._gradient()
        if self._pointers != list(map(Tensor.data_ptr, self.parameters)):
            raise RuntimeError("parameters were replaced in the middle of an update, after follow()")
        if not self._frozen:
            optimizer.step()
            return
        if self.all_frozen:
            return
        before = {
            name: [tensor[here].clone() for here in self._frozen]
            for name, tensor in self._elementwise(optimizer).items()
        }
        optimizer.step()
        for name, tensor in self._elementwise(optimizer).items():
            for position, here in enumerate(self._frozen):
                tensor[here] = before[name][position] if name in before else 0.0

    def _gradient(self) -> Tensor:
        """The gradient of the whole, with those of parameters that are elsewhere now copied into it."""
        now = [parameter.grad for parameter in self.parameters]
        if self.whole.grad is None:  # the optimiser's own zero_grad took it away
            self.whole.grad = torch.zeros_like(self.whole)
            self._gradients = []
        if len(now) == len(self._gradients) and all(map(is_, now, self._gradients)):
            return self.whole.grad
        self._gradients = []
        for parameter, here, gradient in zip(self.parameters, self._slices, now, strict=True):
            seat = self.whole.grad[here].view_as(parameter)
            if gradient is None:
                seat.zero_()
            elif gradient.data_ptr() != seat.data_ptr():
                seat.copy_(gradient)
            parameter.grad = seat
            self._gradients.append(seat)
        return self.whole.grad

    def _elementwise(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """What a step changes element by element: the whole itself, and the optimiser's averages of it."""
        state = {
            name: value for name, value in optimizer.state[self.whole].items() if isinstance(value, Tensor)
        }
        return {"": self.whole.data} | {
            name: value for name, value in state.items() if value.shape == self.whole.shape
        }
