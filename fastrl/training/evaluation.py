"""Whole episodes with a fixed policy, all environments in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from fastrl.envs import VectorEnv

Evaluation = dict[str, float]


def evaluate_policy(
    choose: Callable[[Tensor], Tensor], env: VectorEnv, n_episodes: int, *, interrupted: Callable[[], bool] = lambda: False
) -> Evaluation | None:
    """Play `n_episodes` episodes and summarise their returns.

    Every environment contributes a number of episodes fixed beforehand (⌈n/N⌉ or ⌊n/N⌋), so that short episodes are not counted more often
    than long ones. Episode returns are sums of the environment's own rewards over valid rows.

    Args:
        choose: observations [N, ...] to actions, as `VectorEnv.step` takes them.
        env: environments; they are reset first.
        n_episodes: number of episodes, ≥ 1.
        interrupted: asked before every step; when it turns true the evaluation is given up.

    Returns:
        `eval/return_mean`, `eval/return_std` (population), `eval/return_min`, `eval/return_max`, `eval/length_mean` (environment steps), or
        None when it was interrupted.

    Raises:
        ValueError: n_episodes is below 1.
    """
    if n_episodes < 1:
        raise ValueError(f"evaluate: n_episodes must be at least 1, got {n_episodes}")
    wanted = np.full(env.num_envs, n_episodes // env.num_envs)
    wanted[: n_episodes % env.num_envs] += 1
    returns: list[float] = []
    lengths: list[int] = []
    obs = env.reset()
    env.pop_episodes()
    while len(returns) < n_episodes:
        if interrupted():
            return None
        obs = env.step(choose(obs)).obs
        for episode in env.pop_episodes():
            if wanted[episode.env_index] > 0:
                wanted[episode.env_index] -= 1
                returns.append(episode.episode_return)
                lengths.append(episode.length)
    return summarize(returns, lengths)


def summarize(returns: list[float], lengths: list[int]) -> Evaluation:
    """The documented evaluation keys from finished episodes."""
    return {
        "eval/return_mean": float(np.mean(returns)),
        "eval/return_std": float(np.std(returns)),
        "eval/return_min": float(np.min(returns)),
        "eval/return_max": float(np.max(returns)),
        "eval/length_mean": float(np.mean(lengths)),
    }


def evaluation_line(metrics: Mapping[str, float]) -> str:
    """One line for people: mean ± standard deviation and range of the return."""
    return (
        f"return {metrics['eval/return_mean']:.2f} ± {metrics['eval/return_std']:.2f} "
        f"(min {metrics['eval/return_min']:.2f}, max {metrics['eval/return_max']:.2f}), length {metrics['eval/length_mean']:.1f}"
    )
