"""Containers and last layers of networks that are put together from a configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.sequence import LINEAR_KINDS, MADE_OF_PARTS, Step, prepare_layers, run_layers

Shape = int | Sequence[int]  # of one sample, without the batch

SPACES = ("discrete", "continuous", "multi_discrete")


class ModuleExtended(nn.Module):
    """A `torch.nn.Module` that knows where it is and what shape it gives."""

    @property
    def device(self) -> torch.device:
        """Where the first parameter is; the CPU without parameters."""
        return _place(self)[0]

    @property
    def is_cuda(self) -> bool:
        """Whether the module is on a GPU."""
        return self.device.type == "cuda"

    def maybe_cuda(self, x: Tensor) -> Tensor:
        """`x` on the device of the module."""
        return x.to(self.device)

    def to_tensor(self, x: Any) -> Tensor:
        """Numbers, an array or a tensor as a tensor on the device of the module, see `to_tensor`."""
        return to_tensor(x, device=self.device)

    def get_output_shape(self, input_shape: Shape) -> tuple[int, ...]:
        """Shape of the output for a sample of shape `input_shape`, both without batch; see `output_shape`."""
        return output_shape(self, input_shape)


class SequentialExtended(ModuleExtended):
    """Layers one behind the other; without layers it is the identity.

    Args:
        args: modules, or one OrderedDict of modules by name.
        kwargs: modules by name, behind those.

    Attributes:
        layers: the modules as `torch.nn.Sequential`.
    """

    def __init__(self, *args: Any, **kwargs: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        named = (
            args[0]
            if len(args) == 1 and isinstance(args[0], Mapping)
            else {str(i): layer for i, layer in enumerate(args)}
        )
        for name, layer in itertools.chain(named.items(), kwargs.items()):
            self.append(layer, name)

    def append(self, module: nn.Module, name: str | None = None) -> None:
        """Put a module behind the others.

        Args:
            module: any module.
            name: its name in `layers`; None takes its position.

        Raises:
            SettingError: `module` is no module, or there is one of that name.
        """
        name = str(len(self.layers)) if name is None else name
        if not isinstance(module, nn.Module):
            raise SettingError(f"layer {name!r} must be a torch.nn.Module, got {_called(module)}")
        if name in dict(self.layers.named_children()):
            raise SettingError(f"name: there is a layer {name!r} already")
        self.layers.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """x through all layers, in order."""
        return run_layers(self.parts(), x)

    def prepared(self) -> Step:
        """The layers as a function for many calls, see `fastrl.nn.sequence.prepare_layers`."""
        return prepare_layers(self.parts())

    def parts(self) -> tuple[nn.Module, ...]:
        """The layers as one sequence, for `run_layers`."""
        return (self.layers,)


class FlattenLinear(Linear):
    """Flattens each sample and applies a linear layer: [N, ...] to [N, out_features].

    Args:
        in_features: shape of a sample, or the number of its elements.
        out_features: the same of the output, which is flat.
        kwargs: further arguments of `torch.nn.Linear`.
    """

    def __init__(self, in_features: Shape, out_features: Shape, **kwargs: Any) -> None:
        super().__init__(
            math.prod(as_shape("in_features", in_features)),
            math.prod(as_shape("out_features", out_features)),
            **kwargs,
        )

    def forward(self, input: Tensor) -> Tensor:
        """input [N, ...] to [N, out_features]."""
        return super().forward(input.flatten(1))


LINEAR_KINDS[FlattenLinear] = True


class ChannelsFirst(nn.Module):
    """Images [N, height, width, channels] as [N, channels, height, width], which convolutions take."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N, height, width, channels] to [N, channels, height, width]."""
        return x.movedim(-1, -3)


def channels_last(shape: Sequence[int]) -> bool:
    """Whether a sample of this shape is an image with channels last: three axes, the last the smallest."""
    return len(shape) == 3 and shape[2] < min(shape[:2])


