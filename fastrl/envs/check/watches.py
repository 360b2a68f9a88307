"""What is kept of many random steps: ranges of observations, rewards, lengths of episodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrl.envs.check.report import Level, Report, said
from fastrl.envs.failures import ObservationFault
from fastrl.envs.finite import all_finite, first_fault
from fastrl.envs.observation_entries import Leaf
from fastrl.envs.ranges import LARGE_NUMBER, Ranges

HUGE_LIMIT = 100_000  # steps; nobody waits for an evaluation of such episodes


class EntryWatch:
    """One entry of the observations, before anything is made of it.

    Args:
        leaf: the entry.
        report: where findings go.
        place: from the flat index of a number to words for where it is; None: by its index.
    """

    def __init__(self, leaf: Leaf, report: Report, place: Callable[[int], str] | None = None) -> None:
        self._leaf, self._report = leaf, report
        self._place = place or self._by_index
        self._ranges = Ranges()
        self._broken = False

    def see(self, batch: np.ndarray) -> None:
        """Values [N, *shape]."""
        if self._broken:
            return
        leaf = self._leaf
        try:
            if batch.shape[1:] != leaf.shape:
                raise ObservationFault(
                    f"{leaf.called} has shape {list(batch.shape[1:])}, its space declares {list(leaf.shape)}"
                )
            leaf.encode(batch)
        except (ValueError, TypeError) as error:  # faults, and whatever numpy says of a strange array
            self._broken = True
            self._report.error(
                "observations",
                str(error) if isinstance(error, ObservationFault) else f"{leaf.called}: {said(error)}",
            )
            return
        if batch.dtype != leaf.dtype and leaf.kind == "box":
            self._report.note(
                "observations", f"{leaf.called} is {batch.dtype}, its space declares {leaf.dtype}; it is cast"
            )
        if batch.dtype.kind == "f" and not all_finite(batch):
            self._broken = True
            self._report.error(
                "observations",
                f"{leaf.called} is not finite, {first_fault(batch, 'number')[1]}; training stops there",
            )
            return
        self._ranges.see(batch)

    def finish(self) -> None:
        """Say what the ranges show."""
        if self._broken or not self._ranges.rows or not self._ranges.low.size or self._leaf.kind != "box":
            return
        self._say_outside()
        self._say_scale()
        constant, size = self._ranges.constant, self._ranges.low.size
        if 0 < constant < size:
            self._report.note(
                "observations", f"{constant:,} of the {size:,} numbers of {self._leaf.called} never changed"
            )

    @property
    def never_changed(self) -> bool:
        """Whether every number was the same all the time."""
        return self._ranges.rows > 1 and self._ranges.constant == self._ranges.low.size

    def _say_outside(self) -> None:
        leaf, ranges = self._leaf, self._ranges
        if leaf.low is None or leaf.high is None:
            return
        wrong = ranges.outside(leaf.low, leaf.high)
        if not wrong.size:
            return
        index = int(wrong[0])
        smallest, largest = ranges.span(index)
        more = "" if wrong.size == 1 else f" ({wrong.size} of its numbers leave theirs)"
        declared = f"{np.ravel(leaf.low)[index]:g} to {np.ravel(leaf.high)[index]:g}"
        self._report.warn(
            "observations",
            f"{self._place(index)} was {smallest:g} to {largest:g}, its space declares {declared}{more}",
        )

    def _by_index(self, index: int) -> str:
        leaf = self._leaf
        return (
            leaf.called
            if leaf.size == 1
            else f"{leaf.called} at {[int(i) for i in np.unravel_index(index, leaf.shape)]}"
        )

    def _say_scale(self) -> None:
        leaf, ranges = self._leaf, self._ranges
        low, high = ranges.smallest_value, ranges.largest_value
        if leaf.dtype == np.uint8:
            if leaf.image and leaf.size > 1024 and high <= 1:
                self._report.warn(
                    "observations",
                    f"{leaf.called}, bytes, never exceeds {high:g}: were numbers from 0 to 1 made bytes?",
                )
            elif leaf.image and leaf.scaled and high < 16:
                self._report.note(
                    "observations", f"{leaf.called}, bytes, never exceeds {high:g}: symbols, not pixels"
                )
        elif leaf.image and leaf.size > 1024 and high > 2:
            self._report.warn(
                "observations",
                f"{leaf.called}, {leaf.dtype}, is {low:g} to {high:g}: give pixels as bytes, or from 0 to 1",
            )
        elif max(abs(low), abs(high)) > LARGE_NUMBER:
            self._report.warn(
                "observations", f"{leaf.called} is {low:g} to {high:g}: normalise observations, or scale them"
            )


class RewardWatch:
    """Rewards of transitions."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ranges = Ranges()

    def see(self, rewards: np.ndarray) -> None:
        """Rewards [N] of transitions alone."""
        if not all_finite(rewards):
            self._report.error(
                "rewards",
                f"a reward is not finite, {first_fault(rewards, 'reward')[1]}; training stops there",
            )
            return
        if len(rewards):
            self._ranges.see(rewards.astype(np.float64))

    def finish(self) -> None:
        """Say what they were."""
        if not self._ranges.rows:
            return
        low, high = self._ranges.span(0)
        if max(abs(low), abs(high)) > LARGE_NUMBER:
            self._report.warn("rewards", f"rewards are {low:g} to {high:g}: normalise rewards, or scale them")
        elif low == high == 0:
            self._report.note("rewards", "every reward was 0: random actions find none")
        else:
            self._report.note("rewards", f"{low:g} to {high:g}" if low < high else f"always {low:g}")


