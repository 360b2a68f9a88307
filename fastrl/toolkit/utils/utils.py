"""Small functions: objects from configurations, conversions, statistics and schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fastrl.envs import BaseEnv, make_vector_env
from fastrl.envs.modules import imports_refused
from fastrl.errors import SettingError
from fastrl.losses.value import explained_variance
from fastrl.nn.containers import to_tensor as to_tensor
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.dotted import resolve

EPSILON = 1e-7
HOW_TO_TRUST = "if the configuration is your own, or you know what the module does, say trust=True"

Array = TypeVar("Array", np.ndarray, Tensor)
Schedule = Callable[[float], float]


# ----------------------------------------------------------------------- objects from configurations


def get_func(config: Config | Mapping[str, Any], kind: type | None = None) -> Callable[..., Any]:
    """The class or function that the entry `func` of a configuration is or names.

    Args:
        config: with `func`.
        kind: what a name must stand for, a subclass of this; None: anything that may be named. Classes and
            functions that are given as they are can be any.

    Raises:
        SettingError: there is no such entry, or it is neither, or a name stands for something of another
            kind.
    """
    func = config.get("func")
    if isinstance(func, str):
        found = resolve(func)
        if kind is not None and not (inspect.isclass(found) and issubclass(found, kind)):
            raise SettingError(f"func must be a subclass of {kind.__name__}, got {func}")
        return found
    if not callable(func):
        raise SettingError(
            f"config must have 'func', a class or its dotted name, got {dict(config.items())!r}"
        )
    return func


def get_obj(config: Config | Mapping[str, Any]) -> Any:
    """The object that a configuration describes: `func` called with the other entries.

    Args:
        config: `func`, a class or its dotted name (see `fastrl.utils.dotted.resolve`), and its arguments by
            name.

    Raises:
        SettingError: there is no `func`, or its name cannot be used.
    """
    return get_func(config)(**{name: value for name, value in config.items() if name != "func"})


def env_from_config(config: Config, *, trust: bool = False) -> Any:
    """The environment that a configuration's section `env` describes.

    An environment's `update_config` writes it.

    `num_envs`, if there, is for whoever makes several of them and not for the environment.

    Args:
        config: with `env`: `func`, `env_name` and options.
        trust: import the module of an `env_name` like "module:Id-v0", which runs its code.

    Raises:
        AttributeError: there is no section `env`.
        SettingError: the environment cannot be made.
    """
    if "env" not in config:
        raise AttributeError("the configuration has no section 'env' to make an environment from")
    func = get_func(config.env)
    if isinstance(config.env.get("func"), str) and func is not make_vector_env:
        get_func(config.env, BaseEnv)
    with imports_refused(None if trust else HOW_TO_TRUST):
        return get_obj({name: value for name, value in config.env.items() if name != "num_envs"})


# --------------------------------------------------------------------------------------- conversions


def join_transitions(transitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list of transitions as one dict of arrays, stacked along a new first axis.

    Args:
        transitions: mappings with the same keys, whose values under one key have one shape. Tensors stay
            tensors.

    Returns:
        [len(transitions), ...] by key; empty for no transitions.

    Raises:
        ValueError: the keys differ, or the shapes under one key; it is named.
    """
    if not transitions:
        return {}
    keys = list(transitions[0])
    for position, transition in enumerate(transitions):
        if set(transition) != set(keys):
            raise ValueError(
                f"transitions must have the same keys, {keys}; number {position} has {list(transition)}"
            )
    return {key: _stack(key, [transition[key] for transition in transitions]) for key in keys}


