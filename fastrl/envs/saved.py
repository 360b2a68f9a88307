"""Saved states of environments, looked at before they are taken: they come from files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def saved_array(state: Mapping[str, Any], name: str, like: np.ndarray, *, signed: bool = False) -> np.ndarray:
    """A copy of an array of a saved state.

    Args:
        state: arrays by name.
        name: which one.
        like: an array of the same shape and dtype.
        signed: whole numbers may be negative; counts are not.

    Raises:
        ValueError: it is missing, of another shape or dtype, not finite, or a negative count.
    """
    value = state.get(name) if isinstance(state, Mapping) else None
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        got = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"the environments' {name!r} must be {like.dtype}{list(like.shape)}, got {got}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"the environments' {name!r} is not finite")
    if value.dtype.kind == "i" and not signed and (value < 0).any():
        raise ValueError(f"the environments' {name!r} is negative")
    return value.copy()


def saved_count(state: Mapping[str, Any], name: str) -> int:
    """A whole number of at least 0 of a saved state; ValueError if it is none."""
    value = state.get(name) if isinstance(state, Mapping) else None
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"the environments' {name!r} must be a whole number in [0, 2^63)")
    return value


def saved_episodes(state: Mapping[str, Any], num_envs: int) -> list[tuple[int, float, int]]:
    """Finished episodes of a saved state, (environment, return, length) each; ValueError for others."""
    episodes = state.get("finished") if isinstance(state, Mapping) else None
    if not isinstance(episodes, list) or not all(_is_episode(episode, num_envs) for episode in episodes):
        raise ValueError(
            "the environments' 'finished' must be a list of episodes [environment, return, length]"
        )
    return [(index, float(value), length) for index, value, length in episodes]


def _is_episode(episode: Any, num_envs: int) -> bool:
    if not isinstance(episode, list | tuple) or [type(part) for part in episode] != [int, float, int]:
        return False
    return 0 <= episode[0] < num_envs and math.isfinite(episode[1]) and 0 <= episode[2] < 2**63
