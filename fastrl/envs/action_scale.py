"""Between actions as policies have them, in [−1, 1], and actions in an environment's own units."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrl.envs.action_spec import ActionSpec
from fastrl.errors import CheckpointError, SettingError

if TYPE_CHECKING:
    from fastrl.envs.base import VectorEnv

NO_BOUND = 1e10  # how MuJoCo and dm_control write that there is none


class RawActionsWarning(UserWarning):
    """Some dimensions of an environment's actions have no finite bounds; they stay in its own units."""


class ActionScale:
    """The map from policy units to an environment's own units, for each dimension of continuous actions.

    own = (low + high) / 2 + policy · (high − low) / 2      where both bounds are finite: −1 is low, 1 is high
    own = policy                                            in the other dimensions, which are called raw

    It is worked out in float64, rounded to the dtype of the bounds and clipped to them: what comes out lies
    inside the environment's space.

    Args:
        low, high: the environment's bounds [*shape], floats in its own dtype (whole numbers count as
            float64); `action_space.low` and `.high` in Gymnasium.

    Attributes:
        low, high: bounds in policy units, float32 [*shape]: ±1, or the environment's own where a dimension is
            raw.
        raw: indices of the raw dimensions.
        changes_nothing: whether own = policy everywhere, within bounds that float32 has exactly: the map can
            be left out.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self._own_low, self._own_high = _floats(low), _floats(high)
        low, high = self._own_low.astype(np.float64), self._own_high.astype(np.float64)
        bounded = (np.abs(low) < NO_BOUND) & (np.abs(high) < NO_BOUND)
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # −inf + inf, where it is not used; bounds beyond float32
            self._centre = np.where(bounded, 0.5 * low + 0.5 * high, 0.0)
            self._half = np.where(bounded, 0.5 * high - 0.5 * low, 1.0)
            self.low = np.where(bounded, -1.0, low).astype(np.float32)
            self.high = np.where(bounded, 1.0, high).astype(np.float32)
        self.raw: list[int] = np.flatnonzero(~bounded).tolist()
        self.changes_nothing = np.array_equal(self.low, low) and np.array_equal(self.high, high)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] in policy units as the environment takes them, in bounds; a new array."""
        own = (actions * self._half + self._centre).astype(self._own_low.dtype, copy=False)
        np.maximum(own, self._own_low, out=own)
        return np.minimum(own, self._own_high, out=own)

    def to_policy(self, actions: np.ndarray) -> np.ndarray:
        """Counterpart of `to_environment`, float32; 0 in a dimension whose bounds are equal."""
        moved = np.asarray(actions, np.float64) - self._centre
        return np.divide(moved, self._half, out=np.zeros_like(moved), where=self._half != 0).astype(
            np.float32
        )


def _floats(bound: np.ndarray) -> np.ndarray:
    bound = np.asarray(bound)
    return bound if bound.dtype.kind == "f" else bound.astype(np.float64)


def scale_of(own: ActionSpec, name: str) -> ActionScale | None:
    """The scale of an environment's actions, None where they are not continuous; warns of raw dimensions.

    Args:
        own: actions in the environment's own units, of any kind.
        name: the environment's, for the warning.
    """
    if own.low is None or own.high is None:
        return None
    scale = ActionScale(own.low.cpu().numpy(), own.high.cpu().numpy())
    if scale.raw:
        which = (
            f"all {own.dim} dimensions"
            if len(scale.raw) == own.dim
            else f"dimensions {_listed(scale.raw)} of {own.dim}"
        )
        warnings.warn(
            f"{name}: actions without two finite bounds stay in the environment's own units, others are "
            f"scaled to [-1, 1]: {which}",
            RawActionsWarning,
            stacklevel=3,
        )
    return scale


def _listed(numbers: Sequence[Any], most: int = 8) -> str:
    shown = ", ".join(str(number) for number in numbers[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most} more"


def own_units(trained: VectorEnv, played: VectorEnv) -> ActionScale | None:
    """What a policy's actions go through in environments that may take their own units.

    Args:
        trained: the environments that the policy was trained in.
        played: those that it is to act in, of the same kind.

    Raises:
        SettingError: it was trained in own units, and `played` scales.
    """
    if trained.scaled_bounds() is None and played.scaled_bounds() is not None:
        raise SettingError(
            f"{played.name} scales actions from [-1, 1], but the policy was trained without: give "
            "scale_actions=False there"
        )
    own = played.own_action
    if played.scale_actions or not trained.scale_actions or own.low is None or own.high is None:
        return None
    return ActionScale(own.low.numpy(), own.high.numpy())


def require_same_scale(saved: Any, env: VectorEnv) -> None:
    """Refuse a policy that was learned with other units of actions than those that the environments take.

    Args:
        saved: `scaled_bounds` of the environments that it was learned in; None also where that was not
            written down, because every policy spoke the environments' own units.
        env: the environments that it is to act in.

    Raises:
        CheckpointError: they differ; the message tells both.
    """
    now = env.scaled_bounds()
    if saved == now:
        return
    raise CheckpointError(
        f"the checkpoint's policy acts {_units(saved)}, but actions of {env.name} are {_units(now)}"
    )


def _units(bounds: Any) -> str:
    if bounds is None:
        return "in the environment's own units"
    try:
        pairs = [f"[{low:g}, {high:g}]" for low, high in zip(bounds["low"], bounds["high"], strict=True)]
    except (TypeError, KeyError, ValueError):  # a checkpoint can hold anything
        return "in units that cannot be read"
    return f"scaled from [-1, 1] to {pairs[0] if len(set(pairs)) == 1 else _listed(pairs)}"
