"""Documented spellings of V-MPO: the agent for loops of one's own, and helpers for Gymnasium's environments.

`fastrl.trainers.vmpo.agent` and `fastrl.trainers.vmpo.trainer` give them out under their documented paths.
The functions with a `trainer` argument are methods of `VMPOTrainer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from fastrl.envs import make_vector_env
from fastrl.envs.adapters.final_info import (
    _extract_episode_returns,
    _extract_final_observations,
    _iter_final_info_entries,
)
from fastrl.envs.toolkit.wrappers import _find_wrapper, _make_env, _transform_observation, _transform_reward
from fastrl.errors import SettingError
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.normalizer import merge_moments
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy
from fastrl.runs.metrics import _format_metrics
from fastrl.runs.optimizers import build_optimizer
from fastrl.trainers.vmpo.batch import rows_from_batch
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.learner import ActionKind, VMPOLearner
from fastrl.trainers.vmpo.networks import ActorCritic

if TYPE_CHECKING:
    from fastrl.trainers.vmpo.trainer import VMPOTrainer

__all__ = [
    "VMPOAgent",
    "_apply_obs_rms_stats",
    "_collect_vector_obs_rms_stats",
    "_evaluate_vectorized",
    "_extract_episode_returns",
    "_extract_final_observations",
    "_find_wrapper",
    "_format_metrics",
    "_iter_final_info_entries",
    "_make_env",
    "_merge_obs_rms_stats",
    "_transform_observation",
    "_transform_reward",
]


class VMPOAgent:
    """The V-MPO learner with numpy in and out, for loops of one's own; see `VMPOLearner` for the algorithm.

    Observations come in as they are: nothing updates `policy.obs_normalizer` unless the loop does.

    Args:
        obs_dim: features of an observation.
        act_dim: A, action dimensions, or the number of actions when they are discrete.
        device: where networks and updates live.
        policy_layer_sizes, value_layer_sizes: widths of the hidden tanh layers.
        normalize_advantages: standardise advantages over the valid rows of a batch; those of "dae" are taken
            as they are.
        gamma: discount per environment step, in [0, 1].
        advantage_estimator: "returns", "gae" or "dae".
        gae_lambda: λ of GAE, in [0, 1].
        policy_lr, value_lr: learning rates.
        topk_fraction: share of the rows in D~, in (0, 1].
        temperature_init: η to start from, in real units.
        temperature_lr: learning rate of η.
        epsilon_eta: bound of the E-step's KL, in nats.
        epsilon_mu, epsilon_sigma: bounds of KL_mean (or of the categorical KL) and of KL_cov, in nats, summed
            over action dimensions.
        alpha_lr: learning rate of the KL multipliers.
        max_grad_norm: largest gradient norm, of the policy's and of the value function's parameters
            separately.
        optimizer_type: "adam" (ε = 1e-5; 1e-8 for temperature and multipliers) or "sgd".
        sgd_momentum: momentum of "sgd".
        shared_encoder: one encoder for policy and value function.
        m_steps: gradient steps on the batch per update.
        action_kind: "continuous" or "discrete".
        settings: further settings of the learner by their names in `VMPOConfig`.

    Attributes:
        learner: the networks, multipliers and optimisers.
        policy: π and V, which learn.

    Raises:
        SettingError: a setting is out of range; the message names it.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        device: torch.device,
        policy_layer_sizes: tuple[int, ...] = (256, 256),
        value_layer_sizes: tuple[int, ...] = (256, 256),
        normalize_advantages: bool = True,
        gamma: float = 0.99,
        advantage_estimator: Literal["returns", "dae", "gae"] = "returns",
        gae_lambda: float = 0.95,
        policy_lr: float = 0.0005,
        value_lr: float = 0.001,
        topk_fraction: float = 0.5,
        temperature_init: float = 1.0,
        temperature_lr: float = 0.0001,
        epsilon_eta: float = 0.1,
        epsilon_mu: float = 0.01,
        epsilon_sigma: float = 0.01,
        alpha_lr: float = 0.0001,
        max_grad_norm: float = 10.0,
        optimizer_type: str = "adam",
        sgd_momentum: float = 0.9,
        shared_encoder: bool = False,
        m_steps: int = 1,
        *,
        action_kind: ActionKind = "continuous",
        **settings: Any,
    ) -> None:
        require_float32_default()
        config = VMPOConfig.documented(
            env_id="",
            device=str(device),
            policy_layer_sizes=policy_layer_sizes,
            value_layer_sizes=value_layer_sizes,
            normalize_advantages=normalize_advantages,
            gamma=gamma,
            advantage_estimator=advantage_estimator,
            gae_lambda=gae_lambda,
            policy_lr=policy_lr,
            value_lr=value_lr,
            topk_fraction=topk_fraction,
            temperature_init=temperature_init,
            temperature_lr=temperature_lr,
            epsilon_eta=epsilon_eta,
            epsilon_mu=epsilon_mu,
            epsilon_sigma=epsilon_sigma,
            alpha_lr=alpha_lr,
            max_grad_norm=max_grad_norm,
            optimizer_type=optimizer_type,
            sgd_momentum=sgd_momentum,
            shared_encoder=shared_encoder,
            m_steps=m_steps,
            **{"normalize_observation": False, **settings},
        )
        config.check()
        for name, size in (("obs_dim", obs_dim), ("act_dim", act_dim)):
            if size < 1:
                raise SettingError(f"{name} must be at least 1, got {size}")
        if action_kind not in ("continuous", "discrete"):
            raise SettingError(f'action_kind must be "continuous" or "discrete", got {action_kind!r}')
        self.learner = VMPOLearner(config, obs_dim, act_dim, torch.device(device), action_kind)

    @classmethod
    def of(cls, learner: VMPOLearner) -> Self:
        """The agent around a learner that is there, a trainer's for instance."""
        agent = cls.__new__(cls)
        agent.learner = learner
        return agent

    def _build_optimizer(self, params: Iterable[Any], lr: float | None = None) -> torch.optim.Optimizer:
        """The configured optimiser over `params` with learning rate `lr` (`policy_lr` when None)."""
        config = self.learner.config
        return build_optimizer(config, params, config.policy_lr if lr is None else lr)

    @property
    def policy(self) -> ActorCritic:
        """π and V, which learn."""
        return self.learner.policy

    @without_autocast
    @torch.no_grad()
    def act(
        self, obs: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, float | np.ndarray, np.ndarray, np.ndarray]:
        """Choose actions as the acting policy does.

        Args:
            obs: one observation [obs_dim] or a batch [B, obs_dim], not normalised.
            deterministic: the mode instead of a sample.

        Returns:
            (action, value, mean, log_std) as numpy, with the batch dimension only if obs has it: action [A],
            value a float, mean [A], log_std [A]. Discrete: action is an int64 index, mean the logits [A],
            log_std an empty array [0]. Actions are in policy units, where finite bounds are −1 and 1 (see
            `fastrl.envs.ActionScale`), and not clipped to them.

        Raises:
            ValueError: obs has another shape.
        """
        rows, single = self._rows("act", obs)
        distribution = self.learner.acting_policy.distribution(rows)
        action = distribution.mode() if deterministic else distribution.sample()
        if isinstance(distribution, DiagonalGaussian):
            parameters = (distribution.mean, distribution.log_std.expand_as(distribution.mean))
        else:
            parameters = (distribution.logits, distribution.logits[:, :0])
        # copies: the mode is the mean's own memory, and the log standard deviation the parameter's
        outputs = [
            t.cpu().numpy().copy() for t in (action, self.policy.get_value(rows).squeeze(-1), *parameters)
        ]
        if single:
            return outputs[0][0], float(outputs[1][0]), outputs[2][0], outputs[3][0]
        return outputs[0], outputs[1], outputs[2], outputs[3]

    @without_autocast
    @torch.no_grad()
    def value(self, obs: np.ndarray) -> float | np.ndarray:
        """State value of one observation [obs_dim] (a float) or of a batch [B, obs_dim] (an array [B])."""
        rows, single = self._rows("value", obs)
        values = self.policy.get_value(rows).squeeze(-1).cpu().numpy()
        return float(values[0]) if single else values

    def update(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """One V-MPO update on a batch of visited states.

        Args:
            batch: arrays or tensors by name, M rows each.
                obs [M, obs_dim]; actions [M, A], or [M] int when discrete; returns [M]; advantages [M];
                old_means [M, A] and old_log_stds [M, A] or [1, A] (continuous), or old_logits [M, A]
                (discrete): the policy that acted; optional valid [M] bool, rows that are transitions (others
                are left out before anything is computed); optional importance_weights [M] > 0 for rows that
                yet another policy produced (λ of the E-step).

        Returns:
            Metrics by name, see `VMPOLearner.learn`.

        Raises:
            ValueError: a key is missing or has the wrong shape, or no row is valid.
            NonFiniteError: a loss term or gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        learner = self.learner
        rows = rows_from_batch(
            batch,
            obs_dim=learner.obs_dim,
            act_dim=learner.act_dim,
            discrete=learner.discrete,
            device=learner.device,
        )
        return {name: float(value) for name, value in learner.learn(rows).items()}

    def _rows(self, method: str, obs: Any) -> tuple[Tensor, bool]:
        rows, single = as_rows(f"VMPOAgent.{method}", obs, (self.learner.obs_dim,), self.learner.device)
        return rows.float(), single

    def state_dict(self) -> dict[str, Any]:
        """See `VMPOLearner.state_dict`."""
        return self.learner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `VMPOLearner.load_state_dict`."""
        self.learner.load_state_dict(state)


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


# ----------------------------------------------------------------------------- methods of VMPOTrainer


def _make_train_env(trainer: VMPOTrainer, *, env_id: str, seed: int, env_index: int, gamma: float) -> gym.Env:
    """One Gymnasium environment as training would wrap it, with normalised observations and rewards, seeded
    `seed + env_index`.

    For loops of one's own; the trainer steps vector environments and normalises outside them. Actions are in
    the environment's own units (see `fastrl.envs.ActionScale`).
    """
    return _make_env(env_id, seed=seed + env_index, gamma=gamma)


def _reset_rollout(trainer: VMPOTrainer) -> None:
    """Empty the rollout."""
    trainer.rollout.reset()


def _rollout_full(trainer: VMPOTrainer) -> bool:
    """Whether `num_steps` rows are stored."""
    return trainer.rollout.full
