"""Networks from configurations: lists of layers whose inputs are inferred."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fastrl.errors import SettingError, nearest
from fastrl.nn.containers import (
    ActionLinear,
    ChannelsFirst,
    FlattenLinear,
    SequentialExtended,
    Shape,
    as_shape,
    channels_last,
    output_shape,
)
from fastrl.runs.memory import network_need, require_needs
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.utils import get_func, get_obj

ARCHS = Path(__file__).with_name("archs")

Layers = Config | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def auto_input_shape(obj_config: Config | Mapping[str, Any], input_shape: Shape) -> dict[str, Any]:
    """A layer's configuration with the argument that follows from its input, if it has such an argument.

    `in_features` is the whole shape for FlattenLinear and ActionLinear and the only size for other linear
    layers, `in_channels` and `num_features` are the first size, `normalized_shape` is the whole shape.

    Args:
        obj_config: `func`, a class or its dotted name, and its arguments. It is not changed.
        input_shape: shape of a sample without the batch; an int n is (n,).

    Returns:
        A new dict.

    Raises:
        SettingError: the layer cannot take such an input, or its configuration states another one.
    """
    func, shape = get_func(obj_config), as_shape("input_shape", input_shape)
    config = dict(obj_config.items())
    name = _input_argument(func)
    if name is None:
        return config
    inferred = _input_value(func, name, shape)
    stated = config.get(name, inferred)
    if not _same(stated, inferred):
        raise SettingError(f"{name} of {_called(func)} is {stated!r}, but its input has shape {list(shape)}")
    return {**config, name: stated}


def get_module_list(
    config: Layers, input_shape: Shape, action_info: Mapping[str, Any] | None
) -> list[nn.Module]:
    """The layers of a configuration, each made for the output of the one before.

    Args:
        config: a list of layers, each a mapping of `func` and its arguments; or a configuration whose values
            are these. Not changed.
        input_shape: shape of a sample without the batch; an int n is (n,).
        action_info: `space`, `shape` and `dtype` of the actions, for ActionLinear.

    Raises:
        SettingError: a layer cannot be made, or does not take what the one before gives; it is named.
    """
    layers: list[nn.Module] = []
    shape = as_shape("input_shape", input_shape)
    for position, layer_config in enumerate(_layers(config)):
        try:
            layer = _layer(layer_config, shape, action_info)
            shape = output_shape(layer, shape)
        except SettingError as error:
            raise SettingError(f"layer {position}: {error}") from error
        layers.append(layer)
    return layers


def packaged_arch(name: str) -> Config:
    """A known network, as `nn_from_config` takes it: body and head, without an output layer.

    Args:
        name: a3c or dqn, both for images of at least 36 × 36.

    Raises:
        SettingError: there is none of that name; the message lists them.
    """
    known = sorted(path.stem for path in ARCHS.glob("*.yaml"))
    if name not in known:
        raise SettingError(f"name must be one of {', '.join(known)}, got {name!r}")
    return Config.load(ARCHS / f"{name}.yaml")


def nn_from_config(
    config: Config | Mapping[str, Any],
    state_info: Mapping[str, Any],
    action_info: Mapping[str, Any] | None,
    body: nn.Module | None = None,
    head: nn.Module | None = None,
) -> SequentialExtended:
    """A network of a body and a head.

    Images with channels last, [height, width, channels], are turned for a body that begins with a
    convolution: where the last of three axes is the smallest it holds the channels, unless the layer's
    `in_channels` says that the first one does.

    Args:
        config: `body` and `head`, lists of layers as in `get_module_list`; one that is missing is the
            identity. Not changed, so it builds any number of networks.
        state_info: `shape` of a state.
        action_info: `space`, `shape` and `dtype` of the actions, for ActionLinear.
        body: used instead of a new one: the same module, its parameters shared.
        head: used instead of a new one, likewise.

    Returns:
        A SequentialExtended with the layers `body` and `head`. New ones are SequentialExtended themselves, to
        which layers can be appended.

    Raises:
        SettingError: a layer cannot be made or does not fit; it is named.
    """
    for name in config:
        if name not in ("body", "head"):
            raise SettingError(
                f"config of a network has body and head, got {name!r}{nearest(name, ('body', 'head'))}"
            )
    if "shape" not in state_info:
        raise SettingError(
            f"state_info must have 'shape', it has {', '.join(map(repr, state_info)) or 'nothing'}"
        )
    shape = as_shape("state_info: shape", state_info["shape"])
    if body is None:
        body = _body(config, shape, action_info)
    if head is None:
        head = _part("head", config, output_shape(body, shape), action_info)
    return SequentialExtended(body=body, head=head)


def _body(
    config: Config | Mapping[str, Any], shape: tuple[int, ...], action_info: Mapping[str, Any] | None
) -> SequentialExtended:
    """The body, behind a layer that turns images where it begins with a convolution and they have their
    channels last."""
    first = next(iter(_layers(config.get("body") or [])), None)
    if (
        first is None
        or not channels_last(shape)
        or not _is(get_func(first), nn.Conv2d)
        or first.get("in_channels") == shape[0]
    ):
        return _part("body", config, shape, action_info)
    turned = _part("body", config, (shape[2], *shape[:2]), action_info)
    return SequentialExtended(ChannelsFirst(), *turned.layers)


def _part(
    name: str, config: Config | Mapping[str, Any], shape: Shape, action_info: Mapping[str, Any] | None
) -> SequentialExtended:
    try:
        return SequentialExtended(*get_module_list(config.get(name) or [], shape, action_info))
    except SettingError as error:
        raise SettingError(f"{name}, {error}") from error


def _layers(config: Any) -> list[Config | Mapping[str, Any]]:
    entries = list(config.values() if isinstance(config, Config | Mapping) else config)
    if not all(isinstance(entry, Config | Mapping) for entry in entries):
        raise SettingError(f"config must be a list of layers, each a mapping with 'func', got {config!r}")
    return entries


def _layer(
    config: Config | Mapping[str, Any], shape: tuple[int, ...], action_info: Mapping[str, Any] | None
) -> nn.Module:
    func, complete = get_func(config, nn.Module), auto_input_shape(config, shape)
    if _is(func, ActionLinear):
        if action_info is None:
            raise SettingError("ActionLinear needs action_info")
        complete.setdefault("action_info", action_info)
    _require_room(complete)
    try:
        return get_obj(complete)
    except (TypeError, MemoryError) as error:
        raise SettingError(f"{_called(func)} cannot be made: {error}") from error
    except RuntimeError as error:  # torch's word for sizes that it cannot take, negative or too large
        raise SettingError(f"{_called(func)} cannot be made: {str(error).splitlines()[0]}") from error


def _require_room(config: Mapping[str, Any]) -> None:
    """Refuse a layer whose weights, with what learning keeps for each, are more than the machine's memory."""
    for inputs, outputs in (("in_features", "out_features"), ("in_channels", "out_channels")):
        sizes = [config.get(name) for name in (inputs, outputs, "kernel_size")]
        numbers = [
            number
            for size in sizes
            if size is not None
            for number in (size if isinstance(size, list | tuple) else [size])
        ]
        if config.get(outputs) is not None and all(
            isinstance(number, int | np.integer) for number in numbers
        ):
            require_needs([network_need(math.prod(numbers), outputs)])


