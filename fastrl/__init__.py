"""fastrl: reinforcement learning with memory and maximum-a-posteriori methods, on a compiled core.

    import fastrl

    run = fastrl.train("ppo", "CartPole-v1", total_steps=100_000, seed=1)
    fastrl.PPO("CartPole-v1", num_envs=16).train(100_000)
    policy = fastrl.load(run.run_folder)
    action, state = policy.act(obs)

Importing the package is cheap: torch, environment libraries and the native ops are imported when a name that
needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastrl import ops as ops
    from fastrl.envs import make_vector_env as make_vector_env
    from fastrl.front.classes import A2C as A2C
    from fastrl.front.classes import MPO as MPO
    from fastrl.front.classes import PPO as PPO
    from fastrl.front.classes import SAC as SAC
    from fastrl.front.classes import VMPO as VMPO
    from fastrl.front.classes import PPOAdaptive as PPOAdaptive
    from fastrl.front.classes import PPOTrXL as PPOTrXL
    from fastrl.front.classes import SurrogatePG as SurrogatePG
    from fastrl.front.classes import VanillaPG as VanillaPG
    from fastrl.front.policy import Policy as Policy
    from fastrl.front.policy import load as load
    from fastrl.front.training import algorithms as algorithms
    from fastrl.front.training import train as train

__version__ = "0.1.0"

_CLASSES = ("A2C", "MPO", "PPO", "PPOAdaptive", "PPOTrXL", "SAC", "SurrogatePG", "VMPO", "VanillaPG")
_MODULES = {
    **dict.fromkeys(_CLASSES, "fastrl.front.classes"),
    "Policy": "fastrl.front.policy",
    "load": "fastrl.front.policy",
    "algorithms": "fastrl.front.training",
    "train": "fastrl.front.training",
    "make_vector_env": "fastrl.envs",
}
__all__ = ["__version__", "ops", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "ops":
        return importlib.import_module("fastrl.ops")
    if name not in _MODULES:
        raise AttributeError(f"module 'fastrl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
