"""What fills a replay: act, step the environments, store; numbers that overflow are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fastrl.data.replay import SequenceReplay, Sequences, make_replay
from fastrl.data.rollout import Field
from fastrl.envs import Episode, Timestep, VectorEnv
from fastrl.nn.encoders import as_vectors, byte_range

Act = Callable[[Tensor], Mapping[str, Tensor]]

LARGEST_NUMBER = 1e15  # of observations and rewards; what is larger overflows once it is squared and summed
WARNED_EVERY = 1_000  # refused transitions between two warnings


class FeedSettings(Protocol):
    """What a feed must know, see `fastrl.runs.replay_config.ReplayConfig`."""

    replay_size: int
    batch_size: int
    update_after: int
    save_replay: bool

    @property
    def window(self) -> int:
        """T, transitions of a window."""

    @property
    def updates_per_transition(self) -> float:
        """Updates that each stored transition makes due."""


class Feed:
    """Steps environments with the policy of the moment and stores what comes of it, one row at each step.

    A transition with a number above 1e15, which overflows once it is squared and summed, is not stored as
    one: its row stays in the replay with `valid = False`, which ends the sequence there. Acting sees 0 in
    place of such numbers.

    Args:
        env: what is stepped; `restart` resets it and must be called before the first `step`.
        settings: sizes of replay and batches, and when updates are due; may be replaced.
        extras: fields of the replay besides observation and action, as shape and dtype.
        name: of the algorithm, for warnings.
        seed: of the generator that draws batches.
        device: where the replay lives.
        count: called after each step with its valid transitions and the episodes that ended in it.
        stopwatch: `stopwatch(phase)` times what is inside a `with`; the phases are "acting", "environment",
            "storing" and "sampling".

    Attributes:
        replay: the stored rows; memory: what it takes, in words.
        obs: observations [N, obs_dim] of the row that comes next, bytes divided by their range.
        refused: transitions that were not stored.
        stepped: environment steps since the replay was empty.
        due: updates that the stored transitions make due.

    Raises:
        SettingError: the replay holds no window, or is larger than the machine's memory.
    """

    obs: Tensor
    _breaks_next: Tensor  # bool [N]: the next transition begins with what cannot be used

    def __init__(
        self,
        env: VectorEnv,
        settings: FeedSettings,
        extras: Mapping[str, Field] | None = None,
        *,
        name: str,
        seed: int,
        device: torch.device,
        count: Callable[[int, list[Episode]], None] = lambda transitions, episodes: None,
        stopwatch: Callable[[str], AbstractContextManager[Any]] = lambda phase: nullcontext(),
    ) -> None:
        self.env, self.settings, self.name = env, settings, name
        self._extras, self._seed, self._device = extras, seed, device
        self.replay, self.memory = self._make_replay()
        self.byte_range = byte_range(env.obs_shape)
        self.refused = 0
        self.stepped = 0
        self.due = 0.0
        # of transitions stored by hand: what followed the last one, [1, obs_dim], and whether one was refused
        self._following: Tensor | None = None
        self._broken = False
        self._count, self._stopwatch = count, stopwatch

    def _make_replay(self) -> tuple[SequenceReplay, str]:
        settings = self.settings
        return make_replay(
            self.env,
            settings.replay_size,
            self._extras,
            window=settings.window,
            copies=2 if settings.save_replay else 0,
            seed=self._seed,
            device=self._device,
        )

    def restart(self) -> None:
        """Reset all environments; windows do not lead from what is stored into the new episodes.

        A first observation that cannot be used breaks the first transition only.
        """
        if self.replay.index.rows:
            self._break_sequences()
        self._following = None
        obs = self.env.reset()
        self._breaks_next = ~usable(as_vectors(obs)).all(1)
        self.obs = seen(obs)

    # ---------------------------------------------------------------------- rows of all environments

    def step(self, act: Act) -> None:
        """One step of all environments, stored; once there is enough to learn from, updates become due.

        Args:
            act: observations [N, obs_dim] to a mapping of `actions`, as `VectorEnv.step` takes them, and the
                replay's further fields, each [N, ...].

        Raises:
            EnvironmentFailure, NonFiniteError: of the environments; nothing of that step is stored or
                counted.
        """
        if self._following is not None:
            self._break_sequences()  # the environment's own episode does not go on where those by hand ended
        with self._stopwatch("acting"):
            acted = act(self.obs)
        with self._stopwatch("environment"):
            timestep = self.env.step(acted["actions"])
        with self._stopwatch("storing"):
            self._store(acted, timestep)
        transitions = timestep.transitions
        self.stepped += transitions
        self._count(transitions, self.env.pop_episodes())
        if self._ready():
            self.due += transitions * self.settings.updates_per_transition

    def batches(self) -> Iterator[Sequences]:
        """The batches that are due, each drawn when it is asked for, observations as networks take them."""
        settings = self.settings
        while self.due >= 1.0:
            with self._stopwatch("sampling"):
                windows = max(settings.batch_size // settings.window, 1)
                batch = self.replay.sample(windows, settings.window).with_float_obs(self.byte_range)
            self.due -= 1.0
            yield batch

    def metrics(self) -> dict[str, Tensor]:
        """`replay/transitions`, those that are stored, and `replay/refused`, 0-d."""
        counts = {"replay/transitions": len(self.replay), "replay/refused": self.refused}
        return {name: torch.tensor(float(count)) for name, count in counts.items()}

    def _ready(self) -> bool:
        """Whether there is enough to learn from: `update_after` steps were made, and a batch can be drawn."""
        settings, index = self.settings, self.replay.index
        filled = len(self.replay) >= settings.batch_size or index.rows == index.capacity
        return self.stepped >= settings.update_after and filled and self.replay.can_sample(settings.window)

    def _store(self, acted: Mapping[str, Tensor], timestep: Timestep) -> None:
        next_obs, rewards, valid = as_vectors(timestep.obs), timestep.reward, timestep.valid
        terminated, truncated = timestep.terminated, timestep.truncated
        logp = acted.get("behaviour_logp", rewards)
        total = next_obs.abs().sum() + rewards.abs().sum() + logp.abs().sum()
        if not bool(total <= LARGEST_NUMBER) or bool(self._breaks_next.any()):
            ends_well = usable(next_obs).all(1)
            good = ends_well & usable(rewards) & usable(logp) & ~self._breaks_next.to(ends_well.device)
            if bool((valid & ~good).any()):
                self._refuse(int((valid & ~good).sum()))
            self._breaks_next = ~ends_well  # the next row begins with what cannot be used
            valid = valid & good
            rewards, next_obs = harmless(rewards), harmless(next_obs)
            if "behaviour_logp" in acted:
                acted = {**acted, "behaviour_logp": harmless(logp)}
            terminated, truncated = terminated & valid, truncated & valid
        self.replay.add(
            obs=self._stored(self.obs),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            **acted,
        )
        self.obs = next_obs

    def _stored(self, obs: Tensor) -> Tensor:
        """Observations as networks get them in the form of the replay, which holds bytes as bytes."""
        dtype = self.replay.storage["obs"].dtype
        return (obs * self.byte_range).round().to(dtype) if dtype == torch.uint8 else obs.to(dtype)

    def _break_sequences(self) -> None:
        """A row without transitions behind the newest one: what comes next did not follow it."""
        self._add_row(self.obs if self._following is None else self._following)
        self._following = None

    def _add_row(self, obs: Tensor, **values: Any) -> None:
        """A row of all environments, 0 in the fields that are not given."""
        row = self.replay.empty_row()
        row["obs"] += self._stored(obs).to(row["obs"].device)
        for name, value in values.items():
            row[name] += torch.as_tensor(np.asarray(value)).to(row[name])
        self.replay.add(**row)

    def _refuse(self, count: int) -> None:
        """Count refused transitions; warn of the first and then rarely."""
        before, self.refused = self.refused, self.refused + count
        if before == 0 or before // WARNED_EVERY != self.refused // WARNED_EVERY:
            what = "transitions that are not finite, or too large to be squared,"
            warnings.warn(
                f"{self.name}: {self.refused} {what} have been refused so far", RuntimeWarning, stacklevel=3
            )

    # ------------------------------------------------------------------------------- storing by hand

    def add_transition(self, obs: np.ndarray, next_obs: np.ndarray, **values: Any) -> bool:
        """Store one transition of a loop of one's own, for a single environment.

        What follows it is stored with it, so the next transition may begin anywhere: a sequence goes on where
        it begins with this one's `next_obs`, and is broken where it does not.

        Args:
            obs, next_obs: [obs_dim] before and after the step; bytes as np.uint8, or divided by their range.
            values: the replay's other fields by name, without the environments' dimension; 0 where left out.

        Returns:
            False if a number is not finite: the transition is refused, counted and warned of, and breaks the
            sequence.
        """
        if not all(np.isfinite(value).all() for value in (obs, next_obs, *values.values())):
            self._refuse(1)
            self._broken = True
            return False
        first, following = self._row_of(obs), self._row_of(next_obs)
        expected = self.obs if self._following is None else self._following
        if self.replay.index.rows and (self._broken or not torch.equal(expected.cpu(), first)):
            self._add_row(expected)  # what followed the transition before
        self._add_row(first, valid=True, **values)
        self._following, self._broken = following, False
        return True

    def _row_of(self, obs: np.ndarray) -> Tensor:
        """One observation given by hand as networks get it, [1, obs_dim], on the CPU."""
        row = torch.as_tensor(np.asarray(obs, np.float32)).reshape(1, self.obs.shape[1])
        return row / self.byte_range if np.asarray(obs).dtype == np.uint8 else row

    # ----------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """What a later process needs to go on: exactly with `save_replay`, else from a new replay."""
        return self.carried() | {"replay": self.replay.state_dict() if self.settings.save_replay else None}

    def carried(self) -> dict[str, Any]:
        """`state_dict` without the replay, which is not copied."""
        return {
            "obs": self.obs,
            "refused": self.refused,
            "stepped": self.stepped,
            "due": self.due,
            "breaks_next": self._breaks_next,
            "following": self._following,
            "broken": self._broken,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `state_dict`; what this feed had stored is dropped.

        Without a saved replay the next `update_after` environment steps only fill a new one.

        Args:
            state: of a feed with the same settings.
            environments_continue: whether the environments go on where they were; else they are reset.

        Raises:
            ValueError: the replay's state is none; the feed is as it was.
        """
        replay, memory = self._make_replay()
        kept = state["replay"] is not None
        if kept:
            replay.load_state_dict(state["replay"])
        self.replay, self.memory = replay, memory
        self.stepped, self.due = (int(state["stepped"]), float(state["due"])) if kept else (0, 0.0)
        self.obs = state["obs"].to(self.replay.device)
        self.refused = int(state["refused"])
        self._breaks_next = state["breaks_next"].clone()
        self._following = None if state["following"] is None else state["following"].clone()
        self._broken = bool(state["broken"])
        if not environments_continue:
            self.restart()


def usable(values: Tensor) -> Tensor:
    """Where numbers are finite and not too large."""
    return values.abs() <= LARGEST_NUMBER


def harmless(values: Tensor) -> Tensor:
    """0 instead of what is not usable."""
    return torch.where(usable(values), values, 0.0)


def seen(obs: Tensor) -> Tensor:
    """Observations [N, *shape] of environments as acting sees them, [N, obs_dim]."""
    return harmless(as_vectors(obs))