def to_np(value: Any) -> Any:
    """Numbers, tensors and arrays as arrays; lists and the like element by element."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # numpy has no bfloat16
    if isinstance(value, np.ndarray | np.generic | bool | int | float | complex | str | bytes):
        return np.asarray(value)
    if isinstance(value, Mapping):
        return {key: to_np(entry) for key, entry in value.items()}
    if isinstance(value, Iterable):
        return _array([to_np(entry) for entry in value])
    raise TypeError(f"value must be numbers, arrays or tensors, got {type(value).__name__}")


def one_hot(array: Any, num_classes: int) -> Any:
    """Rows of zeros with a one where an index says.

    Args:
        array: indices [...] in [0, num_classes), whole numbers.
        num_classes: width of a row.

    Returns:
        [..., num_classes] float32; a tensor for a tensor, else an array.

    Raises:
        ValueError: an index is no whole number or out of range.
    """
    indices = array if isinstance(array, Tensor) else torch.as_tensor(np.asarray(array))
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise ValueError(f"array must hold whole numbers, got {indices.dtype}")
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < num_classes:
        raise ValueError(
            f"array must be in [0, {num_classes}), got {int(indices.min())} to {int(indices.max())}"
        )
    rows = torch.nn.functional.one_hot(indices.long(), num_classes).to(torch.float32)
    return rows if isinstance(array, Tensor) else rows.numpy()


def _stack(key: str, values: list[Any]) -> Any:
    try:
        return (
            torch.stack(values)
            if isinstance(values[0], Tensor)
            else np.stack([to_np(value) for value in values])
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"transitions: {key!r} cannot be stacked: {error}") from error


def _array(entries: list[Any]) -> Any:
    """Entries as one array, or as an array of objects where their shapes differ."""
    if entries and all(
        isinstance(entry, np.ndarray) and entry.shape == entries[0].shape for entry in entries
    ):
        return np.stack(entries)
    found = np.empty(len(entries), dtype=object if entries else np.float64)
    for position, entry in enumerate(entries):
        found[position] = entry
    return found


# ---------------------------------------------------------------------------------------- statistics


def explained_var(target: Any, preds: Any) -> float:
    """How much of the variance of the targets the predictions explain: 1 − Var(target − preds) / Var(target).

    Args:
        target: arrays, tensors or lists of any shape.
        preds: as many numbers; (N, 1) beside (N,) is the same N numbers.

    Returns:
        At most 1; 0 where all targets are one number.

    Raises:
        ValueError: the counts differ.
    """
    targets, predictions = (torch.as_tensor(to_np(value)).double().flatten() for value in (target, preds))
    if targets.shape != predictions.shape:
        raise ValueError(
            f"preds must have as many elements as target, {targets.numel()}, got {predictions.numel()}"
        )
    return float(explained_variance(targets, (targets - predictions).var(correction=0)))


def normalize(array: Array) -> Array:
    """(x − mean) / (std + EPSILON) of an array or tensor, with the population's standard deviation."""
    if isinstance(array, Tensor):
        return (array - array.mean()) / (array.std(correction=0) + EPSILON)
    array = np.asarray(array)
    return (array - array.mean()) / (array.std() + EPSILON)


# --------------------------------------------------------------------------------------------------
# schedules partial functions, not functions within functions: these could not be pickled, nor could the
# optimisers and models that have them


def make_callable(x: Any) -> Any:
    """A function stays one, a list or tuple becomes a list of functions, all else a constant function."""
    if isinstance(x, list | tuple):
        return [make_callable(entry) for entry in x]
    return x if callable(x) else partial(_constant, x)


def _constant(value: Any, /, *args: Any, **kwargs: Any) -> Any:
    return value


def linear_schedule(initial: float, final: float, final_step: float, initial_step: float = 0) -> Schedule:
    """A function of the step: `initial` up to `initial_step`, a line, `final` from `final_step` on.

    Raises:
        SettingError: `final_step` is not after `initial_step`.
    """
    if not final_step > initial_step:
        raise SettingError(f"final_step must be after initial_step, {initial_step}, got {final_step}")

    return partial(_on_a_line, initial, final, final_step, initial_step)


def _on_a_line(initial: float, final: float, final_step: float, initial_step: float, step: float) -> float:
    share = min(max((step - initial_step) / (final_step - initial_step), 0.0), 1.0)
    return initial * (1.0 - share) + final * share


def piecewise_linear_schedule(values: Sequence[float], boundaries: Sequence[float]) -> Schedule:
    """A function of the step: lines from `values[0]` at step 0 to `values[i]` at `boundaries[i - 1]`.

    It is constant from the last boundary on.

    Args:
        values: one more than boundaries.
        boundaries: steps after 0, rising.

    Raises:
        SettingError: the counts do not fit, or the boundaries do not rise from above 0.
    """
    if len(values) != len(boundaries) + 1:
        raise SettingError(
            f"values must be one more than boundaries, {len(boundaries) + 1}, got {len(values)}"
        )
    steps = [0, *boundaries]
    if any(not after > before for before, after in zip(steps, steps[1:], strict=False)):
        raise SettingError(f"boundaries must rise, beginning above 0, got {list(boundaries)}")
    return partial(_between, steps, values)


def _between(steps: Sequence[float], values: Sequence[float], step: float) -> float:
    return float(np.interp(step, steps, values))
