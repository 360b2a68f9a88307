"""What is said about spaces before any step: kinds, what is left out, how entries become arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs.actions import ActionMap
from fastrl.envs.bounds import box_bounds
from fastrl.envs.check.report import Report
from fastrl.envs.observation_entries import Leaf, entries
from fastrl.envs.observations import ObservationMap, left_out_entries
from fastrl.errors import SettingError

MANY_CHOICES = 4096  # one-hot numbers of an entry


def require_space(space: Any, what: str, report: Report) -> bool:
    """Whether it is one of Gymnasium's spaces; an error if it is not."""
    if isinstance(space, gym.Space):
        return True
    if space is None:
        report.error(what, f"the environment has no {what[:-1]}_space")
    elif type(space).__module__.startswith("gym."):
        report.error(
            what, f"its {what[:-1]}_space is one of the old package gym; make it one of gymnasium.spaces"
        )
    else:
        report.error(what, f"its {what[:-1]}_space is {type(space).__name__}, not one of gymnasium.spaces")
    return False


def observations_of(
    space: gym.Space[Any], report: Report, *, obs_keys: Sequence[str] | None = None, crop: int | None = None
) -> ObservationMap | None:
    """How observations of a space become one array; None, with an error, where they do not."""
    try:
        found = ObservationMap(space, obs_keys=obs_keys, crop=crop, name=report.name)
    except SettingError as error:
        report.error("observations", str(error))
        return None
    parts = [f"{leaf.name!r} ({leaf.described})" if leaf.path else leaf.described for leaf in found.leaves]
    kind = "bytes" if found.torch_dtype == torch.uint8 else "float32"
    made = f"{kind} {list(found.shape)}"
    report.note(
        "observations", parts[0] if parts[0].endswith(made) else f"{', '.join(parts)}: to policies {made}"
    )
    scaled = [leaf.name or "they" for leaf in found.leaves if leaf.scaled and kind == "float32"]
    if scaled:
        report.note("observations", f"bytes that become float32 are divided by 255: {', '.join(scaled)}")
    _say_left_out(space, found, obs_keys, report)
    for leaf in found.leaves:
        if leaf.path and leaf.path[-1] == "action_mask":
            report.warn(
                "observations",
                f"{leaf.called}: policies take forbidden actions too, unless action_mask_key names it",
            )
        if leaf.kind == "choices" and leaf.size > MANY_CHOICES:
            report.warn(
                "observations",
                f"{leaf.called} becomes {leaf.size:,} numbers, one for each choice; give it as numbers "
                "instead",
            )
        elif leaf.image and leaf.dtype.kind == "f" and leaf.size > 1024:
            report.warn(
                "observations",
                f"{leaf.called} has the shape of an image, {list(leaf.shape)}, but is {leaf.dtype}: declare "
                "bytes",
            )
    return found


def _say_left_out(
    space: gym.Space[Any], found: ObservationMap, obs_keys: Sequence[str] | None, report: Report
) -> None:
    taken = ", ".join(repr(leaf.name) for leaf in found.leaves)
    left_out = left_out_entries(space, found.leaves)
    listed = ", ".join(f"{name!r} ({what})" for name, what in left_out.items())
    if left_out and obs_keys is None:
        report.warn("observations", f"{listed} left out; seen is {taken} alone: choose entries with obs_keys")
    elif left_out:
        report.note("observations", f"obs_keys leaves out {listed}")
    elif len(list(entries(space))) > len(found.leaves):
        report.note(
            "observations", f"of a MiniGrid observation {taken} is seen alone; obs_keys chooses other entries"
        )


def actions_of(space: gym.Space[Any], report: Report, *, num_actions: int | None = None) -> ActionMap | None:
    """How a policy's actions become the environment's; None, with an error, where they do not."""
    try:
        found = ActionMap(space, num_actions=num_actions, name=report.name)
    except (SettingError, ValueError, OverflowError, MemoryError) as error:
        report.error("actions", str(error))
        return None
    spec = found.spec
    if spec.kind == "continuous":
        assert isinstance(space, gym.spaces.Box)
        _say_bounds(space, report)
    elif spec.kind == "discrete":
        report.note("actions", f"one of {spec.num_actions} choices")
    else:
        report.note("actions", f"{len(spec.nvec)} choices at once, of {' and '.join(map(str, spec.nvec))}")
    return found


def _say_bounds(space: gym.spaces.Box, report: Report) -> None:
    low, high = (np.ravel(bound) for bound in box_bounds(space))
    finite = np.isfinite(low) & np.isfinite(high)
    many = f"continuous, {low.size} number{'s' if low.size != 1 else ''}"
    if finite.all():
        bounds = sorted({f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True)})
        listed = ", ".join(bounds[:4]) + (", ..." if len(bounds) > 4 else "")
        unit = (
            ""
            if np.all(low == -1) and np.all(high == 1)
            else "; policies act in [-1, 1], which is mapped onto them"
        )
        report.note("actions", f"{many}, bounds {listed}{unit}")
        return
    open_ends = [int(i) for i in np.flatnonzero(~finite)]
    report.note(
        "actions",
        f"{many}; without two finite bounds, and so in the environment's own units: "
        f"{_listed(open_ends, low, high)}",
    )


def _listed(indices: list[int], low: np.ndarray, high: np.ndarray) -> str:
    shown = ", ".join(f"number {i} ({low[i]:g} to {high[i]:g})" for i in indices[:3])
    return shown + (f" and {len(indices) - 3} others" if len(indices) > 3 else "")


def whole_observation(
    shape: tuple[int, ...], dtype: torch.dtype, bounds: tuple[np.ndarray, np.ndarray]
) -> Leaf:
    """The observations of a `VectorEnv`, which tells no space, as one entry."""
    numbers = np.dtype(np.uint8 if dtype == torch.uint8 else np.float32)
    image = (dtype == torch.uint8 and len(shape) >= 2) or len(shape) >= 3
    return Leaf((), "box", shape, int(np.prod(shape)), image, numbers, low=bounds[0], high=bounds[1])
