"""Random generators of a process: seeding them, and carrying them over a restart."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed torch (every device), numpy's global generator and Python's `random`.

    Args:
        seed: in [0, 2^32), the range numpy takes.

    Raises:
        ValueError: seed is outside that range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: seed must be in [0, 2^32), got {seed}")
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed in [0, 2^31) for a purpose of its own, independent of `seed` itself and of those of other purposes and numbers."""
    words = np.random.SeedSequence([seed, number, *purpose.encode()]).generate_state(1, np.uint32)
    return int(words[0] >> 1)


def rng_state() -> dict[str, Any]:
    """State of the generators that `seed_everything` seeds, in values a checkpoint can hold; GPUs only once they are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
        "numpy": dict(np.random.get_state(legacy=False)),
        "python": random.getstate(),
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Counterpart of `rng_state`. States of GPUs that this machine lacks are passed over."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(generator.cpu(), index)
    np.random.set_state(state["numpy"])
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
