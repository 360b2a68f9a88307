"""Random generators of a process: seeding them, and carrying them over a restart."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.runs.state_check import ListOf, Maybe, StateError, Within, require_like

# numpy's, Python's and torch's generator are the same one: so many words, and the place of the next in them
WORDS = 624
MOST_GPUS = 1024
TORCH_STATE = struct.Struct(
    "<QiiQ"
)  # how torch's bytes begin: seed, words left, whether seeded, place of the next word
TORCH_BYTES = 5056


def seed_everything(seed: int) -> None:
    """Seed torch (every device), numpy's global generator and Python's `random`.

    Args:
        seed: in [0, 2^32), the range numpy takes.

    Raises:
        ValueError: seed is outside that range, or no whole number.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything: seed must be a whole number in [0, 2^32), got {seed!r}")
    seed = int(seed)
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seeded_rng_state(seed: int, device: torch.device) -> dict[str, Any]:
    """The state that the generators have after `seed_everything(seed)`, without touching them.

    Args:
        seed: in [0, 2^32).
        device: of the GPUs' generators those are included that a trainer on this device draws from: none on
            a CPU, all of them on a GPU.
    """
    on_gpus = device.type == "cuda"
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if on_gpus else []
    return {
        "torch": torch.Generator().manual_seed(seed).get_state(),
        "cuda": [torch.Generator(gpu).manual_seed(seed).get_state() for gpu in gpus],
        "numpy": dict(np.random.RandomState(seed).get_state(legacy=False)),
        "python": random.Random(seed).getstate(),
    }


@contextmanager
def generators_of(seed: int) -> Iterator[None]:
    """While entered, generators begin at `seed_everything(seed)`; afterwards they are as they were."""
    before = rng_state()
    seed_everything(seed)
    try:
        yield
    finally:
        put_rng_state(before)


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed in [0, 2^31) for one purpose, independent of `seed` and of other purposes and numbers."""
    words = np.random.SeedSequence([seed, number, *purpose.encode()]).generate_state(1, np.uint32)
    return int(words[0] >> 1)


def rng_state() -> dict[str, Any]:
    """State of the generators that `seed_everything` seeds, as plain values; GPUs only once in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
        "numpy": dict(np.random.get_state(legacy=False)),
        "python": random.getstate(),
    }


def require_rng_state(state: Any, where: str = "rng") -> None:
    """Check states of generators before they are set.

    A place outside a generator's words would make its next draw read other memory.

    Args:
        state: what `rng_state` returned, or what a file says it is.
        where: its name, for the message.

    Raises:
        StateError: it is no state that `set_rng_state` can set.
    """
    cuda = ListOf(torch.zeros(16, dtype=torch.uint8), MOST_GPUS)
    expected = {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": {
            "bit_generator": "MT19937",
            "state": {"key": np.zeros(WORDS, np.uint32), "pos": Within(0, 0, WORDS)},
            "has_gauss": Within(0, 0, 1),
            "gauss": 0.0,
        },
        "python": (Within(3, 3, 3), (*[Within(0, 0, 2**32 - 1)] * WORDS, Within(0, 0, WORDS)), Maybe(0.0)),
    }
    require_like(state, expected, where)
    if state["numpy"]["bit_generator"] != "MT19937":
        raise StateError(f"{where}['numpy']['bit_generator'] must be the text 'MT19937'")
    words = state["torch"].numpy().tobytes()
    if len(words) == TORCH_BYTES:
        _, left, _, following = TORCH_STATE.unpack_from(words)
        if not (1 <= left <= WORDS and following + left <= WORDS + 1):
            raise StateError(f"{where}['torch'] has a place outside the generator's {WORDS} words")


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Counterpart of `rng_state`. States of GPUs that this machine lacks are passed over.

    Raises:
        StateError: a part is no state of its generator; nothing has changed then.
    """
    state = {**state, "torch": state["torch"].cpu()} if isinstance(state.get("torch"), Tensor) else state
    require_rng_state(state)
    put_rng_state(state)


def put_rng_state(state: Mapping[str, Any]) -> None:
    """`set_rng_state` without checks, for states that this process made itself."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(generator.cpu(), index)
    np.random.set_state(state["numpy"])
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
