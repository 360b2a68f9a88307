"""What an action of an environment is, and the check of a batch of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

ActionKind = Literal["discrete", "multi_discrete", "continuous"]


@dataclass(frozen=True, eq=False)
class ActionSpec:
    """Actions of one environment.

    Args:
        kind: "discrete" (int64 actions [N]), "multi_discrete" (int64 [N, branches]) or "continuous" (floats
            [N, A]).
        shape: shape of one environment's action: (), (branches,) or (A,).
        nvec: number of choices per branch; (n,) for discrete, () for continuous.
        low, high: floats [A], bounds of continuous actions, possibly infinite; None otherwise. Actions are
            taken in their dtype.
        masked: the last numbers of an observation, one for each choice of each branch, are above 0 where the
            choice is allowed.
    """

    kind: ActionKind
    shape: tuple[int, ...]
    nvec: tuple[int, ...] = ()
    low: Tensor | None = None
    high: Tensor | None = None
    masked: bool = False

    def __post_init__(self) -> None:
        # plain arrays for the per-step check, which must cost next to nothing
        object.__setattr__(self, "_low", None if self.low is None else self.low.cpu().numpy())
        object.__setattr__(self, "_high", None if self.high is None else self.high.cpu().numpy())
        object.__setattr__(self, "_nvec", np.asarray(self.nvec, np.uint64))

    @classmethod
    def discrete(cls, n: int) -> ActionSpec:
        """One of n choices."""
        return cls("discrete", (), (n,))

    def with_bounds(self, low: np.ndarray, high: np.ndarray) -> ActionSpec:
        """The same continuous actions with other bounds [A]."""
        return replace(self, low=torch.from_numpy(low), high=torch.from_numpy(high))

    @property
    def num_actions(self) -> int:
        """Number of choices of a discrete action."""
        if self.kind != "discrete":
            raise ValueError(f"num_actions is for discrete actions, these are {self.kind}")
        return self.nvec[0]

    @property
    def dim(self) -> int:
        """Number of action dimensions (continuous) or branches (discrete: 1)."""
        return self.shape[0] if self.shape else 1

    @property
    def mask_size(self) -> int:
        """Numbers of the mask at the end of an observation; 0 where there is none."""
        return sum(self.nvec) if self.masked else 0

    def forbids_all(self, obs: np.ndarray) -> np.ndarray:
        """Where the masks of observations [N, F] leave a branch without a choice, bool [N]."""
        allowed = obs[:, obs.shape[1] - self.mask_size :] > 0
        first = np.cumsum((0, *self.nvec[:-1]))
        counts = np.add.reduceat(allowed, first, axis=1, dtype=np.int64)  # of each branch
        return np.asarray((counts == 0).any(axis=1))

    def check(self, actions: Tensor | np.ndarray, num_envs: int) -> np.ndarray:
        """Actions as an array the environments take: int64, or floats in the bounds' dtype, clipped to them.

        Raises:
            ValueError: wrong shape or dtype, a choice out of range, or NaN; the message tells what was
                expected.
        """
        array = _as_array(actions)
        if array.shape != (num_envs, *self.shape):
            raise ValueError(
                f"actions must have shape {[num_envs, *self.shape]} ({self.kind}), got {list(array.shape)}"
            )
        return self._check_continuous(array) if self.kind == "continuous" else self._check_choices(array)

    def _check_continuous(self, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            raise ValueError(f"actions must be floating point (continuous), got {array.dtype}")
        low, high = self._low, self._high  # type: ignore[attr-defined]  # set in __post_init__
        clipped = np.minimum(np.maximum(array.astype(low.dtype, copy=False), low), high)
        if np.count_nonzero(np.isnan(clipped)):
            env_index = int(np.isnan(clipped).any(axis=1).argmax())
            raise ValueError(
                f"actions must not be NaN (continuous), got {array[env_index].tolist()} for environment "
                f"{env_index}"
            )
        return clipped

    def _check_choices(self, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind not in "iu":
            raise ValueError(f"actions must be integers ({self.kind}), got {array.dtype}")
        choices = np.ascontiguousarray(array, np.int64)
        nvec = self._nvec  # type: ignore[attr-defined]  # set in __post_init__
        wrong = choices.view(np.uint64) >= nvec  # a negative number is a huge one here
        if np.count_nonzero(wrong):  # several times faster than any() on small arrays
            env_index = int(np.argmax(wrong.reshape(len(wrong), -1).any(axis=1)))
            expected = f"0 to {self.nvec[0] - 1}" if self.kind == "discrete" else f"below {list(self.nvec)}"
            raise ValueError(
                f"actions must be {expected} ({self.kind}), got {array[env_index].tolist()} for environment "
                f"{env_index}"
            )
        return choices


def _as_array(actions: Tensor | np.ndarray) -> np.ndarray:
    if not isinstance(actions, Tensor):
        return np.asarray(actions)
    if actions.requires_grad:
        actions = actions.detach()
    if actions.dtype in (torch.bfloat16, torch.float16):  # numpy has no bfloat16
        actions = actions.float()
    return actions.numpy() if actions.device.type == "cpu" else actions.cpu().numpy()
