"""Evaluation in Gymnasium vector environments whose wrappers normalise observations, for loops outside the
trainer."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.toolkit.wrappers import _find_wrapper
from fastrl.nn.normalizer import merge_moments
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy
from fastrl.trainers.vmpo.agent import VMPOAgent

Moments = tuple[np.ndarray, np.ndarray, float]  # mean, population variance, count


def _merge_obs_rms_stats(stats_seq: Sequence[Moments]) -> Moments | None:
    """Merge (mean, population variance, count) triples of disjoint samples into one, exactly; None when there
    is none.

    A triple with count 0 carries nothing.

    Reference: Chan, Golub and LeVeque, 1979.
    """
    counted = [stats for stats in stats_seq if stats[2] > 0]
    if not counted:
        return None
    mean, var, count = (
        np.asarray(counted[0][0], np.float64),
        np.asarray(counted[0][1], np.float64),
        float(counted[0][2]),
    )
    for other_mean, other_var, other_count in counted[1:]:
        mean, var, count = merge_moments(
            mean,
            var,
            count,
            np.asarray(other_mean, np.float64),
            np.asarray(other_var, np.float64),
            float(other_count),
        )
    return mean.copy(), var.copy(), count


def _normalizers(vec_env: gym.vector.VectorEnv) -> list[gym.wrappers.NormalizeObservation]:
    found = [
        _find_wrapper(env, gym.wrappers.NormalizeObservation)
        for env in getattr(vec_env.unwrapped, "envs", [])
    ]
    return [wrapper for wrapper in found if wrapper is not None]


def _collect_vector_obs_rms_stats(vec_env: gym.vector.VectorEnv) -> Moments | None:
    """Statistics of all `NormalizeObservation` wrappers of a synchronous vector environment, merged; None
    when there is none."""
    return _merge_obs_rms_stats(
        [(w.obs_rms.mean, w.obs_rms.var, w.obs_rms.count) for w in _normalizers(vec_env)]
    )


def _apply_obs_rms_stats(vec_env: gym.vector.VectorEnv, obs_rms_stats: Moments | None) -> None:
    """Copy statistics into every `NormalizeObservation` wrapper of a synchronous vector environment and
    freeze them; None does nothing."""
    if obs_rms_stats is None:
        return
    mean, var, count = obs_rms_stats
    for wrapper in _normalizers(vec_env):
        wrapper.obs_rms.mean = np.array(mean, dtype=np.float64)
        wrapper.obs_rms.var = np.array(var, dtype=np.float64)
        wrapper.obs_rms.count = count
        wrapper.update_running_mean = False


def _evaluate_vectorized(
    agent: VMPOAgent, eval_envs: gym.vector.VectorEnv, seed: int = 42, obs_rms_stats: Moments | None = None
) -> dict[str, float]:
    """One deterministic episode in each environment, all side by side.

    Args:
        agent: acts through `VMPOAgent.act`.
        eval_envs: N environments; they stay open.
        seed: seed of their reset.
        obs_rms_stats: observation statistics to copy in and freeze first.

    Returns:
        `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean` over N
        episodes.
    """
    _apply_obs_rms_stats(eval_envs, obs_rms_stats)
    env = make_vector_env(eval_envs, eval_envs.num_envs, seed=seed)

    def act(obs: torch.Tensor, deterministic: bool) -> torch.Tensor:
        rows = obs.reshape(env.num_envs, -1).cpu().numpy()
        return torch.as_tensor(agent.act(rows, deterministic)[0])

    metrics = evaluate_policy(MemorylessActor(act), env, env.num_envs)
    assert metrics is not None  # nothing interrupts it
    return metrics
