"""What a replay is fed with: rows of all environments, or transitions of a loop of one's own; numbers that
overflow are refused."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastrl.data.replay import SequenceReplay
from fastrl.envs import Timestep
from fastrl.errors import SettingError
from fastrl.nn.encoders import as_vectors
from fastrl.runs.trainer import Trainer

if TYPE_CHECKING:
    from tensordict import TensorDict

LARGEST_NUMBER = 1e15  # of observations and rewards; what is larger overflows once it is squared and summed
WARNED_EVERY = 1_000  # refused transitions between two warnings


class StoringTrainer(Trainer):
    """A trainer with a replay: how transitions get into it, and sequences out of it."""

    agent: Any
    replay: SequenceReplay
    obs: Tensor
    obs_dim: int
    refused: int
    _breaks_next: Tensor  # environments whose next transition begins with what cannot be used, bool [N]
    _following: Tensor | None  # observation behind the last transition of `_add_transition`, [1, obs_dim]
    _sequence_broken: bool  # by a refused one
    _offsets: dict[int, Tensor]

    @property
    def replay_size(self) -> int:
        """Transitions that are stored."""
        return len(self.replay)

    @property
    def replay_ptr(self) -> int:
        """The row of the replay that is written next."""
        return self.replay.write_position

    def _stored(self, obs: Tensor) -> Tensor:
        """Observations as networks get them in the form of the replay, which holds bytes as bytes."""
        dtype = self.replay.storage["obs"].dtype
        return (obs * self.agent.byte_range).round().to(dtype) if dtype == torch.uint8 else obs.to(dtype)

    def _seen_by_networks(self, obs: np.ndarray) -> Tensor:
        """One observation given by hand, [1, obs_dim]."""
        row = self._as_cpu_float_tensor(obs, (1, self.obs_dim))
        return row / self.agent.byte_range if np.asarray(obs).dtype == np.uint8 else row

    def _begin(self) -> Tensor:
        """Reset all environments; a first observation that cannot be used breaks the first transition
        only."""
        obs = as_vectors(self.env.reset())
        self._breaks_next = ~usable(obs).all(1)
        return harmless(obs)

    # ---------------------------------------------------------------------- rows of all environments

    def _store(self, executed: Tensor, raw: Tensor, logp: Tensor, timestep: Timestep) -> None:
        """Store the row; a transition with a number that is too large to be squared is none and is not
        stored."""
        next_obs, reward, valid = as_vectors(timestep.obs), timestep.reward, timestep.valid
        terminated, truncated = timestep.terminated, timestep.truncated
        total = next_obs.abs().sum() + reward.abs().sum() + logp.abs().sum()
        if not bool(total <= LARGEST_NUMBER) or bool(self._breaks_next.any()):
            ends_well = usable(next_obs).all(1)
            good = ends_well & usable(reward) & usable(logp) & ~self._breaks_next.to(ends_well.device)
            if bool((valid & ~good).any()):
                self._refuse(int((valid & ~good).sum()))
            self._breaks_next = ~ends_well  # the next row begins with what cannot be used
            valid = valid & good
            reward, logp, next_obs = (harmless(each) for each in (reward, logp, next_obs))
            terminated, truncated = terminated & valid, truncated & valid
        self.replay.add(
            obs=self._stored(self.obs),
            actions=executed,
            raw_actions=raw,
            behaviour_logp=logp,
            rewards=reward,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
        )
        self.obs = next_obs

    def _break_sequences(self) -> None:
        """A row without transitions behind the newest one: new episodes are not what followed it."""
        rows = {name: torch.zeros_like(view[0]) for name, view in self.replay.storage.fields.items()}
        rows["obs"] += self._stored(self.obs if self._following is None else self._following)
        self.replay.add(**rows)
        self._following = None

    # ------------------------------------------------------------------------------- storing by hand

    @staticmethod
    def _as_cpu_float_tensor(value: np.ndarray | float, shape: tuple[int, ...]) -> Tensor:
        """A value as a float32 tensor of this shape, on the CPU."""
        return torch.as_tensor(np.asarray(value, np.float32)).reshape(shape)

    @staticmethod
    def _is_finite_value(value: np.ndarray | float) -> bool:
        """Whether every number is finite."""
        return bool(np.isfinite(value).all())

    def _add_transition(
        self,
        obs: np.ndarray,
        action_exec: np.ndarray,
        action_raw: np.ndarray,
        behaviour_logp: float,
        reward: float,
        next_obs: np.ndarray,
        done: float,
    ) -> bool:
        """Store one transition of a loop of one's own, for a trainer of a single environment.

        What follows it is stored with it, so the next transition may begin anywhere: a sequence goes on where
        it begins with this one's `next_obs`, and is broken where it does not.

        Args:
            obs, next_obs: [obs_dim] before and after the step; of bytes as np.uint8, or over their range as
                the agent gets them.
            action_exec, action_raw: as executed and as drawn, [A], both in policy units; or a number of
                discrete ones.
            behaviour_logp: log-probability of the raw action, in nats.
            reward: of the step.
            done: 1 if the episode terminated, else 0.

        Returns:
            False if something is not finite: the transition is refused, counted in `refused` and warned of,
                and breaks the sequence.

        Raises:
            SettingError: the trainer has several environments.
        """
        if self.env.num_envs != 1:
            raise SettingError(
                f"_add_transition is for a trainer with num_envs = 1, this one has {self.env.num_envs}"
            )
        if not all(
            self._is_finite_value(value)
            for value in (obs, action_exec, action_raw, behaviour_logp, reward, next_obs, done)
        ):
            self._refuse(1)
            self._sequence_broken = True
            return False
        first, following = (self._seen_by_networks(value) for value in (obs, next_obs))
        expected = self.obs if self._following is None else self._following
        if self.replay.index.rows and (self._sequence_broken or not torch.equal(expected.cpu(), first)):
            self._store_row(expected, valid=False)  # what followed the transition before
        self._store_row(first, action_exec, action_raw, behaviour_logp, reward, done > 0, valid=True)
        self._following, self._sequence_broken = following, False
        return True

    def _store_row(
        self,
        obs: Tensor,
        action: Any = 0.0,
        raw_action: Any = 0.0,
        logp: float = 0.0,
        reward: float = 0.0,
        terminated: bool = False,
        *,
        valid: bool,
    ) -> None:
        view = self.replay.storage["actions"]

        def as_action(value: Any) -> Tensor:
            return torch.as_tensor(np.broadcast_to(np.asarray(value), view.shape[1:]).copy()).to(view.dtype)

        row = {
            "obs": self._stored(obs),
            "actions": as_action(action),
            "raw_actions": as_action(raw_action),
            "behaviour_logp": torch.tensor([float(logp)]),
            "rewards": torch.tensor([float(reward)]),
            "terminated": torch.tensor([bool(terminated)]),
            "truncated": torch.tensor([False]),
            "valid": torch.tensor([valid]),
        }
        self.replay.add(**{name: value.to(self.device) for name, value in row.items()})

    def _refuse(self, count: int) -> None:
        """Count refused transitions; warn of the first and then rarely."""
        before, self.refused = self.refused, self.refused + count
        if before == 0 or before // WARNED_EVERY != self.refused // WARNED_EVERY:
            what = "transitions that are not finite, or too large to be squared,"
            warnings.warn(
                f"MPO: {self.refused} {what} have been refused so far", RuntimeWarning, stacklevel=3
            )

    def _get_sequence_offsets(self, seq_len: int) -> Tensor:
        """0 … seq_len − 1, int64 [seq_len], made once for each length."""
        if seq_len not in self._offsets:
            self._offsets[seq_len] = torch.arange(seq_len)
        return self._offsets[seq_len]

    def _sample_sequences(self, batch_size: int, seq_len: int) -> TensorDict:
        """Windows of consecutive transitions of one environment, drawn uniformly, never across the write
        position.

        Args:
            batch_size: B.
            seq_len: T.

        Returns:
            A TensorDict of batch size [B, T] with `obs`, `next_obs`, `actions_exec`, `actions_raw`,
            `behaviour_logp`, `rewards`, `dones` (terminated or truncated), `terminated`, `truncated` and
            `valid`.

        Raises:
            ValueError: fewer transitions are stored than windows are asked for, or no window of that length.
        """
        from tensordict import TensorDict

        if batch_size > len(self.replay):
            raise ValueError(
                f"_sample_sequences: batch_size must be at most the {len(self.replay)} transitions stored, "
                f"got {batch_size}"
            )
        batch = self.replay.sample(batch_size, seq_len)
        fields = {
            "obs": batch.obs[:-1],
            "next_obs": batch.obs[1:],
            "actions_exec": batch.actions,
            "actions_raw": batch.raw_actions,
            "behaviour_logp": batch.behaviour_logp,
            "rewards": batch.rewards,
            "dones": batch.terminated | batch.truncated,
            "terminated": batch.terminated,
            "truncated": batch.truncated,
            "valid": batch.valid,
        }
        return TensorDict(
            {name: value.transpose(0, 1) for name, value in fields.items()}, batch_size=[batch_size, seq_len]
        )


def usable(values: Tensor) -> Tensor:
    """Where numbers are finite and not too large."""
    return values.abs() <= LARGEST_NUMBER


def harmless(values: Tensor) -> Tensor:
    """0 instead of what is not usable."""
    return torch.where(usable(values), values, 0.0)
