"""What trainers get: environments as a `VectorEnv`, stepped with random actions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fastrl.envs.base import VectorEnv
from fastrl.envs.check.actions import random_actions
from fastrl.envs.check.report import Report, Time
from fastrl.envs.check.spaces import whole_observation
from fastrl.envs.check.watches import EntryWatch, EpisodeWatch, RewardWatch

COMPARED = 32  # steps of two environments with one seed


def describe(env: VectorEnv, report: Report) -> None:
    """Notes on the arrays that trainers get, for environments that tell no spaces."""
    kind = "bytes" if env.obs_dtype == torch.uint8 else "float32"
    report.note("observations", f"{kind} {list(env.obs_shape)}")
    spec = env.action
    choices = "" if spec.kind == "continuous" else f", of {' and '.join(map(str, spec.nvec))} choices"
    report.note("actions", f"{spec.kind}{choices or f', {spec.dim} numbers'}")


def check_stream(env: VectorEnv, report: Report, *, steps: int, seed: int) -> None:
    """So many steps of all environments; findings on ranges, rewards and episodes."""
    rng, time = np.random.default_rng(seed), Time()
    entry = EntryWatch(whole_observation(env.obs_shape, env.obs_dtype, env.obs_bounds), report, env.obs_place)
    rewards, episodes = RewardWatch(report), EpisodeWatch(report, env.max_episode_steps)
    with report.guard("environment", "stepping"):
        entry.see(env.reset().cpu().numpy())
        for _ in range(steps):
            step = env.step(random_actions(env.action, rng, env.num_envs))
            valid = step.valid.cpu().numpy()
            entry.see(step.obs.cpu().numpy())
            rewards.see(step.reward.cpu().numpy()[valid])
            report.steps += int(valid.sum())
            truncated = (step.truncated & ~step.terminated).cpu().numpy()
            for episode in env.pop_episodes():
                episodes.end(episode.length, bool(truncated[episode.env_index]))
            if report.broken:
                return
            if time.over:
                report.note("step", f"stopped after {report.steps} steps, in {time.seconds:g} seconds")
                break
        episodes.finish(int(env.unfinished_episodes()[1].max()))
    entry.finish()
    if not report.broken and entry.never_changed:
        report.warn("observations", f"they never changed, in {report.steps} steps")
    rewards.finish()


def check_runs(env: VectorEnv, report: Report, *, steps: int, seed: int) -> None:
    """A few steps, only to see that they can be made; what was found elsewhere is not said again."""
    rng, time = np.random.default_rng(seed), Time(0.25)
    with report.guard("environment", "stepping"):
        env.reset()
        for _ in range(steps):
            env.step(random_actions(env.action, rng, env.num_envs))
            if time.over:
                break


def check_same_seed(make: Callable[[], VectorEnv], report: Report, *, seed: int) -> None:
    """Whether environments that are made twice with one seed do the same under the same actions."""
    played: list[list[torch.Tensor]] = []
    for _ in range(2):
        with report.guard("environment", "stepping"), make() as env:
            rng = np.random.default_rng(seed)
            seen = [env.reset()]
            for _ in range(COMPARED):
                seen += env.step(random_actions(env.action, rng, env.num_envs))
            played.append(seen)
    if len(played) == 2 and not all(torch.equal(one, other) for one, other in zip(*played, strict=True)):
        report.warn("seeds", "the same seed and actions give different episodes")