def _input_argument(func: Any) -> str | None:
    """Name of the argument that says what goes into a layer; None if it has none."""
    parameters = inspect.signature(func).parameters
    return next(
        (
            name
            for name in ("in_features", "in_channels", "num_features", "normalized_shape")
            if name in parameters
        ),
        None,
    )


def _input_value(func: Any, name: str, shape: tuple[int, ...]) -> int | tuple[int, ...]:
    if name == "normalized_shape" or _is(func, FlattenLinear, ActionLinear):
        return shape
    if name == "in_features" and len(shape) != 1:
        images = (
            "; images go through the convolutions of from_arch('dqn') or from_arch('a3c')"
            if len(shape) == 3
            else ""
        )
        raise SettingError(
            f"{_called(func)} needs a flat input, got shape {list(shape)}; FlattenLinear takes any{images}"
        )
    if name == "in_channels" and len(shape) < 2:
        raise SettingError(
            f"{_called(func)} needs channels and at least one more dimension, got shape {list(shape)}"
        )
    return shape[0]


def _same(stated: Any, inferred: int | tuple[int, ...]) -> bool:
    wanted = as_shape("input_shape", inferred)
    found = tuple(stated) if isinstance(stated, Sequence) else (stated,)
    return found == wanted or (
        isinstance(inferred, tuple) and len(found) == 1 and found[0] == math.prod(wanted)
    )


def _is(func: Any, *kinds: type) -> bool:
    return inspect.isclass(func) and issubclass(func, kinds)


def _called(func: Any) -> str:
    return getattr(func, "__name__", repr(func))
