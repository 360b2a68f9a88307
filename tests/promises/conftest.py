"""What is promised of every algorithm is tested over the whole registry at once: `algorithm` runs through it, `config_of` makes it small.

An algorithm that joins the registry joins these tests; it needs a line in `SMALL`, and a missing line is an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastrl.trainers.registry import ALGORITHMS, find_algorithm

ON_POLICY = {"num_envs": 2, "num_steps": 16, "layer_sizes": (8,)}
SMALL: dict[str, dict[str, Any]] = {
    "vmpo": {"num_envs": 2, "rollout_steps": 16, "m_steps": 2, "policy_layer_sizes": (8,), "value_layer_sizes": (8,)},
    "mpo": {
        "num_envs": 2,
        "policy_layer_sizes": (8,),
        "critic_layer_sizes": (8,),
        "batch_size": 8,
        "update_after": 16,
        "replay_size": 1000,
        "action_samples": 4,
    },
    "vanilla-pg": ON_POLICY,
    "a2c": ON_POLICY,
    "surrogate-pg": ON_POLICY,
    "ppo": ON_POLICY | {"num_mini_batches": 2, "num_epochs": 2},
    "ppo-adaptive": ON_POLICY | {"num_mini_batches": 2, "num_epochs": 2},
    "ppo-trxl": {
        "num_envs": 2,
        "num_steps": 16,
        "num_minibatches": 2,
        "update_epochs": 2,
        "trxl_num_layers": 1,
        "trxl_num_heads": 1,
        "trxl_dim": 8,
        "trxl_memory_length": 4,
    },
}


def small_config(name: str, **changes: Any) -> Any:
    """The configuration of an algorithm at its smallest: 64 steps of two environments, two evaluation episodes, one thread."""
    settings = {"env_id": "Identity-v0", "total_steps": 64, "eval_episodes": 2, "threads": 1, "seed": 1}
    return find_algorithm(name).config_class()(**settings | SMALL[name] | changes)


@pytest.fixture(params=list(ALGORITHMS))
def algorithm(request: pytest.FixtureRequest) -> str:
    """Every algorithm of the registry by its name."""
    return str(request.param)


@pytest.fixture
def config_of() -> Callable[..., Any]:
    """`config_of(name, **changes)`: see `small_config`."""
    return small_config


@pytest.fixture
def trainer_of() -> Callable[..., Any]:
    """`trainer_of(name, **changes)`: a trainer of `small_config`. Its `train` takes `total_steps` and `out_dir` by name."""

    def make(name: str, **changes: Any) -> Any:
        return find_algorithm(name).trainer_class().from_config(small_config(name, **changes))

    return make
