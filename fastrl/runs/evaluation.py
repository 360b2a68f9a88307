"""Whole episodes with a fixed policy, all environments in parallel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from fastrl.envs import EnvironmentFailure, Episode, Timestep, VectorEnv
from fastrl.errors import NonFiniteError

Evaluation = dict[str, float]
# in an environment without a time limit, or with one that is hardly one, a fixed policy may never end its
# episode
LONGEST_EPISODE = 10_000  # steps that it is given there
LONGEST_LIMIT = 100_000  # steps up to which a time limit is believed to be meant
SAMPLED = "eval/sampled_"  # in place of "eval/" where actions are drawn


class Actor(Protocol):
    """A policy in N environments, with whatever it remembers of their episodes."""

    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for observations [N, ...], as `VectorEnv.step` takes them.

        Args:
            obs: of the present row of each environment; each row is shown once.
            deterministic: the most probable actions, for which no random number is drawn.
        """

    def observe(self, timestep: Timestep) -> None:
        """What came of the actions; called once for each `act`."""


@dataclass(frozen=True)
class MemorylessActor:
    """An actor that looks at the present observations only."""

    policy: Callable[[Tensor, bool], Tensor]  # (observations [N, ...], deterministic) to actions

    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """See `Actor.act`."""
        return self.policy(obs, deterministic)

    def observe(self, timestep: Timestep) -> None:
        """Nothing is remembered."""


def evaluate_policy(
    actor: Actor,
    env: VectorEnv,
    n_episodes: int,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    max_steps: int | None = None,
    deterministic: bool = True,
) -> Evaluation | None:
    """Play `n_episodes` episodes and summarise their returns.

    Every environment contributes a number of episodes fixed beforehand (⌈n/N⌉ or ⌊n/N⌋), so that short
    episodes are not counted more often than long ones. Episode returns are sums of the environment's own
    rewards over valid rows. In an environment without a time limit, or with one above 100,000 steps, an
    episode is left after 10,000 steps and counts with its return so far; that environment contributes no
    further one. A warning says so.

    Args:
        actor: one that has seen nothing of these environments yet.
        env: environments; they are reset first.
        n_episodes: number of episodes, ≥ 1.
        interrupted: asked before every step; when it turns true the evaluation is given up.
        max_steps: steps after which any episode is left; None: as said above.
        deterministic: the most probable actions; False: drawn ones, from torch's global generator.

    Returns:
        `eval/return_mean`, `eval/return_std` (population), `eval/return_min`, `eval/return_max`,
        `eval/length_mean` (environment steps), and `eval/cut_episodes` where episodes were left; None when it
        was interrupted. Of drawn actions the names begin with `eval/sampled_`.

    Raises:
        ValueError: n_episodes or max_steps is below 1.
        EnvironmentFailure, NonFiniteError: an environment failed.
    """
    if n_episodes < 1:
        raise ValueError(f"evaluate: n_episodes must be at least 1, got {n_episodes}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"evaluate: max_steps must be at least 1, got {max_steps}")
    try:
        result = _play(actor, env, n_episodes, interrupted, max_steps, deterministic)
    except (EnvironmentFailure, NonFiniteError) as error:
        raise type(error)(f"{error}, during an evaluation") from error
    if result is None or deterministic:
        return result
    return {name.replace("eval/", SAMPLED): value for name, value in result.items()}


def _play(
    actor: Actor,
    env: VectorEnv,
    n_episodes: int,
    interrupted: Callable[[], bool],
    max_steps: int | None,
    deterministic: bool,
) -> Evaluation | None:
    cut = 0
    wanted = np.full(env.num_envs, n_episodes // env.num_envs)
    wanted[: n_episodes % env.num_envs] += 1
    returns: list[float] = []
    lengths: list[int] = []
    obs = env.reset()
    bound = step_bound(env.max_episode_steps, max_steps)  # some tell their limit only after a reset
    env.pop_episodes()
    while wanted.any():
        if interrupted():
            return None
        timestep = env.step(actor.act(obs, deterministic))
        actor.observe(timestep)
        obs = timestep.obs
        finished = [episode for episode in env.pop_episodes() if wanted[episode.env_index] > 0]
        for episode in finished:
            wanted[episode.env_index] -= 1
        if bound is not None:
            left = _left(env, wanted, bound)
            cut += len(left)
            finished += left
        returns += [episode.episode_return for episode in finished]
        lengths += [episode.length for episode in finished]
    if not cut:
        return summarize(returns, lengths)
    warnings.warn(
        f"evaluation: {cut} of {len(returns)} episodes of {env.name} were left after {bound:,} steps and "
        "count as they stood then; "
        f"eval_max_steps sets another bound",
        stacklevel=2,
    )
    return summarize(returns, lengths) | {"eval/cut_episodes": float(cut)}


def step_bound(limit: int | None, max_steps: int | None) -> int | None:
    """Steps after which an evaluation leaves an episode; None where the environment's time limit comes first.

    Args:
        limit: the environment's time limit; None where there is none or it is not known.
        max_steps: what the user wants; None: nothing in particular.
    """
    if max_steps is None:
        return LONGEST_EPISODE if limit is None or limit > LONGEST_LIMIT else None
    return max_steps if limit is None or limit > max_steps else None


def _left(env: VectorEnv, wanted: np.ndarray, bound: int) -> list[Episode]:
    """Episodes that have gone on for too long, as they stand; nothing more is wanted of their environments,
    which are still in them."""
    so_far, steps = env.unfinished_episodes()
    endless = np.flatnonzero((steps >= bound) & (wanted > 0))
    wanted[endless] = 0
    return [Episode(int(i), float(so_far[i]), int(steps[i])) for i in endless]


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
    sampled = metrics.get(f"{SAMPLED}return_mean")
    beside = "" if sampled is None else f"; {sampled:.2f} with drawn actions"
    return (
        f"return {metrics['eval/return_mean']:.2f} ± {metrics['eval/return_std']:.2f} "
        f"(min {metrics['eval/return_min']:.2f}, max {metrics['eval/return_max']:.2f}), length "
        f"{metrics['eval/length_mean']:.1f}{beside}"
    )
