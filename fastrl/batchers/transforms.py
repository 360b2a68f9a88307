"""The documented names of `fastrl.toolkit.batchers.transforms`."""

from fastrl.toolkit.batchers.transforms import (
    Frame2Float,
    ReturnRunScaler,
    RewardClipper,
    RewardConstScaler,
    RewardRunScaler,
    StackStates,
    StateRunNorm,
    Transform,
    atari_transforms,
    mujoco_transforms,
)

__all__ = [
    "Frame2Float",
    "ReturnRunScaler",
    "RewardClipper",
    "RewardConstScaler",
    "RewardRunScaler",
    "StackStates",
    "StateRunNorm",
    "Transform",
    "atari_transforms",
    "mujoco_transforms",
]
