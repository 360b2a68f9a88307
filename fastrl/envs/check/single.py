"""A single Gymnasium environment, stepped as it is: does it keep Gymnasium's contract and its spaces?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.time_limit import time_limit
from fastrl.envs.check.actions import mask_of, random_actions
from fastrl.envs.check.contract import Contract, Stepped
from fastrl.envs.check.repeats import check_repeats
from fastrl.envs.check.report import Report, Time
from fastrl.envs.check.watches import EntryWatch, EpisodeWatch, RewardWatch
from fastrl.envs.failures import ObservationFault
from fastrl.envs.observation_entries import Leaf, entries
from fastrl.envs.observations import dig


class SingleCheck:
    """Steps one environment with random actions.

    Args:
        env: the environment.
        actions: its actions.
        report: where findings go.
        seed: of the episodes and actions.
    """

    def __init__(self, env: gym.Env[Any, Any], actions: ActionMap, report: Report, *, seed: int) -> None:
        self._report, self._actions, self._seed = report, actions, seed
        self._rng = np.random.default_rng(seed)
        self._contract = Contract(env, report)
        found = [entry for entry in entries(env.observation_space) if isinstance(entry, Leaf)]
        self._leaves = [(leaf, EntryWatch(leaf, report)) for leaf in found]
        self._declared = (
            set(env.observation_space.spaces) if isinstance(env.observation_space, gym.spaces.Dict) else None
        )
        self._rewards = RewardWatch(report)
        with report.guard("limit", "asking for the time limit"):
            self._episodes = EpisodeWatch(report, time_limit(env))
        self._before: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # arrays of the last observation, and what was in them

    def run(self, steps: int) -> None:
        """So many steps, then the same episode twice, then an action outside its bounds."""
        self._step(steps)
        for _, watch in self._leaves:
            watch.finish()
        if not self._report.broken and all(watch.never_changed for _, watch in self._leaves):
            self._report.warn("observations", f"they never changed, in {self._report.steps} steps")
        self._rewards.finish()
        if not self._report.broken:
            check_repeats(self._contract, self._draw, self._seed, self._report)
        if not self._report.broken:
            self._try_outside()

    def _step(self, steps: int) -> None:
        time, length = Time(), 0
        begun = self._contract.reset(seed=self._seed)
        if begun is None:
            return
        self._ask_limit_again()
        self._see(begun[0])
        info = begun[1]
        for _ in range(steps):
            stepped = self._contract.step(self._draw(info))
            if stepped is None or not self._count(stepped):
                return
            info, length = stepped.info, length + 1
            if stepped.terminated or stepped.truncated:
                self._episodes.end(length, bool(stepped.truncated) and not stepped.terminated)
                begun, length = self._contract.reset(), 0
                if begun is None:
                    return
                self._see(begun[0])
                info = begun[1]
            if time.over:
                self._report.note(
                    "step", f"stopped after {self._report.steps} steps, in {time.seconds:g} seconds"
                )
                break
        self._episodes.finish(length)

    def _ask_limit_again(self) -> None:
        """Some environments know the length of their episodes only when they have begun one."""
        now = time_limit(self._contract.env)
        if self._episodes.told is None and now is not None:
            self._episodes.told = now
            self._report.note("limit", f"{now} steps, which it tells only after a reset")

    def _count(self, stepped: Stepped) -> bool:
        """Look at what a step returned; whether going on makes sense."""
        self._report.steps += 1
        self._see(stepped.obs)
        self._rewards.see(np.array([stepped.reward]))
        return not self._report.broken

    def _see(self, obs: Any) -> None:
        arrays = []
        for leaf, watch in self._leaves:
            try:
                value = dig(obs, leaf)
            except ObservationFault as fault:
                self._report.error("observations", str(fault))
                continue
            if value is None:
                self._report.error("observations", f"{leaf.called} is None")
                continue
            with self._report.guard("observations", f"making an array of {leaf.called}"):
                watch.see(np.asarray(value)[None])
            if isinstance(value, np.ndarray):
                arrays.append(value)
        self._see_extra(obs)
        self._see_reuse(arrays)

    def _see_extra(self, obs: Any) -> None:
        if self._declared is None or not isinstance(obs, Mapping):
            return
        extra = ", ".join(repr(key) for key in obs if key not in self._declared)
        if extra:
            self._report.warn(
                "observations",
                f"they have entries that the space does not declare, which nobody will see: {extra}",
            )

    def _see_reuse(self, arrays: list[np.ndarray]) -> None:
        """Whether the array of the observation before was written into."""
        if any(not np.array_equal(array, copy) for array, copy in self._before if array.dtype.kind in "biuf"):
            self._report.note(
                "observations",
                "every one is written into the array of the one before; fastrl copies, loops of your own "
                "must too",
            )
        self._before = [(array, array.copy()) for array in arrays]

    def _draw(self, info: Any) -> Any:
        spec = self._actions.spec
        action = random_actions(spec, self._rng, 1)
        if isinstance(info, Mapping) and "action_mask" in info:
            self._report.note(
                "infos",
                "info has an action_mask: policies take forbidden actions too, unless action_mask_key is "
                "'info.action_mask'",
            )
            mask = mask_of(info, spec)
            if mask is not None:
                action = np.array([self._rng.choice(np.flatnonzero(mask))])
        return self._actions.batch(action)[0]

    def _try_outside(self) -> None:
        """An action far outside finite bounds; fastrl never sends one."""
        space = self._contract.env.action_space
        if (
            not isinstance(space, gym.spaces.Box)
            or not np.isfinite([space.low, space.high]).all()
            or space.dtype.kind != "f"
        ):
            return
        if self._contract.reset(seed=self._seed) is None:
            return
        far = (space.high + 10 * (space.high - space.low) + 1).astype(space.dtype)
        try:
            self._contract.env.step(far)
        except (Exception, SystemExit) as error:
            self._report.note(
                "actions", f"one outside its bounds raises {type(error).__name__}; fastrl sends none"
            )
        else:
            self._report.note("actions", "one outside its bounds is accepted; fastrl sends none")
