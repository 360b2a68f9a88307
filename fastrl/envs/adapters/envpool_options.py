"""Options of EnvPool's environments, looked at before EnvPool gets them.

EnvPool's core takes numbers as they are, and some that it cannot use end the process or keep it waiting for
ever. What EnvPool tells of an option is its default, hence its type; anything unusual is first tried in a
process of its own.
"""

from __future__ import annotations

import json
import math
import operator
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from fastrl.envs.construction import constructing
from fastrl.errors import SettingError, nearest
from fastrl.machine import available_memory

# these have arguments of their own in make_vector_env, or would change what a step returns
_RESERVED = (
    "num_envs",
    "batch_size",
    "num_threads",
    "seed",
    "env_seed",
    "max_episode_steps",
    "max_num_players",
    "gym_reset_return_info",
)
_PIXELS = ("from_pixels", "render_env_id", "render_width", "render_height", "render_camera_id")
_INT32 = 2**31
_MANY_ENVS = 4096  # more than most simulators have memory for
_HARMLESS = bool  # no switch of any environment was seen to do harm
_TRY_SECONDS = 60.0  # most of a trial is spent on importing EnvPool
_TRIED: dict[str, str | None] = {}  # what was wrong, by id and options

# one environment through a reset and a few steps; the only line of its output is what went wrong
_TRIAL = """
import json, os, resource, sys
order = json.loads(sys.argv[1])
if order["memory"]:
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"],) * 2)
report, quiet = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(quiet, 1)
try:
    import numpy as np
    import envpool
    count = order["num_envs"]
    made = {"num_envs": count, "num_threads": order["threads"], "seed": [1] * count, **order["options"]}
    env = envpool.make_gymnasium(order["env_id"], **made)
    env.reset()
    env.action_space.seed(1)
    for _ in range(3):
        env.step(np.stack([env.action_space.sample()] * count))
    os.write(report, b"fine")
except Exception as error:
    os.write(report, f"{type(error).__name__}: {error}".encode())
os._exit(0)
"""


def description(env_id: str) -> dict[str, Any]:
    """An environment's options and their defaults, by name.

    Raises:
        SettingError: EnvPool cannot describe it, because a library of the system is missing for example.
    """
    import envpool

    with constructing(env_id):  # Procgen without the system's Qt: ImportError or OSError
        spec: Any = envpool.make_spec(env_id)
    return dict(zip(spec._config_keys, spec._config_values, strict=True))


def checked_options(
    env_id: str,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    num_envs: int = 1,
    threads: int = 1,
) -> dict[str, Any]:
    """The options as plain values of the types that EnvPool wants.

    Args:
        env_id: EnvPool's id.
        options: what the user gave.
        defaults: see `description`.
        num_envs, threads: of the environments that will be made.

    Raises:
        SettingError: an option that there is not, or that EnvPool does not survive; the message names it.
    """
    given = {key: _checked(env_id, key, value, defaults) for key, value in options.items()}
    unusual = [
        key
        for key, value in given.items()
        if value != defaults.get(key) and (key in _PIXELS or not isinstance(value, _HARMLESS))
    ]
    many = num_envs > _MANY_ENVS
    if unusual or many:
        count, workers = (num_envs, threads) if many else (1, 1)
        wrong = _tried({"env_id": env_id, "options": given, "num_envs": count, "threads": workers})
        if wrong is not None and unusual:
            raise SettingError(f"env_kwargs: {env_id} cannot be used with {given}: {wrong}")
        if wrong is not None:
            raise SettingError(f"num_envs: {num_envs} environments of {env_id} cannot be used: {wrong}")
    return given


def check_steps(max_episode_steps: int | None) -> None:
    """Raises SettingError for a time limit that is no number for EnvPool."""
    if max_episode_steps is not None and not 1 <= max_episode_steps < _INT32:
        raise SettingError(
            "max_episode_steps must be from 1 to 2^31 - 1 for EnvPool's environments, got "
            f"{max_episode_steps}"
        )


