"""Does a seed say what happens? The same episode is played twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrl.envs.check.contract import Contract
from fastrl.envs.check.report import Report, Time

STEPS = 32
ROUNDING = 1e-6  # simulators that keep contacts from the episode before differ by less


def check_repeats(contract: Contract, draw: Callable[[Any], Any], seed: int, report: Report) -> None:
    """Play the same actions twice after `reset(seed)`, and look at the starts of two seeds.

    Args:
        contract: the environment.
        draw: an action for an info.
        seed: of the episodes.
        report: where findings go.
    """
    begun = contract.reset(seed=seed)
    actions = [] if begun is None else [draw(begun[1]) for _ in range(STEPS)]
    first = _play(contract, actions, seed, Time(0.25))
    second = None if first is None else _play(contract, actions[: len(first) - 1], seed)
    other = contract.reset(seed=seed + 1)
    if first is None or second is None or other is None:
        return
    if not _equal(first[:1], second[:1]):
        said = "reset(seed=...) does not say where an episode starts: two resets with one seed differ"
    elif not _equal(first, second):
        said = "the same seed and actions give different episodes"
    else:
        if _equal(first[0], _copied(other[0])):
            report.note("seeds", "two seeds start alike")
        return
    report.warn("seeds", f"{said}; draw from self.np_random, which super().reset(seed=seed) seeds")


def _play(contract: Contract, actions: list[Any], seed: int, time: Time | None = None) -> list[Any] | None:
    """All that the environment returned until the episode, the actions or the time ended; None: an error."""
    begun = contract.reset(seed=seed)
    if begun is None:
        return None
    said = [_copied(begun[0])]
    for action in actions:
        stepped = contract.step(action)
        if stepped is None:
            return None
        said.append([_copied(stepped.obs), stepped.reward, bool(stepped.terminated), bool(stepped.truncated)])
        if stepped.terminated or stepped.truncated or (time is not None and time.over):
            break
    return said


def _copied(value: Any) -> Any:
    """Copies of the arrays in a value: an environment may write its next observation into the same ones."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return np.array(value)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_equal(*pair) for pair in zip(one, other, strict=True))
    try:
        return np.shape(one) == np.shape(other) and bool(
            np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
        )
    except TypeError:  # text
        return bool(np.array_equal(one, other))
