"""Random actions for a check."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrl.envs.action_spec import ActionSpec


def random_actions(spec: ActionSpec, rng: np.random.Generator, num_envs: int) -> np.ndarray:
    """Actions [N, *shape] for `VectorEnv.step`: uniform between finite bounds, else N(0, 1) within them."""
    if spec.kind == "continuous":
        assert spec.low is not None and spec.high is not None
        low, high = spec.low.cpu().numpy().astype(np.float64), spec.high.cpu().numpy().astype(np.float64)
        finite = np.isfinite(low) & np.isfinite(high)
        uniform = rng.uniform(np.where(finite, low, 0), np.where(finite, high, 1), (num_envs, spec.dim))
        drawn = np.where(finite, uniform, rng.standard_normal((num_envs, spec.dim)))
        return np.clip(drawn, low, high).astype(np.float32)
    drawn = rng.integers(0, np.asarray(spec.nvec), (num_envs, len(spec.nvec)))
    return drawn[:, 0] if spec.kind == "discrete" else drawn


def mask_of(info: Any, spec: ActionSpec) -> np.ndarray | None:
    """Which choices an environment's info allows, bool [num_actions]; None where it says nothing of use."""
    mask = info.get("action_mask") if isinstance(info, dict) else None
    if mask is None or spec.kind != "discrete":
        return None
    allowed = np.asarray(mask).astype(bool).ravel()
    return allowed if allowed.shape == (spec.num_actions,) and allowed.any() else None
