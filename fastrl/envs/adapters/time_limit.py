"""Time limits of Gymnasium's environments: what acts on an episode, and how to give it another one.

A limit can stand in several places at once: in `TimeLimit` wrappers, nested in any number, and in the
environment itself. All of them act, so the smallest counts. A spec is only a description, which can be older
than the limit in force; it is believed of vector environments alone, whose inside cannot be seen.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym

from fastrl.envs.adapters.action_repeat import ActionRepeat
from fastrl.errors import SettingError

# where environments keep a limit of their own: Gymnasium's wrapper and its likes, environments like Memory
# Gym's (−1: endless)
_ATTRIBUTES = ("_max_episode_steps", "max_episode_steps")
_INSIDE = (*_ATTRIBUTES, "max_steps")  # of the environment itself; MiniGrid's


def as_limit(value: Any) -> int | None:
    """A number of steps ≥ 1, or None for anything else: 0 and −1 stand for no limit, or an unknown one."""
    try:
        steps = operator.index(value)
    except TypeError:
        return None
    return steps if steps >= 1 and not isinstance(value, bool) else None


def time_limit(env: Any) -> int | None:
    """Steps after which an episode ends at the latest; None where nothing says so, as before some resets.

    Args:
        env: a Gymnasium environment, or a vector environment of Gymnasium or EnvPool.
    """
    if isinstance(env, ActionRepeat):  # counted in its own steps, of several frames
        frames = time_limit(env.env)
        return None if frames is None else -(-frames // env.repeats)
    if isinstance(env, gym.Env):
        return min(_limits(env), default=None)
    inside = getattr(env, "envs", None)
    if inside and all(isinstance(each, gym.Env) for each in inside):
        return longest_limit(inside)
    return min(_told_limits(env), default=None)


def longest_limit(envs: Iterable[gym.Env[Any, Any]]) -> int | None:
    """The largest limit of several environments; None where one of them has none."""
    limits = [time_limit(env) for env in envs]
    return None if None in limits else max(limit for limit in limits if limit is not None)


def limited(env: gym.Env[Any, Any], max_episode_steps: int | None) -> gym.Env[Any, Any]:
    """The environment with `max_episode_steps` as the only limit that acts; None leaves it as it is.

    Every `TimeLimit` around it is set to that number; where there is none, one is put around it.

    Raises:
        SettingError: the environment has a smaller limit of its own, which no wrapper can lift.
    """
    if max_episode_steps is None:
        return env
    max_episode_steps = int(max_episode_steps)  # Gymnasium's wrapper takes no numbers of numpy's
    wrappers = [layer for layer in _layers(env) if isinstance(layer, gym.Wrapper)]
    limits = [wrapper for wrapper in wrappers if isinstance(wrapper, gym.wrappers.TimeLimit)]
    for limit in limits:
        limit._max_episode_steps = max_episode_steps
    for wrapper in wrappers:  # they remember the spec that they were asked for
        wrapper._cached_spec = None
    its_own = time_limit(env)
    if its_own is not None and its_own < max_episode_steps:
        name = type(env.unwrapped).__name__
        raise SettingError(
            f"max_episode_steps is {max_episode_steps}, but {name} ends its episodes after {its_own} steps "
            "by itself"
        )
    return env if limits else gym.wrappers.TimeLimit(env, max_episode_steps)


def check_limit(wanted: int | None, there: int | None, name: str) -> None:
    """Check the limit wanted of an environment that cannot be given another one.

    One that it does not tell may be said from outside.

    Raises:
        SettingError: it tells another one.
    """
    if wanted is not None and there is not None and wanted != there:
        raise SettingError(
            f"max_episode_steps is {wanted}, but {name} is already made, with a limit of {there} steps"
        )


def _layers(env: Any) -> Iterator[Any]:
    """An environment and everything inside it, from the outermost wrapper inwards."""
    while env is not None:
        yield env
        env = env.__dict__.get("env") if isinstance(env, gym.Env) else None


def _limits(env: gym.Env[Any, Any]) -> Iterator[int]:
    for layer in _layers(env):
        wraps = isinstance(layer, gym.Wrapper)
        for name in _ATTRIBUTES if wraps else _INSIDE:
            # a wrapper's attributes of its own: it hands on the others from inside, where they are seen
            # anyway
            limit = as_limit(layer.__dict__.get(name) if wraps else getattr(layer, name, None))
            if limit is not None:
                yield limit


def _told_limits(env: Any) -> Iterator[int]:
    """What a vector environment says of itself."""
    spec = getattr(env, "spec", None)
    for place in (spec, getattr(spec, "config", None), env):
        for name in _ATTRIBUTES:
            limit = as_limit(getattr(place, name, None))
            if limit is not None:
                yield limit
