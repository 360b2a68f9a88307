"""What a run will take, counted from its settings before anything is taken.

Every configuration says what it needs (`RunConfig.needs`), and `Trainer.open_environments` looks at it, so
that a setting that is far too large ends in a sentence that names it. The counts are of the large parts only
and rather too small than too large.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fastrl.data.frames import frames_of
from fastrl.errors import SettingError
from fastrl.machine import SHARE, available_memory, in_words

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv

FLOAT = 4  # bytes
COPIES = 4  # of a parameter while it is learned: itself, its gradient, and Adam's two averages


class Need(NamedTuple):
    """Memory for one purpose: bytes, and the settings that make it smaller."""

    purpose: str
    nbytes: int
    settings: str


def require_needs(needs: Sequence[Need], device: str = "cpu") -> None:
    """Refuse what does not fit the machine.

    Raises:
        SettingError: together they are more than nine tenths of what is available; the message names the
            settings of the largest.
    """
    available = available_memory(device)
    if available is None or sum(need.nbytes for need in needs) <= SHARE * available:
        return
    largest = max(needs, key=lambda need: need.nbytes)
    parts = ", ".join(
        f"{need.purpose} {in_words(need.nbytes)}" for need in needs if need.nbytes * 100 >= largest.nbytes
    )
    raise SettingError(
        f"{largest.settings} too large: {parts} of memory on {device}, but only {in_words(available)} are "
        "available"
    )


def perceptron(inputs: int, widths: Sequence[int], outputs: int) -> int:
    """Parameters of a multilayer perceptron with these hidden layers."""
    return sum((before + 1) * after for before, after in itertools.pairwise((inputs, *widths, outputs)))


def network_need(parameters: int, settings: str, *, copies: int = COPIES) -> Need:
    """What networks take while they learn; `copies` more than four where there are targets too."""
    return Need("networks", copies * FLOAT * parameters, settings)


def obs_size(env: VectorEnv) -> int:
    """Numbers of one observation."""
    size = 1
    for side in env.obs_shape:
        size *= side
    return size


def action_size(env: VectorEnv) -> int:
    """Numbers that a policy gives for one action: a mean for each dimension, or a logit for each choice."""
    return env.action.dim if env.action.kind == "continuous" else sum(env.action.nvec)


def row_bytes(env: VectorEnv) -> int:
    """Bytes of one row of a rollout or a replay: observation (one frame of it), action, reward and flags."""
    return obs_size(env) // frames_of(env) * env.obs_dtype.itemsize + FLOAT * env.action.dim + FLOAT + 3
