"""Others' functions for what `gae` computes.

Each takes the inputs of the op case and gives a call without arguments, ready to be timed, that returns
advantages [T, N]; preparing the layouts and types that a peer wants is left out of its time. None of them
knows `truncated` as we do, so nothing is truncated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scan_peers
import torch
from torch import Tensor

Call = Callable[[], Any]


def stable_baselines3(inputs: dict[str, Any]) -> Call:
    """The rollout buffer's loop over numpy rows."""
    import gymnasium
    from stable_baselines3.common.buffers import RolloutBuffer

    steps, envs = inputs["rewards"].shape
    box = gymnasium.spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(
        steps, box, box, "cpu", gae_lambda=inputs["gae_lambda"], gamma=inputs["gamma"], n_envs=envs
    )
    buffer.rewards, buffer.values = inputs["rewards"].numpy(), inputs["values"][:-1].numpy()
    dones = inputs["terminated"].numpy().astype(np.float32)
    buffer.episode_starts[1:] = dones[:-1]

    def call() -> Tensor:
        buffer.compute_returns_and_advantage(inputs["values"][-1], dones[-1])
        return torch.from_numpy(buffer.advantages)

    return call


def tianshou(inputs: dict[str, Any]) -> Call:
    """The numba function, on one long row of episodes as tianshou stores them; it gives advantages alone, in
    float64."""
    from tianshou.algorithm.algorithm_base import _gae

    steps, envs = inputs["rewards"].shape
    flat = lambda tensor: np.ascontiguousarray(tensor.t().numpy()).reshape(-1)  # noqa: E731
    ends = inputs["terminated"].clone()
    ends[-1] = True  # the row of the next environment follows
    next_values = flat(torch.where(inputs["terminated"], 0.0, inputs["values"][1:]))
    values, rewards, end_flags = flat(inputs["values"][:-1]), flat(inputs["rewards"]), flat(ends)
    return lambda: torch.from_numpy(
        _gae(values, next_values, rewards, end_flags, inputs["gamma"], inputs["gae_lambda"])
        .reshape(envs, steps)
        .T
    )


def torchrl(function: str) -> Callable[[dict[str, Any]], Call]:
    """TorchRL's functions, of that name."""

    def prepare(inputs: dict[str, Any]) -> Call:
        from torchrl.objectives.value import functional

        estimate = getattr(functional, function)
        values, next_values = inputs["values"][:-1].contiguous(), inputs["values"][1:].contiguous()
        rewards, done = inputs["rewards"], inputs["terminated"]
        return lambda: estimate(
            inputs["gamma"], inputs["gae_lambda"], values, next_values, rewards, done, done, time_dim=-2
        )[0]

    return prepare


def terms(**inputs: Any) -> tuple[Tensor, Tensor]:
    """Factors and offsets of the recurrence."""
    factors = inputs["gamma"] * inputs["gae_lambda"] * scan_peers.going_on(inputs)
    return factors, scan_peers.bootstrapped(inputs, inputs["values"][1:]) - inputs["values"][:-1]


PEERS: dict[str, Callable[[dict[str, Any]], Call]] = {
    **scan_peers.peers(terms, lambda x, **_: x),
    "stable-baselines3 (numpy)": stable_baselines3,
    "tianshou (numba)": tianshou,
    "torchrl generalized_advantage": torchrl("generalized_advantage_estimate"),
    "torchrl vec_generalized_advantage": torchrl("vec_generalized_advantage_estimate"),
}
GPU_PEERS = (*scan_peers.GPU_PEERS, "torchrl generalized_advantage", "torchrl vec_generalized_advantage")
