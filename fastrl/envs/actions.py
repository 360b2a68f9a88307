"""From a Gymnasium action space to an `ActionSpec`, and from checked actions to the environment's."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.bounds import own_bounds, require_few_choices
from fastrl.errors import SettingError


class ActionMap:
    """Actions of one space.

    Discrete is "discrete"; MultiDiscrete, MultiBinary and boxes of integers are "multi_discrete"; boxes of
    floats are "continuous", flattened to [A], with the bounds of `own_bounds`. Units and dtype are the
    environment's own (see `ActionScale`).

    Args:
        space: action space of one environment.
        num_actions: None, or how many of the choices of a Discrete space may be taken: the first ones.
        name: the environment's, for messages.

    Raises:
        SettingError: the space is of another kind, or `num_actions` does not fit it.
    """

    def __init__(self, space: gym.Space[Any], *, num_actions: int | None = None, name: str) -> None:
        spaces = gym.spaces
        self._shape = tuple(space.shape or ())
        self._dtype = np.dtype(space.dtype)
        self._start: np.ndarray | int = 0
        if isinstance(space, spaces.Discrete):
            require_few_choices(f"actions of {name}", space, (int(space.n),))
            self._start = int(space.start)
            self.spec = ActionSpec.discrete(int(space.n))
        elif isinstance(space, spaces.Box) and self._dtype.kind == "f":
            low, high = (np.ravel(bound) for bound in own_bounds(space))
            self.spec = ActionSpec(
                "continuous", (int(low.size),), (), torch.from_numpy(low), torch.from_numpy(high)
            )
        else:
            nvec, start = _choices(space, name)
            self._start = start
            self.spec = ActionSpec("multi_discrete", (len(nvec),), tuple(int(n) for n in nvec))
        if num_actions is not None:
            self.spec = _first_choices(self.spec, num_actions, name)
        self._shifted = bool(np.any(self._start))

    def numbering(self) -> dict[str, Any]:
        """Plain values of an action's numbering: "start", "shape" and "dtype".

        "start" is the number of the first choice (of each branch), "shape" and "dtype" are those of one
        action.
        """
        start = np.ravel(np.asarray(self._start)).tolist()
        return {"start": start, "shape": list(self._shape), "dtype": str(self._dtype)}

    def batch(self, actions: np.ndarray) -> np.ndarray:
        """Checked actions [N, ...] in the space's own numbering, shape and dtype."""
        if self._shifted:
            actions = actions + self._start
        return actions.astype(self._dtype, copy=False).reshape(len(actions), *self._shape)


def _first_choices(spec: ActionSpec, num_actions: Any, name: str) -> ActionSpec:
    if spec.kind != "discrete":
        raise SettingError(f"num_actions is for discrete actions; those of {name} are {spec.kind}")
    if (
        isinstance(num_actions, bool)
        or not isinstance(num_actions, int)
        or not 1 <= num_actions <= spec.num_actions
    ):
        raise SettingError(
            f"num_actions of {name} must be a whole number from 1 to {spec.num_actions}, got {num_actions!r}"
        )
    return ActionSpec.discrete(num_actions)


def _choices(space: gym.Space[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    spaces = gym.spaces
    if isinstance(space, spaces.MultiDiscrete):
        require_few_choices(f"actions of {name}", space, np.ravel(space.nvec).tolist())
        return np.ravel(space.nvec), np.ravel(space.start)
    if isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        return np.full(size, 2), np.zeros(size, np.int64)
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind in "iu":
        low, high = ([int(bound) for bound in np.ravel(bounds)] for bounds in (space.low, space.high))
        nvec = [
            last - first + 1 for first, last in zip(low, high, strict=True)
        ]  # no dtype holds the number of all int64
        require_few_choices(f"actions of {name}", space, nvec)
        return np.array(nvec), np.array(low)
    raise SettingError(f"actions of {name} are neither Discrete, MultiDiscrete, MultiBinary nor Box: {space}")
