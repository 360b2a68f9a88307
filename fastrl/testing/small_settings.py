"""The settings at which every algorithm is at its smallest, for tests and attacks over all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

SMALL: dict[str, Any] = {
    **{
        "env_id": "Identity-v0",
        "num_envs": 2,
        "total_steps": 64,
        "eval_episodes": 2,
        "threads": 1,
        "seed": 1,
    },
    **dict.fromkeys(("layer_sizes", "policy_layer_sizes", "value_layer_sizes", "critic_layer_sizes"), (8,)),
    **dict.fromkeys(("num_steps", "update_after"), 16),
    **dict.fromkeys(("num_minibatches", "update_epochs", "m_steps"), 2),
    **{"batch_size": 8, "replay_size": 1000, "action_samples": 4},
    **{"rnn_hidden_size": 8, "sequence_length": 8},
    **{"trxl_num_layers": 1, "trxl_num_heads": 1, "trxl_dim": 8, "trxl_memory_length": 4},
}


# what an algorithm that takes continuous actions only gets instead
CONTINUOUS = {"Identity-v0": "IdentityContinuous-v0", "CartPole-v1": "InvertedPendulum-v5"}


def small_settings(config_class: type[Any], **changes: Any) -> dict[str, Any]:
    """The small settings that a configuration class has, with changes.

    Two environments, rollouts of 16 steps, networks of eight units. An algorithm of continuous actions gets
    the like of an environment of discrete ones.
    """
    known = {field.name for field in dataclasses.fields(config_class)}
    settings = {name: value for name, value in SMALL.items() if name in known} | changes
    env_id = settings["env_id"]
    if config_class.CONTINUOUS_ONLY and isinstance(env_id, str):
        settings["env_id"] = CONTINUOUS.get(env_id, env_id)
    return settings