class EpisodeWatch:
    """How episodes end.

    Args:
        report: where findings go.
        told: the time limit that the environment tells, in steps.
    """

    def __init__(self, report: Report, told: int | None) -> None:
        self._report, self.told = report, told
        self._lengths: list[int] = []
        self._cut: list[int] = []  # lengths of those that were truncated
        self.longest = 0  # unfinished ones count too

    def end(self, length: int, truncated: bool) -> None:
        """An episode of so many steps has ended."""
        self._lengths.append(length)
        self._report.episodes += 1
        self.longest = max(self.longest, length)
        if truncated:
            self._cut.append(length)

    def finish(self, unfinished: int) -> None:
        """Say what ended when; `unfinished` is the length of the longest episode that is still going on."""
        self.longest = max(self.longest, unfinished)
        told, report = self.told, self._report
        if self._lengths:
            report.note(
                "limit",
                f"episodes of random actions last {min(self._lengths)} to {max(self._lengths)} steps; limit "
                f"{told or 'none'}",
            )
        if told is None:
            self._say_without_limit()
        elif self.longest > told:
            report.warn("limit", f"a limit of {told} steps is told, but an episode lasted {self.longest}")
        elif self._cut and max(self._cut) < told and len(set(self._cut)) == 1:
            report.warn(
                "limit", f"a limit of {told} steps is told, but episodes are truncated after {self._cut[0]}"
            )
        elif told > HUGE_LIMIT:
            level: Level = "note" if self._lengths else "warning"
            report.add(
                level, "limit", f"a limit of {told:,} steps is as good as none: give max_episode_steps"
            )
        elif not self._lengths:
            report.note("limit", f"no episode ended within {self.longest} steps; the limit is {told}")

    def _say_without_limit(self) -> None:
        if not self._lengths:
            advice = "an evaluation of it may never end: give max_episode_steps"
            self._report.warn(
                "limit", f"no episode ended within {self.longest} steps, and no time limit is told; {advice}"
            )
        elif self._cut:
            advice = f"give max_episode_steps={max(self._cut)} where it is asked for"
            self._report.note(
                "limit",
                f"episodes are truncated after {max(self._cut)} steps at most, but no limit is told; "
                f"{advice}",
            )