class ActionLinear(nn.Module):
    """The last layer of a policy: one linear layer whose width follows from the actions.

    Discrete actions get logits [N, A]; multi-discrete ones the logits of all branches side by side [N, A₁ +
    A₂ + ...]; continuous ones [N, A, 2] with the mean at `[..., 0]` and the logarithm of the standard
    deviation at `[..., 1]`. The latter is a parameter `log_std` [1, A] that does not depend on the input and
    starts at 0. Weights start as draws from N(0, 0.01²): the first policy is nearly the same in all states,
    and nearly uniform where actions are discrete.

    Args:
        in_features: shape of a sample, or the number of its elements; samples [N, ...] are flattened.
        action_info: `space` ("discrete", "continuous" or "multi_discrete") and `shape`: the number of choices
            (discrete), the shape of an action (continuous), or the number of choices of each branch, for
            which `nvec` is taken if it is there (multi-discrete).
        kwargs: further arguments of `torch.nn.Linear`.

    Raises:
        SettingError: `action_info` lacks an entry or has one of no use.
    """

    def __init__(self, in_features: Shape, action_info: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__()
        space, width = _outputs(action_info)
        self.linear = FlattenLinear(in_features, width, **kwargs)
        nn.init.normal_(self.linear.weight, std=0.01)
        self.log_std: nn.Parameter | None = None
        if space == "continuous":
            self.log_std = nn.Parameter(
                torch.zeros(1, width, device=self.linear.weight.device, dtype=self.linear.weight.dtype)
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [N, ...] to logits [N, A], or to means and log standard deviations [N, A, 2]."""
        return self.with_log_std(self.linear(x))

    def with_log_std(self, out: Tensor) -> Tensor:
        """The linear layer's output [N, A], and where actions are continuous the log standard deviations."""
        return out if self.log_std is None else torch.stack((out, self.log_std.expand_as(out)), dim=-1)

    def parts(self) -> tuple[Step, ...]:
        """What the layer is made of, for `run_layers`."""
        return (self.linear,) if self.log_std is None else (self.linear, self.with_log_std)


class AdvantageLinear(nn.Module):
    """The last layer of an advantage function; Â is its output, centred by `losses.dae.centred_advantages`.

    Its width follows from the actions: a number for each discrete one [N, A], those of all branches side by
    side where there are several, and for continuous ones the Hermite coefficients (b, c) [N, A, 2] of each
    action dimension. Orthogonal weights of gain 0.01, biases 0: at first no action is better than another.

    Args:
        in_features: shape of a sample, or the number of its elements; samples [N, ...] are flattened.
        action_info: as for `ActionLinear`.

    Raises:
        SettingError: `action_info` lacks an entry or has one of no use.
    """

    def __init__(self, in_features: Shape, action_info: Mapping[str, Any]) -> None:
        super().__init__()
        space, width = _outputs(action_info)
        self.linear = layer_init(
            FlattenLinear(in_features, 2 * width if space == "continuous" else width), std=0.01
        )
        self.shape = (width, 2) if space == "continuous" else (width,)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, ...] to [N, A], or to [N, A, 2]."""
        return self._shaped(self.linear(x))

    def _shaped(self, out: Tensor) -> Tensor:
        return out.unflatten(-1, self.shape)

    def parts(self) -> tuple[Step, ...]:
        """What the layer is made of, for `run_layers`."""
        return (self.linear,) if len(self.shape) == 1 else (self.linear, self._shaped)


MADE_OF_PARTS.update((SequentialExtended, ActionLinear, AdvantageLinear))


def output_shape(module: nn.Module, input_shape: Shape) -> tuple[int, ...]:
    """Shape of what `module` gives for one sample, found out with a batch of one sample of zeros.

    The module is left as it was: the pass is in evaluation mode and without gradients.

    Args:
        module: maps [N, *input_shape] to a tensor [N, ...].
        input_shape: shape of a sample without the batch; an int n is (n,).

    Raises:
        SettingError: the module does not take such samples, or does not give a tensor.
    """
    shape = as_shape("input_shape", input_shape)
    device, dtype = _place(module)
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with torch.no_grad():
            out = module(torch.zeros(1, *shape, device=device, dtype=dtype))
    except (RuntimeError, ValueError, IndexError) as error:
        raise SettingError(
            f"input_shape: {type(module).__name__} does not take samples of shape {list(shape)}: {error}"
        ) from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    if not isinstance(out, Tensor):
        raise SettingError(f"module: {type(module).__name__} gives {_called(out)}, a layer gives one tensor")
    return tuple(out.shape[1:])


def as_shape(name: str, value: Shape) -> tuple[int, ...]:
    """A shape as a tuple; an int n is (n,).

    Raises:
        SettingError: `value` is neither an int nor ints, or one of them is below 1; the message starts with
            `name`.
    """
    sizes: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else (value,)
    if any(isinstance(size, bool | str) or not hasattr(size, "__index__") or int(size) < 1 for size in sizes):
        raise SettingError(f"{name} must be a number of at least 1, or a list of such numbers, got {value!r}")
    return tuple(int(size) for size in sizes)


def to_tensor(value: Any, device: torch.device | str | None = None) -> Tensor:
    """Numbers, an array, or a list of them as a tensor; float64 becomes float32.

    Args:
        value: anything that numpy takes as one array of numbers or flags, or a tensor. Integers become int64
            if they are not tensors or arrays; flags stay flags. Memory is shared where nothing has to change.
        device: where to put it; None leaves a tensor where it is.
    """
    if (
        isinstance(value, Tensor)
        and value.dtype == torch.float32
        and (device is None or value.device == device)
    ):
        return value
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    return tensor.to(device=device, dtype=torch.float32 if tensor.dtype == torch.float64 else None)


def _outputs(action_info: Mapping[str, Any]) -> tuple[str, int]:
    """(space, number of outputs) that `action_info` asks for."""
    missing = [name for name in ("space", "shape") if name not in action_info]
    if missing:
        raise SettingError(
            f"action_info must have {missing[0]!r}, it has {', '.join(map(repr, action_info)) or 'nothing'}"
        )
    space = action_info["space"]
    if space not in SPACES:
        raise SettingError(
            f"action_info: space must be {', '.join(SPACES[:-1])} or {SPACES[-1]}, got {space!r}"
        )
    if space == "multi_discrete":
        return space, sum(as_shape("action_info: nvec", action_info.get("nvec", action_info["shape"])))
    return space, math.prod(as_shape("action_info: shape", action_info["shape"]))


def _place(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of a module's first floating parameter or buffer; else CPU and torch's default."""
    first = _first_parameter(module)
    if first is None:
        first = next((buffer for buffer in module.buffers() if buffer.is_floating_point()), None)
    return (torch.device("cpu"), torch.get_default_dtype()) if first is None else (first.device, first.dtype)


def _first_parameter(module: nn.Module) -> Tensor | None:
    """The first floating parameter, found faster than by `parameters()`.

    Its book-keeping takes as long as a small network.
    """
    for parameter in module._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            return parameter
    found = (_first_parameter(child) for child in module._modules.values() if child is not None)
    return next((parameter for parameter in found if parameter is not None), None)


def _called(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
