"""Small environments with known answers, for tests and first runs: identity, counter, proof of memory, catch.

The dynamics are written once, for N columns of numpy arrays. `fastrl.envs.toys.vector` steps them for
trainers, and `fastrl.envs.toys.gymnasium` offers them as Gymnasium environments. All state, random streams
included, can be saved and restored exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from fastrl.envs.toys.catch import CatchPixels
from fastrl.envs.toys.counter import Counter
from fastrl.envs.toys.dynamics import ToyDynamics
from fastrl.envs.toys.identity import Identity, IdentityContinuous
from fastrl.envs.toys.linear_quadratic import LinearQuadratic
from fastrl.envs.toys.proof_of_memory import ProofofMemory
from fastrl.errors import SettingError, nearest

__all__ = [
    "TOYS",
    "CatchPixels",
    "Counter",
    "Identity",
    "IdentityContinuous",
    "LinearQuadratic",
    "ProofofMemory",
    "ToyDynamics",
    "make_dynamics",
]

TOYS: dict[str, type[ToyDynamics]] = {
    "Identity-v0": Identity,
    "IdentityContinuous-v0": IdentityContinuous,
    "LinearQuadratic-v0": LinearQuadratic,
    "Counter-v0": Counter,
    "ProofofMemory-v0": ProofofMemory,
    "CatchPixels-v0": CatchPixels,
}


def make_dynamics(env_id: str, seeds: Sequence[int], options: Mapping[str, Any]) -> ToyDynamics:
    """Dynamics of a toy environment; a SettingError for an option it does not have."""
    known = [name for name in inspect.signature(TOYS[env_id]).parameters if name != "seeds"]
    for key in options:
        if key not in known:
            raise SettingError(f"env_kwargs: {env_id} has no option {key!r}{nearest(key, known)}")
    return TOYS[env_id](seeds, **options)
