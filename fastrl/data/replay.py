"""Replay of sequences: rows of vector environments in a ring, windows of consecutive rows out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fastrl.data.rollout import Field
from fastrl.data.sequence_index import SequenceIndex
from fastrl.data.sequence_storage import SequenceStorage
from fastrl.envs import VectorEnv
from fastrl.errors import SettingError
from fastrl.machine import require_memory


@dataclass(frozen=True, slots=True)
class Sequences:
    """B windows of T transitions, time-major.

    Args:
        obs: [T+1, B, ...]; row t+1 is the observation that followed transition t, before any reset.
        actions: [T, B, ...], as the environments executed them.
        rewards: [T, B] float32.
        terminated, truncated: [T, B] bool.
        valid: [T, B] bool, False where the row is no transition; a window begins with one that is.
        extras: the replay's further fields by name, [T, B, ...].
    """

    obs: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def with_float_obs(self, byte_range: int) -> Sequences:
        """The same with observations as networks take them: float32, bytes divided by their range."""
        obs = self.obs.float()
        return replace(self, obs=obs / byte_range if self.obs.dtype == torch.uint8 else obs)


class SequenceReplay:
    """A ring of rows [capacity / num_envs, num_envs]; every step of the environments adds one row.

    An observation is stored once: what followed a transition is the observation of the next row, the last one
    of an episode too, which stands in the row that resets the environment and is no transition. A transition
    can therefore be drawn once the next row is there.

    Args:
        capacity: transitions to keep, over all environments.
        num_envs: N.
        obs: shape and dtype of one observation.
        action: shape and dtype of one action.
        extras: further fields per row by name (what the policy drew, its log-probability, ...), as shape and
            dtype.
        seed: of the generator that draws.
        device: where the rows live.

    Raises:
        SettingError: capacity leaves fewer than two rows.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        *,
        obs: Field,
        action: Field,
        extras: Mapping[str, Field] | None = None,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        rows = capacity // num_envs
        if rows < 2:
            raise SettingError(
                f"replay_size must hold at least two rows of {num_envs} environments, got {capacity} "
                "transitions"
            )
        self.num_envs = num_envs
        self.extras = tuple(extras or ())
        self.device = torch.device(device)
        self.storage = SequenceStorage(_fields(obs, action, extras), rows, num_envs, self.device)
        self.index = SequenceIndex(rows, num_envs, seed)

    @staticmethod
    def nbytes_of(
        capacity: int,
        num_envs: int,
        *,
        obs: Field,
        action: Field,
        extras: Mapping[str, Field] | None = None,
    ) -> int:
        """The memory that a replay of these sizes takes, in bytes."""
        fields = _fields(obs, action, extras)
        return SequenceStorage.nbytes_of(fields, max(capacity // num_envs, 1), num_envs)

    def __len__(self) -> int:
        """Transitions that are stored."""
        return len(self.index)

    @property
    def write_position(self) -> int:
        """The row that is written next."""
        return self.index.write_position

    def add(
        self,
        *,
        obs: Tensor,
        actions: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        valid: Tensor,
        **extras: Tensor,
    ) -> None:
        """Store one row of all environments, over the oldest if the ring is full; arguments are [N, ...].

        Args:
            obs: observations before the step; on a row that resets an environment the last one of its
                episode.
            actions, rewards, terminated, truncated: see `Sequences`.
            valid: False where the row is no transition.
            extras: the further fields, every one of them.
        """
        row = {
            "obs": obs,
            "actions": actions,
            "rewards": rewards,
            "terminated": terminated,
            "truncated": truncated,
            "valid": valid,
            **extras,
        }
        self.storage.write(self.index.write_position, row)
        self.index.append(valid.cpu())

    def can_sample(self, seq_len: int) -> bool:
        """Whether there is a window of so many transitions."""
        return self.index.num_windows(seq_len + 1) > 0

    def sample(self, batch_size: int, seq_len: int) -> Sequences:
        """Draw windows with replacement, uniformly among all that are stored.

        Args:
            batch_size: B.
            seq_len: T, transitions of a window.

        Raises:
            ValueError: there is no window of that length; the message says how many rows there are.
        """
        start, env = self.index.sample(batch_size, seq_len + 1)
        rows = self.storage.gather(start, env, seq_len + 1)
        obs = rows.pop("obs")  # [T+1, B, ...]
        extras = {name: rows.pop(name)[:seq_len] for name in self.extras}
        return Sequences(obs=obs, extras=extras, **{name: value[:seq_len] for name, value in rows.items()})

    def state_dict(self) -> dict[str, Any]:
        """Every stored row, the ring's bookkeeping and the generator that draws."""
        stored = self.index.rows
        return {
            "index": self.index.state_dict(),
            "rows": {name: view[:stored].clone() for name, view in self.storage.fields.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict` for a replay of the same sizes.

        Raises:
            ValueError: it is none; the message names the field.
        """
        self.index.load_state_dict(state["index"])
        for name, view in self.storage.fields.items():
            saved, place = state["rows"].get(name), view[: self.index.rows]
            if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (place.shape, place.dtype):
                raise ValueError(
                    f"the replay's {name!r} must be a {place.dtype} tensor of shape {list(place.shape)}"
                )
            place.copy_(saved)


def fields_of(env: VectorEnv) -> dict[str, Field]:
    """`obs` and `action` of a replay for these environments: vectors, in bytes where observations are bytes.

    Actions are vectors where they are continuous or have several branches, numbers where they are discrete.
    """
    dtype = torch.uint8 if env.obs_dtype == torch.uint8 else torch.float32
    numbers = torch.float32 if env.action.kind == "continuous" else torch.int64
    action: Field = (tuple(env.action.shape), numbers)
    return {"obs": ((math.prod(env.obs_shape),), dtype), "action": action}


def make_replay(
    env: VectorEnv,
    capacity: int,
    extras: Mapping[str, Field] | None = None,
    *,
    window: int,
    copies: int = 0,
    seed: int,
    device: torch.device,
) -> tuple[SequenceReplay, str]:
    """A replay for these environments, once its memory has been held against the machine's.

    Args:
        extras: further fields, see `SequenceReplay`.
        window: transitions of the windows that will be drawn.
        copies: of the replay that will be made besides, for checkpoints.

    Returns:
        (the replay, what it takes in words).

    Raises:
        SettingError: capacity holds no such window, or is larger than the machine's memory.
    """
    if capacity // env.num_envs < window + 1:
        raise SettingError(
            f"replay_size must hold at least {window + 1} rows of {env.num_envs} environments, "
            f"for windows of {window} transitions, got {capacity}"
        )
    fields: dict[str, Any] = {**fields_of(env), "extras": extras}
    wanted = SequenceReplay.nbytes_of(capacity, env.num_envs, **fields)
    parts = {"replay": wanted} | ({"its copies in a checkpoint": copies * wanted} if copies else {})
    words = require_memory(parts, "replay_size", device=str(device))
    return SequenceReplay(capacity, env.num_envs, **fields, seed=seed, device=device), words


def _fields(obs: Field, action: Field, extras: Mapping[str, Field] | None) -> dict[str, Field]:
    number, flag = ((), torch.float32), ((), torch.bool)
    return {
        "obs": obs,
        "actions": action,
        **(extras or {}),
        "rewards": number,
        "terminated": flag,
        "truncated": flag,
        "valid": flag,
    }