def _checked(env_id: str, key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    if key in _RESERVED:
        raise SettingError(f"env_kwargs: {key} has an argument of its own or must keep its default")
    if key == "agent_view_size":
        raise SettingError(
            "env_kwargs: agent_view_size corrupts memory inside EnvPool; use crop (1, 3 or 5 cells) for a "
            "smaller view"
        )
    if key == "render_mode" and value is not None:
        raise SettingError(
            "env_kwargs: EnvPool draws nothing while it steps, so render_mode is not for "
            f"{env_id}{_gymnasium_hint(env_id)}"
        )
    if key in _PIXELS or key == "render_mode":
        return value
    if key not in defaults:
        hint = _gymnasium_hint(env_id, key) or nearest(key, defaults)
        raise SettingError(f"env_kwargs: EnvPool's {env_id} has no option {key!r}{hint}")
    return _of_type(f"env_kwargs: {key} of {env_id}", value, defaults[key])


def _of_type(name: str, value: Any, default: Any) -> Any:
    """`value` as a plain value of the type that `default` has."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # numpy's numbers
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise SettingError(f"{name} must be true or false, got {value!r}")
    if isinstance(default, int):
        return _whole(name, value, least=0 if default >= 0 else -1)
    if isinstance(default, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise SettingError(f"{name} must be a finite number, got {value!r}")
    if isinstance(default, str):
        if isinstance(value, str) and "\0" not in value:
            return value
        raise SettingError(f"{name} must be text, got {value!r}")
    if isinstance(default, list | tuple):
        if not isinstance(value, list | tuple) or (default and len(value) != len(default)):
            size = f" of {len(default)} entries" if default else ""
            raise SettingError(f"{name} must be a list{size}, got {value!r}")
        kinds = default or value
        return type(default)(_of_type(name, item, kind) for item, kind in zip(value, kinds, strict=True))
    return value


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number < _INT32:
        raise SettingError(f"{name} must be a whole number from {least} to 2^31 - 1, got {value!r}")
    return number


def _gymnasium_hint(env_id: str, option: str | None = None) -> str:
    """The end of a message: that Gymnasium has such an environment with the option; else nothing."""
    import gymnasium as gym

    name = env_id.rpartition("-v")[0] or env_id
    same = [known for known, spec in gym.registry.items() if spec.name == name and spec.namespace is None]
    if not same:
        return ""
    its_id = env_id if env_id in same else same[-1]  # of another version
    if option is None:
        return f"; Gymnasium's can draw: give the id gymnasium:{its_id}"
    its_own = _parameters(gym.registry[its_id].entry_point)
    if its_own is not None and option not in its_own:
        return ""
    has = "may have it" if its_own is None else "has it"
    return (
        f"; EnvPool's is taken where both have an id, and Gymnasium's {has}: give the id gymnasium:{its_id}"
    )


def _parameters(entry_point: Any) -> set[str] | None:
    """Names that an environment's constructor takes; None where it cannot be looked at."""
    import inspect

    from gymnasium.envs.registration import load_env_creator

    try:
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        return set(inspect.signature(creator).parameters)
    except Exception:
        return None


# --------------------------------------------------------------------------------------------- trial


def _tried(order: Mapping[str, Any]) -> str | None:
    """What goes wrong with such environments in a process of their own, once for each order; or None."""
    try:
        text = json.dumps(order, sort_keys=True)
    except (TypeError, ValueError) as error:
        return f"EnvPool takes numbers and text only ({error})"
    if text not in _TRIED:
        _TRIED[text] = _trial({**order, "memory": available_memory()})
    return _TRIED[text]


def _trial(order: Mapping[str, Any]) -> str | None:
    """What was wrong, or None."""
    command = [sys.executable, "-c", _TRIAL, json.dumps(order)]
    streams: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    try:
        with tempfile.TemporaryDirectory() as folder:  # simulators write logs where they are
            done = subprocess.run(command, **streams, cwd=folder, timeout=_TRY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"in a trial EnvPool did not come back within {_TRY_SECONDS:g} seconds"
    except OSError:  # no further process can be started here
        return None
    if done.returncode != 0:
        how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with exit code {done.returncode}"
        return f"in a trial EnvPool ended the process ({how})"
    report = done.stdout.decode(errors="replace")
    return None if report == "fine" else " ".join(report.split()) or "in a trial EnvPool ended without a word"
