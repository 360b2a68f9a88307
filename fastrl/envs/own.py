"""Environments of a user's own: what counts as one, and how a file speaks of objects that it cannot hold."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastrl.envs.base import VectorEnv
from fastrl.errors import SettingError

_LABEL = re.compile(r"<(object|class|function): (.+)>")
_IMPORTABLE = re.compile(r"<(?:class|function): ([\w.]+)\.([A-Za-z_]\w*)>")


def is_environment(value: Any) -> bool:
    """Whether `make_vector_env` can take `value` in place of an id: an environment object, or a factory."""
    return callable(value) or _is_object(value)


def is_factory(value: Any) -> bool:
    """Whether `value` is to be called for environments: it can then be called again, for evaluation."""
    return callable(value) and not _is_object(value)


def env_name(env: Any) -> str:
    """The environment's id, or its class name."""
    spec = getattr(env, "spec", None)
    env_id = getattr(spec, "id", None)
    return env_id if isinstance(env_id, str) else type(getattr(env, "unwrapped", env)).__name__


def _is_object(value: Any) -> bool:
    import gymnasium as gym

    return isinstance(value, VectorEnv | gym.Env | gym.vector.VectorEnv)


# --------------------------------------------------------------------------- what a file cannot hold


def label(value: Any) -> str:
    """What a file says in place of an object: `<class: mine.Maze>`, `<object: mine.Wrapper of Maze-v0>`."""
    named = value.func if isinstance(value, functools.partial) else value
    kind = "class" if inspect.isclass(named) else "function" if inspect.isroutine(named) else "object"
    of = type(named) if kind == "object" else named
    known = ""
    if _is_object(value):
        known = f" of {value.name if isinstance(value, VectorEnv) else env_name(value)}"
    module, name = getattr(of, "__module__", None) or "?", getattr(of, "__qualname__", type(of).__name__)
    return f"<{kind}: {module}.{name}{known}>"


def is_label(value: Any) -> bool:
    """Whether `value` is such a text."""
    return isinstance(value, str) and _LABEL.fullmatch(value) is not None


def labels(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """(where, label) of every label in lists and tables: `("env_kwargs.goals[0]", "<object: mine.Goal>")`."""
    if is_label(value):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from labels(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from labels(item, f"{name}[{index}]")


def require_present(env: Any, env_kwargs: Mapping[str, Any] | None) -> None:
    """Raises SettingError where a run's file stands for an environment or an option it could not hold."""
    if is_label(env):
        found = _IMPORTABLE.fullmatch(env)
        example = f"{found[1]}:{found[2]}" if found and found[1] != "__main__" else "module:name"
        raise SettingError(
            f"env_id: the run's environment was an object, {env}, which its folder cannot hold; "
            f"give it again: --env-id {example}, or in Python env_id=... of the configuration"
        )
    for where, lost in labels(env_kwargs or {}, "env_kwargs"):
        raise SettingError(
            f"{where} was {lost} in the run, which its folder cannot hold; give the environment again in "
            "Python, with its options in "
            f"env_kwargs of the configuration, and load the checkpoint"
        )
