"""Documented spellings of MPO: agent, replay by hand, and helpers for Gymnasium's environments.

`fastrl.trainers.mpo.agent` and `fastrl.trainers.mpo.trainer` give them out under their documented paths. The
functions with a `trainer` argument are methods of `MPOTrainer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from fastrl.data.feed import seen
from fastrl.data.replay import Sequences
from fastrl.envs import make_vector_env
from fastrl.envs.toolkit import wrappers
from fastrl.errors import SettingError
from fastrl.nn.distributions import Distribution
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy
from fastrl.runs.metrics import _format_metrics
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.learner import MPOLearner
from fastrl.trainers.mpo.networks import Policy

if TYPE_CHECKING:
    from tensordict import TensorDict

    from fastrl.trainers.mpo.trainer import MPOTrainer

__all__ = ["MPOAgent", "_evaluate_vectorized", "_format_metrics", "_make_env", "_to_device_tensor"]


class MPOAgent:
    """The MPO learner with numpy in and out, for loops of one's own; see `MPOLearner` for the algorithm.

    Args:
        obs_dim, act_dim, device, config, action_low, action_high, byte_range: as for `MPOLearner`.

    Attributes:
        learner: the networks, multipliers and optimisers.

    Raises:
        SettingError: a setting is out of range; the message names it.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        device: torch.device,
        *,
        config: MPOConfig,
        action_low: Tensor | None = None,
        action_high: Tensor | None = None,
        byte_range: int = 255,
    ) -> None:
        require_float32_default()
        config.check()
        for name, size in (("obs_dim", obs_dim), ("act_dim", act_dim)):
            if size < 1:
                raise SettingError(f"{name} must be at least 1, got {size}")
        bounds: dict[str, Any] = {"action_low": action_low, "action_high": action_high}
        self.learner = MPOLearner(config, obs_dim, act_dim, device, **bounds, byte_range=byte_range)

    @classmethod
    def of(cls, learner: MPOLearner) -> Self:
        """The agent around a learner that is there, a trainer's for instance."""
        agent = cls.__new__(cls)
        agent.learner = learner
        return agent

    def act(self, obs: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Actions as environments execute them; see `act_with_logp`."""
        return self.act_with_logp(obs, deterministic)[0]

    @without_autocast
    @torch.no_grad()
    def act_with_logp(
        self, obs: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose actions.

        Args:
            obs: one observation [obs_dim] or a batch [B, obs_dim].
            deterministic: the mode instead of a sample.

        Returns:
            (executed action, raw action, log-probability of the raw action in nats) as numpy, with the batch
            dimension only if obs has it. Both actions are in policy units; the executed one is clipped to the
            bounds.

        Raises:
            ValueError: obs has another shape.
        """
        learner = self.learner
        rows, single = as_rows("MPOAgent.act_with_logp", obs, (learner.obs_dim,), learner.device)
        policy: Distribution = learner.policy(rows.float())
        raw = policy.mode() if deterministic else policy.sample()
        results = [value.cpu().numpy() for value in (learner.executed(raw), raw, policy.log_prob(raw))]
        executed, drawn, logp = (value[0] if single else value for value in results)
        return executed, drawn, logp

    @property
    def policy(self) -> Policy:
        """The network that acts."""
        return self.learner.policy

    def learn(self, batch: Sequences, m_steps: int = 1) -> dict[str, Tensor]:
        """See `MPOLearner.learn`."""
        return self.learner.learn(batch, m_steps)

    def update(self, batch: Sequences, m_steps: int = 1) -> dict[str, float]:
        """One update from replayed windows; see `MPOLearner.learn`. Returns metrics as floats."""
        return {name: float(value) for name, value in self.learner.learn(batch, m_steps).items()}

    def state_dict(self) -> dict[str, Any]:
        """See `MPOLearner.state_dict`."""
        return self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `MPOLearner.load_state_dict`."""
        self.learner.load_state_dict(state)


def actor_of(learner: MPOLearner, obs_shape: tuple[int, ...]) -> MemorylessActor:
    """The policy, which remembers nothing; as in training it sees 0 for what is too large."""

    def act(obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("MPO's actor", obs, obs_shape, learner.device)
        return learner.act(seen(rows), deterministic)

    return MemorylessActor(act)


def _evaluate_vectorized(
    agent: MPOAgent, eval_envs: gym.vector.VectorEnv, seed: int = 42
) -> dict[str, float]:
    """One deterministic episode in each environment, all side by side.

    Args:
        agent: acts with its mode.
        eval_envs: N environments; they stay open.
        seed: seed of their reset.

    Returns:
        `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean` over N
        episodes.
    """
    env = make_vector_env(eval_envs, eval_envs.num_envs, seed=seed, device=agent.learner.device)
    metrics = evaluate_policy(actor_of(agent.learner, env.obs_shape), env, env.num_envs)
    assert metrics is not None  # nothing interrupts it
    return metrics


def _make_env(env_id: str, *, seed: int | None = None) -> gym.Env:
    """One Gymnasium environment, seeded, observations flattened, episode statistics recorded;
    `dm_control/<domain>/<task>` names too.

    Actions are in its own units (see `fastrl.envs.ActionScale`).

    Raises:
        SettingError: there is no such environment, or a package it needs is missing.
    """
    return wrappers._make_env(env_id, seed=seed, normalize_observation=False, normalize_reward=False)


def _to_device_tensor(value: np.ndarray, device: torch.device) -> Tensor:
    """An array as a float32 tensor on the device."""
    return torch.as_tensor(value, dtype=torch.float32).to(device)


# ------------------------------------------------------------------------------ methods of MPOTrainer


def _as_cpu_float_tensor(value: np.ndarray | float, shape: tuple[int, ...]) -> Tensor:
    """A value as a float32 tensor of this shape, on the CPU."""
    return torch.as_tensor(np.asarray(value, np.float32)).reshape(shape)


def _is_finite_value(value: np.ndarray | float) -> bool:
    """Whether every number is finite."""
    return bool(np.isfinite(value).all())


def _add_transition(
    trainer: MPOTrainer,
    obs: np.ndarray,
    action_exec: np.ndarray,
    action_raw: np.ndarray,
    behaviour_logp: float,
    reward: float,
    next_obs: np.ndarray,
    done: float,
) -> bool:
    """Store one transition of a loop of one's own, for a trainer of a single environment; see
    `Feed.add_transition`.

    Args:
        obs, next_obs: [obs_dim] before and after the step; of bytes as np.uint8, or over their range as the
            agent gets them.
        action_exec, action_raw: as executed and as drawn, [A], both in policy units; or a number of discrete
            ones.
        behaviour_logp: log-probability of the raw action, in nats.
        reward: of the step.
        done: 1 if the episode terminated, else 0.

    Returns:
        False if something is not finite: the transition is refused, counted and warned of, and breaks the
        sequence.

    Raises:
        SettingError: the trainer has several environments.
    """
    if trainer.env.num_envs != 1:
        raise SettingError(
            f"_add_transition is for a trainer with num_envs = 1, this one has {trainer.env.num_envs}"
        )
    return trainer.feed.add_transition(
        obs,
        next_obs,
        actions=action_exec,
        raw_actions=action_raw,
        behaviour_logp=behaviour_logp,
        rewards=reward,
        terminated=done,
    )


def _get_sequence_offsets(trainer: MPOTrainer, seq_len: int) -> Tensor:
    """0 … seq_len − 1, int64 [seq_len], made once for each length."""
    offsets: dict[int, Tensor] = trainer.__dict__.setdefault("_offsets", {})
    return offsets.setdefault(seq_len, torch.arange(seq_len))


def _sample_sequences(trainer: MPOTrainer, batch_size: int, seq_len: int) -> TensorDict:
    """Windows of consecutive transitions of one environment, drawn uniformly, never across the write
    position.

    Args:
        batch_size: B.
        seq_len: T.

    Returns:
        A TensorDict of batch size [B, T] with `obs`, `next_obs`, `actions_exec`, `actions_raw`,
        `behaviour_logp`, `rewards`, `dones` (terminated or truncated), `terminated`, `truncated` and `valid`.

    Raises:
        ValueError: fewer transitions are stored than windows are asked for, or no window of that length.
    """
    from tensordict import TensorDict

    if batch_size > len(trainer.replay):
        raise ValueError(
            f"_sample_sequences: batch_size must be at most the {len(trainer.replay)} transitions stored, "
            f"got {batch_size}"
        )
    batch = trainer.replay.sample(batch_size, seq_len)
    fields = {
        "obs": batch.obs[:-1],
        "next_obs": batch.obs[1:],
        "actions_exec": batch.actions,
        "actions_raw": batch.extras["raw_actions"],
        "behaviour_logp": batch.extras["behaviour_logp"],
        "rewards": batch.rewards,
        "dones": batch.terminated | batch.truncated,
        "terminated": batch.terminated,
        "truncated": batch.truncated,
        "valid": batch.valid,
    }
    by_window = {name: value.transpose(0, 1) for name, value in fields.items()}
    return TensorDict(by_window, batch_size=[batch_size, seq_len])
