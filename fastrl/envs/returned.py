"""What `reset` and `step` of a single Gymnasium environment returned, looked at before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrl.envs.failures import FIVE_VALUES, TWO_VALUES, WrongReturn
from fastrl.envs.observation_entries import NUMBERS
from fastrl.envs.observations import ObservationMap, dig


def reset_values(result: Any) -> tuple[Any, Any]:
    """The observation and the info of `reset`. Raises WrongReturn."""
    if isinstance(result, tuple | list) and len(result) == 2 and _is_info(result[1]):
        return result[0], result[1]
    raise WrongReturn(
        f"{TWO_VALUES}, info a dict; it returned {describe(result)} (old Gym returned the observation alone)"
    )


def step_values(result: Any) -> tuple[Any, float, bool, bool, Any]:
    """The five values of `step`, the reward and the two flags as plain ones. Raises WrongReturn."""
    if not isinstance(result, tuple | list) or len(result) != 5:
        raise WrongReturn(f"{FIVE_VALUES}; it returned {_count(result)}")
    obs, reward, terminated, truncated, info = result
    if type(reward) is not float:
        reward = _reward(reward)
    if type(terminated) is not bool:
        terminated = _flag(terminated, "terminated")
    if type(truncated) is not bool:
        truncated = _flag(truncated, "truncated")
    return obs, reward, terminated, truncated, info


def vector_step_values(result: Any, num_envs: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, Any]:
    """The five values of a vector environment's `step`: rewards float64 [N], flags bool [N], new arrays.

    Raises WrongReturn.
    """
    if not isinstance(result, tuple | list) or len(result) != 5:
        raise WrongReturn(f"{FIVE_VALUES}; it returned {_count(result)}")
    obs, reward, terminated, truncated, info = result
    ends = (_flags(terminated, "terminated", num_envs), _flags(truncated, "truncated", num_envs))
    return obs, _column(reward, "reward", num_envs).astype(np.float64), *ends, info


def misfit(observations: ObservationMap, obs: Any) -> WrongReturn | None:
    """Why an observation of one environment does not fit its space; None where it does."""
    try:
        if observations.stack([obs]).shape[1:] == observations.shape:
            return None
        refused: Exception | None = None
    except Exception as error:
        refused = error
    for leaf in observations.leaves:
        entry = f"entry {leaf.name!r} of its observation" if leaf.path else "its observation"
        try:
            value = dig(obs, leaf)
        except WrongReturn as fault:
            return fault
        array = np.asarray(value) if _is_regular(value) else None
        fits = (
            array is not None
            and array.dtype.kind in NUMBERS
            and (array.shape == leaf.shape or isinstance(refused, WrongReturn))
        )
        if not fits:
            return WrongReturn(
                f"{entry} should be numbers of shape {list(leaf.shape)}, it is {describe(value)}"
            )
    return (
        refused
        if isinstance(refused, WrongReturn)
        else WrongReturn(f"its observation cannot be used: {refused}")
    )


def describe(value: Any) -> str:
    """A value in few words: `an array of float32 of shape [4]`, `None`, `the text 'hello'`, `an int`."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    kind = type(value).__name__
    shown = f" {value}" if isinstance(value, int | float | complex | np.generic) else ""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}{shown}"


def _is_info(value: Any) -> bool:
    """A dict, nothing, or a list of dicts as vector environments with `DictInfoToList` give it."""
    return (
        value is None
        or isinstance(value, Mapping)
        or (isinstance(value, list) and all(isinstance(each, Mapping) for each in value))
    )


def _count(result: Any) -> str:
    if not isinstance(result, tuple | list):
        return describe(result)
    return f"{len(result)} values" + (
        ", as old Gym did (done instead of terminated and truncated)" if len(result) == 4 else ""
    )


def _reward(value: Any) -> float:
    array = _one_number(value)
    if array is not None:
        return float(array)
    if not isinstance(value, np.ndarray | np.generic) and hasattr(
        type(value), "__float__"
    ):  # a fraction, a tensor
        return float(value)
    raise WrongReturn(f"its reward must be one number, it is {describe(value)}")


def _flag(value: Any, name: str) -> bool:
    array = _one_number(value)
    if array is not None and array in (0, 1):
        return bool(array)
    raise WrongReturn(f"its {name} must be True or False, it is {describe(value)}")


def _one_number(value: Any) -> np.ndarray | None:
    """The number as an array of shape [], also of an array with one entry; else None."""
    if not _is_regular(value):
        return None
    array = np.asarray(value)
    return array.reshape(()) if array.size == 1 and array.dtype.kind in NUMBERS else None


def _is_regular(value: Any) -> bool:
    """Whether numpy makes an array of it; of lists of unequal lengths it does not."""
    try:
        np.asarray(value)
    except Exception:
        return False
    return True


def _flags(values: Any, name: str, num_envs: int) -> np.ndarray:
    array = _column(values, name, num_envs)
    if array.dtype.kind != "b" and np.any((array != 0) & (array != 1)):
        raise WrongReturn(f"its {name} must be True or False for each environment, it is {array.tolist()}")
    return array.astype(bool)


def _column(values: Any, name: str, num_envs: int) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:
        raise WrongReturn(f"its {name} must be {num_envs} numbers: {error}") from None
    if array.dtype.kind not in NUMBERS or array.size != num_envs:
        raise WrongReturn(
            f"its {name} must be {num_envs} numbers, one for each environment; it is {describe(array)}"
        )
    return array.reshape(num_envs)
