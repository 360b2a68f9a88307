"""What agents do with optimisers, and with networks and multipliers beside them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastrl.errors import NonFiniteError, SettingError
from fastrl.nn.flat import FlatParameters
from fastrl.runs.state_check import StateError, Within, require_like

NEVER_NEGATIVE = ("step", "exp_avg_sq", "max_exp_avg_sq", "square_avg")


class FlatOptimizer:
    """A torch optimiser over the parameters of some modules as one tensor, see `FlatParameters`.

    Args:
        modules: what is trained; parameters that are frozen now are left out.
        make: the torch optimiser of one tensor.
        max_grad_norm: largest norm of the gradient; inf only measures it.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        make: Callable[[Tensor], torch.optim.Optimizer],
        max_grad_norm: float,
    ) -> None:
        self.weights = FlatParameters(modules, trained_only=True)
        self.optimizer = make(self.weights.whole)
        self.max_grad_norm = max_grad_norm

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, loss: Tensor, *, who: str, when: str) -> Tensor:
        """One gradient step; returns the gradient's norm before it was clipped, 0-d.

        Args:
            loss: 0-d.
            who, when: for the error.

        Raises:
            NonFiniteError: the loss or its gradient is not finite; the step was not taken.
            SettingError: gradients are switched off.
        """
        self.weights.zero_grad()
        backward(loss)
        norm = self.weights.clip_grad_norm_(self.max_grad_norm)
        if not math.isfinite(norm.item()):
            raise NonFiniteError(f"{who}: loss or gradient not finite {when}; that step was not taken")
        self.weights.step(self.optimizer)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimiser."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; learning rates and the like stay as they were built."""
        load_keeping_settings(self.optimizer, dict(state))


def remaining_share(env_steps: int, total_steps: int) -> float:
    """What is left, in [0, 1], of what falls linearly to 0 over a run of `total_steps` steps."""
    return 1.0 - min(env_steps / total_steps, 1.0)


class LinearRates:
    """Learning rates that fall linearly, each from the one that its optimiser was built with.

    Args:
        optimizers: torch's; of each every group of parameters.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self._initial = [(each, [float(group["lr"]) for group in each.param_groups]) for each in optimizers]

    def set_remaining(self, share: float) -> float:
        """Set every rate to `share`, in [0, 1], of where it began; returns the first of them."""
        for optimizer, rates in self._initial:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
        return self._initial[0][1][0] * share


class OptimizerSettings(Protocol):
    """What `build_optimizer` must know."""

    optimizer_type: str
    sgd_momentum: float


def build_optimizer(
    settings: OptimizerSettings, params: Iterable[Any], lr: float, *, eps: float = 1e-5
) -> torch.optim.Optimizer:
    """The configured optimiser over `params` (tensors or groups); `eps` is Adam's.

    Raises:
        SettingError: `optimizer_type` is neither "adam" nor "sgd".
    """
    if settings.optimizer_type == "adam":
        return torch.optim.Adam(params, lr=lr, eps=eps, fused=True)
    if settings.optimizer_type == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=settings.sgd_momentum)
    raise SettingError(f'optimizer_type must be "adam" or "sgd", got {settings.optimizer_type!r}')


def load_keeping_settings(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load moments and step counts; learning rates and the like stay as the optimiser was built with them.

    Raises:
        StateError: it is the state of another kind of optimiser or of other parameters; nothing has changed
            then.
    """
    require_optimizer_state(optimizer, state)
    optimizer.load_state_dict(
        {"state": state["state"], "param_groups": optimizer.state_dict()["param_groups"]}
    )


def require_optimizer_state(optimizer: torch.optim.Optimizer, state: Any, where: str = "optimizer") -> None:
    """Raise StateError, naming the key, unless `state` is one that this optimiser can load."""
    require_like(state, {"state": None, "param_groups": None}, where)
    groups, moments = state["param_groups"], state["state"]
    wanted = [len(group["params"]) for group in optimizer.param_groups]
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        raise StateError(f"{where}['param_groups'] must be a list of dicts")
    if [len(names) if isinstance(names := group.get("params"), list) else None for group in groups] != wanted:
        raise StateError(f"{where}['param_groups'] is not of {wanted} parameters")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not isinstance(moments, Mapping) or not set(moments) <= set(range(len(parameters))):
        raise StateError(
            f"{where}['state'] must be a dict with a number below {len(parameters)} for each parameter"
        )
    for number, saved in moments.items():
        outline = _moments_of(optimizer, parameters[number])
        require_like(saved, outline, f"{where}['state'][{number}]")


def _moments_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Any] | None:
    """What an optimiser of this kind keeps for a parameter after a step, as an example; None if that cannot
    be found out."""
    twin_of = torch.zeros(2, dtype=parameter.dtype, requires_grad=True)
    twin_of.grad = torch.zeros_like(twin_of)
    arguments = inspect.signature(
        type(optimizer)
    ).parameters  # its defaults have names that its parents' constructors know
    try:
        twin = type(optimizer)(
            [twin_of], **{name: value for name, value in optimizer.defaults.items() if name in arguments}
        )
        twin.step()
        kept = twin.state[twin_of]
    except Exception:  # an optimiser of someone's own, with arguments that are no defaults
        return None
    return {name: _moment(name, value, parameter) for name, value in kept.items()}


def _moment(name: str, value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    example = torch.zeros(parameter.shape if value.ndim else (), dtype=value.dtype)
    return Within(example, 0, math.inf) if name in NEVER_NEGATIVE else example


def load_parts(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load modules and optimisers by name; learning rates and the like stay as they were built."""
    for name, part in parts.items():
        if isinstance(part, torch.optim.Optimizer):
            require_optimizer_state(part, state[name], name)
            load_keeping_settings(part, state[name])
        else:
            part.load_state_dict(state[name])


def backward(loss: Tensor) -> None:
    """The gradient of a loss; nothing where everything that it depends on is frozen.

    Raises:
        SettingError: see `require_gradients`.
    """
    require_gradients()
    if loss.requires_grad:
        loss.backward()


def require_gradients() -> None:
    """Raise where gradients are switched off.

    Optimisers would go on by their averages and the decay of weights alone.

    Raises:
        SettingError: `torch.no_grad()` or `torch.inference_mode()` is around the call.
    """
    if not torch.is_grad_enabled():
        raise SettingError(
            "learning needs gradients: do not learn within torch.no_grad() or torch.inference_mode()"
        )


def names_of_non_finite(named: Mapping[str, Tensor]) -> str:
    """Names of the 0-d tensors (losses, gradient norms) that are not finite, with commas between."""
    if bool(torch.isfinite(torch.stack(list(named.values()))).all()):
        return ""
    return ", ".join(name for name, value in named.items() if not bool(torch.isfinite(value)))


def require_finite_step(agent: str, updates: int, named: Mapping[str, Tensor]) -> None:
    """Refuse a gradient step whose losses or gradient norms (0-d tensors) are not all finite.

    Raises:
        NonFiniteError: names agent, update and what is not finite.
    """
    if bad := names_of_non_finite(named):
        raise NonFiniteError(
            f"{agent}: {bad} not finite in update {updates}; that gradient step was not taken"
        )
