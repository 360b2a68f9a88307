"""Others' functions for the targets of `vtrace`; in the form of `gae_peers`. TorchRL's knows no
truncation."""

from __future__ import annotations

from typing import Any

import scan_peers
from torch import Tensor


def terms(**inputs: Any) -> tuple[Tensor, Tensor]:
    """Factors and offsets of the recurrence in vs_t − V_t."""
    ratios = inputs["log_rhos"].exp()
    factors = (
        inputs["gamma"]
        * inputs["vtrace_lambda"]
        * scan_peers.going_on(inputs)
        * ratios.clamp(max=inputs["c_clip"])
    )
    residuals = scan_peers.bootstrapped(inputs, inputs["values"][1:]) - inputs["values"][:-1]
    return factors, ratios.clamp(max=inputs["rho_clip"]) * residuals


def torchrl(inputs: dict[str, Any]) -> scan_peers.Call:
    """TorchRL's function; it returns advantages first and its targets second."""
    from torchrl.objectives.value.functional import vtrace_advantage_estimate

    values, next_values = (
        inputs["values"][:-1, :, None].contiguous(),
        inputs["values"][1:, :, None].contiguous(),
    )
    rewards, done, ratios = (
        inputs["rewards"][..., None],
        inputs["terminated"][..., None],
        inputs["log_rhos"][..., None],
    )
    zeros = ratios * 0.0
    return lambda: vtrace_advantage_estimate(
        inputs["gamma"], ratios, zeros, values, next_values, rewards, done, done, time_dim=-3
    )[1][..., 0]


PEERS = {
    **scan_peers.peers(terms, lambda x, **inputs: x + inputs["values"][:-1]),
    "torchrl vtrace_advantage": torchrl,
}
GPU_PEERS = (*scan_peers.GPU_PEERS, "torchrl vtrace_advantage")
