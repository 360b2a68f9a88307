"""Which observations an algorithm's networks take: vectors, or images too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fastrl.envs import VectorEnv
from fastrl.errors import SettingError

LARGEST_FLAT = 1024  # numbers: a grid world's view is a vector to a multilayer perceptron, a camera's is not


def is_camera(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether observations are images too large for vectors: bytes with two axes, or anything with three."""
    axes = 2 if dtype == torch.uint8 else 3
    return len(shape) >= axes and math.prod(shape) > LARGEST_FLAT


def require_vectors(env: VectorEnv, algorithm: str) -> None:
    """Stop where an algorithm whose networks take vectors would get images.

    Raises:
        SettingError: observations are images; the message says what takes them.
    """
    if not is_camera(env.obs_shape, env.obs_dtype):
        return
    kind = "bytes" if env.obs_dtype == torch.uint8 else "float32"
    raise SettingError(
        f"env_id {env.name!r} has image observations, {kind} {list(env.obs_shape)}; networks of {algorithm} "
        "take vectors of numbers. "
        "What takes images: ppo-trxl (bytes, channels first or last), and models of the toolkit, "
        "from_arch('dqn') or from_arch('a3c') behind Frame2Float; of a dict observation, obs_keys can name "
        "vectors instead"
    )
