"""Ways to compute `retrace` without this library; in the form of `gae_peers`. No compiled one is known to
us."""

from __future__ import annotations

from typing import Any

import scan_peers
from torch import Tensor


def terms(**inputs: Any) -> tuple[Tensor, Tensor]:
    """Factors and offsets of the recurrence in target_t − Q_t: a row is cut with the ratio of the next."""
    traces = inputs["retrace_lambda"] * inputs["log_rhos"].exp().clamp(max=1.0)
    factors = inputs["gamma"] * scan_peers.going_on(inputs)
    factors[:-1] *= traces[1:]
    return factors, scan_peers.bootstrapped(inputs, inputs["next_values"]) - inputs["q_values"]


PEERS = scan_peers.peers(terms, lambda x, **inputs: x + inputs["q_values"])
GPU_PEERS = scan_peers.GPU_PEERS
