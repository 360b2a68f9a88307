"""V-MPO on vector environments: collect T steps of N environments, estimate, learn, repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from fastrl.data.collector import Collector
from fastrl.data.rollout import Field, Rollout
from fastrl.envs import VectorEnv
from fastrl.machine import require_memory
from fastrl.memory.collect import RememberingCollector
from fastrl.memory.make import make_actor, make_agent, make_memory
from fastrl.nn.action_heads import Policy, categorical, policy_parameters
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.encoders import as_vectors
from fastrl.nn.layers import count_parameters
from fastrl.nn.normalizer import RewardScaler
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import without_autocast
from fastrl.runs.config import Unsaid
from fastrl.runs.evaluation import Actor, MemorylessActor
from fastrl.runs.state_check import Maybe
from fastrl.runs.trainer import Trainer
from fastrl.runs.trainer_state import rollout_outline
from fastrl.trainers.vmpo import compat
from fastrl.trainers.vmpo.batch import VMPORows, VMPOSegments
from fastrl.trainers.vmpo.compat import (
    _apply_obs_rms_stats,
    _collect_vector_obs_rms_stats,
    _evaluate_vectorized,
    _extract_episode_returns,
    _extract_final_observations,
    _find_wrapper,
    _format_metrics,
    _iter_final_info_entries,
    _make_env,
    _merge_obs_rms_stats,
    _transform_observation,
    _transform_reward,
)
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.learner import ActionKind, VMPOLearner
from fastrl.trainers.vmpo.networks import DiagonalGaussianPolicy

__all__ = [  # the private ones are documented under this path
    "VMPOTrainer",
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


class VMPOTrainer(Trainer):
    """Train with V-MPO on vector environments; see `fastrl.trainers.vmpo.learner.VMPOLearner`.

    A round collects `num_steps` steps of each of `num_envs` environments with the acting policy, estimates
    advantages, and learns from the valid rows; with "dae" advantages are fitted as the first step of
    learning. Rows that are no transition (the step after a done) never enter a loss or a statistic; truncated
    episodes bootstrap from their real last observation. Observation statistics stand still while a rollout is
    collected and learned from, and take in its observations once, afterwards.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        seed: seeds torch, numpy, environments and sampling.
        device: where networks and rollouts live.
        rollout_steps: T, steps per environment and round; `num_steps` of the configuration.
        num_envs: N.
        policy_layer_sizes, value_layer_sizes, normalize_advantages, gamma, advantage_estimator, gae_lambda,
        policy_lr, value_lr, topk_fraction, temperature_init, temperature_lr, epsilon_eta, epsilon_mu,
        epsilon_sigma, alpha_lr, max_grad_norm, optimizer_type, sgd_momentum: as for `VMPOAgent`.
        settings: further settings by their names in `VMPOConfig`.

    Attributes:
        learner: networks, multipliers and optimisers.
        rollout: the present rollout [T, N].
        segments: what was estimated of it; None before the first.
        rows: its valid rows, with advantages; None before the first.

    Raises:
        SettingError: a setting is out of range or does not fit the environment's spaces; the message names
            it.
    """

    algorithm = "vmpo"

    def __init__(
        self,
        env_id: str | gym.Env | VectorEnv | Callable[[], Any],
        seed: int,
        device: torch.device,
        policy_layer_sizes: tuple[int, ...],
        value_layer_sizes: tuple[int, ...],
        rollout_steps: int,
        normalize_advantages: bool = True,
        gamma: float = 0.99,
        advantage_estimator: str = "returns",
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
        num_envs: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(
            VMPOConfig.documented(
                env_id=env_id,
                seed=seed,
                device=str(device),
                policy_layer_sizes=policy_layer_sizes,
                value_layer_sizes=value_layer_sizes,
                num_steps=rollout_steps,
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
                num_envs=num_envs,
                **settings,
            )
        )

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        config = self.config
        obs_dim, act_dim, _ = _spaces(self.env)
        self.learner: VMPOLearner = self.make_learner()
        self.reward_scaler = None
        if config.normalize_reward:
            scaler = RewardScaler(self.env.num_envs, gamma=config.gamma, clip=config.clip_reward)
            self.reward_scaler = scaler.to(self.device)
        self.segments: VMPOSegments | None = None
        self.rows: VMPORows | None = None
        self.collected = self._make_remembering() if config.memory != "none" else None
        if self.collected is not None:
            self.rollout, self._memory = self.collected.rollout, self.collected.sizes
            return
        self.rollout = self._make_rollout(obs_dim, act_dim)
        self.collector = Collector(
            self.env, self.rollout, view=as_vectors, count=self.count, stopwatch=self.stopwatch
        )
        self.collector.restart()

    def make_learner(self) -> VMPOLearner:
        """See `Trainer.make_learner`."""
        obs_dim, act_dim, kind = _spaces(self.env)
        config, env, agent = self.config, self.env, None
        if config.memory != "none":
            longest = config.longest_episode(env) if config.memory == "trxl" else None
            agent = make_agent(config, env.obs_shape, env.obs_dtype, env.action, longest)
        nvec = env.action.nvec if kind == "multi_discrete" else ()
        mask_size = env.action.mask_size
        return VMPOLearner(config, obs_dim, act_dim, self.device, kind, agent, nvec, mask_size)

    def _make_remembering(self) -> RememberingCollector:
        """Rollout and memory of a policy that remembers."""
        config, env = self.config, self.env
        width = (env.action.dim, 2) if env.action.kind == "continuous" else (sum(env.action.nvec),)
        return RememberingCollector(
            env,
            make_memory(config, self.learner.acting_policy, env.num_envs, env.action, self.device),
            config.num_steps,
            extras={"acted": (width, torch.float32)},
            keep=lambda policy, actions: {"acted": policy_parameters(policy)},
            count=self.count,
            stopwatch=self.stopwatch,
            settings="num_envs, num_steps or the sizes of memory",
        )

    def _make_rollout(self, obs_dim: int, act_dim: int) -> Rollout:
        per_action: Field = ((act_dim,), torch.float32)
        discrete = self.learner.discrete
        sizes = (self.config.num_steps, self.env.num_envs)
        fields: dict[str, Any] = {
            "obs": ((obs_dim,), torch.float32),
            "action": (self.env.action.shape, torch.int64) if discrete else per_action,
            "extras": {"logits" if discrete else "means": per_action},
        }
        wanted = Rollout(*sizes, **fields, device="meta").nbytes  # counted without being taken
        self._memory = require_memory({"rollout": wanted}, "num_envs or num_steps", device=str(self.device))
        return Rollout(*sizes, **fields, device=self.device)

    # -------------------------------------------------------------------------------- one round

    def train(
        self,
        total_steps: int,
        out_dir: str | PathLike[str] | None = None,
        updates_per_step: int = Unsaid(1),
    ) -> None:
        """Train, write the run folder, evaluate at the end.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/; None: as
                `Trainer.run` chooses it.
            updates_per_step: updates of the learner per full rollout, ≥ 1; left out: the configuration's.
        """
        if not isinstance(updates_per_step, Unsaid):
            config = replace(self.config, updates_per_step=updates_per_step)
            config.check()
            self.config = self.learner.config = config
        self.run(total_steps, out_dir)

    @without_autocast
    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        if self.collected is not None:
            self.collected.memory.follow(self.learner.acting_policy)
            return self.collected.fill(self.stop_requested)
        return self.collector.fill(self._act_for_rollout, stop=self.stop_requested)

    def _act_for_rollout(self, obs: Tensor) -> Mapping[str, Tensor]:
        """Actions [N, ...] and the parameters of the policy that draws them."""
        distribution = self.learner.acting_policy.distribution(obs)
        actions = distribution.sample()
        if isinstance(distribution, DiagonalGaussian):
            return {"actions": actions, "means": distribution.mean}
        return {"actions": actions, "logits": policy_parameters(distribution)}

    @torch.no_grad()
    def estimate(self) -> None:
        """Rewards as the learner sees them, values, advantages and returns.

        With "dae" `learn` fits the last two.
        """
        rollout = self.rollout
        rewards = rollout.rewards
        if self.reward_scaler is not None:
            self.reward_scaler.update(rewards, rollout.terminated | rollout.truncated, rollout.valid)
            rewards = self.reward_scaler(rewards)
        self.segments = VMPOSegments(
            obs=rollout.obs[:-1],
            actions=rollout.actions,
            acted=self._policy_that_acted(),
            rewards=rewards,
            values=self._values(),  # [T+1, N]
            terminated=rollout.terminated,
            truncated=rollout.truncated,
            valid=rollout.valid,
        )
        if self.config.advantage_estimator != "dae":
            self.rows = self._rows(*self.learner.estimate(self.segments))

    def _values(self) -> Tensor:
        """V over the rollout and of what followed it, [T+1, N]."""
        return self.learner.values_of(self.rollout.obs) if self.collected is None else self.collected.values()

    def _policy_that_acted(self) -> Policy:
        """π_old over the rollout, [T, N]."""
        if self.collected is not None:
            acted = self.rollout.extras["acted"]
            if self.learner.discrete:
                return categorical(acted, self.learner.nvec)
            return DiagonalGaussian(*acted.unbind(-1))
        if self.learner.discrete:
            return categorical(self.rollout.extras["logits"], self.learner.nvec)
        policy = self.learner.acting_policy
        assert isinstance(policy, DiagonalGaussianPolicy)
        log_std = policy.policy_logstd.detach().clone()  # [1, A]; the update moves the parameter itself
        return DiagonalGaussian(self.rollout.extras["means"], log_std)

    def _rows(self, advantages: Tensor, returns: Tensor) -> VMPORows:
        assert self.segments is not None
        unmoved = self.learner.acting_policy is self.learner.policy
        rows = self.segments.rows(advantages, returns, unmoved=unmoved)
        return rows if self.collected is None else replace(rows, reader=self.collected.reader())

    def learn(self) -> Mapping[str, Tensor]:
        """Update the policy `updates_per_step` times on the rollout's valid rows.

        With "dae" advantages and values are fitted first; then the observations enter the statistics.
        """
        assert self.segments is not None
        metrics: dict[str, Tensor] = {}
        if self.config.advantage_estimator == "dae":
            with self.stopwatch("fitting"):
                advantages, returns, metrics = self.learner.fit_advantages(self.segments)
            self.rows = self._rows(advantages, returns)
        rows = self.rows
        assert rows is not None
        if len(rows) == 0:
            return {}  # every row of a very short rollout can be a reset row
        for update in range(self.config.updates_per_step):
            learned = self.learner.learn(rows if update == 0 else replace(rows, unmoved=False))
            self.updates += 1
        normalizer = self.learner.policy.obs_normalizer
        if self.config.normalize_observation and normalizer is not None:
            normalizer.update(rows.obs)
        return learned | metrics

    def actor(self, num_envs: int) -> Actor:
        """The acting policy, with nothing remembered."""
        if self.config.memory == "none":
            return MemorylessActor(self._act)
        learner, action = self.learner, self.env.action
        return make_actor(self.config, learner.acting_policy, num_envs, action, self.device)

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("VMPOTrainer", obs, self.env.obs_shape, self.device)
        return self.learner.act(as_vectors(rows), deterministic)

    def describe(self) -> str:
        """Environments, threads and the memory of the rollout."""
        parameters = count_parameters(self.learner.policy, self.learner.advantage_network)
        return (
            f"V-MPO on {self.env.name}: {self.env.num_envs} environments × {self.config.num_steps} steps per "
            f"rollout, {parameters:,} parameters; {self._memory}; {self.threads}"
        )

    # ------------------------------------------------------------------------------------ state

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, reward statistics, and a half-collected rollout."""
        scaler = None if self.reward_scaler is None else self.reward_scaler.state_dict()
        if self.collected is not None:
            return {**self.collected.state_dict(), "reward_scaler": scaler}
        return {"collector": self.collector.state_dict(), "reward_scaler": scaler}

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`; a rollout may be half collected or not."""
        state = self.trainer_state()
        if self.collected is not None:
            return state | self.collected.outline()
        state["collector"]["rollout"] = Maybe(rollout_outline(self.rollout, self.env.action))
        return state

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
            if not environments_continue:
                self.reward_scaler.running_return.zero_()
        if self.collected is not None:
            self.collected.load_state_dict(state, self.env, continues=environments_continue)
            return
        self.collector.env = self.env
        if environments_continue:
            self.collector.load_state_dict(state["collector"])
        else:
            self.collector.restart()

    # ----------------------------------------------------------------------- documented helpers

    @property
    def agent(self) -> compat.VMPOAgent:
        """The learner with numpy in and out."""
        return compat.VMPOAgent.of(self.learner)

    _make_train_env = compat._make_train_env
    _reset_rollout = compat._reset_rollout
    _rollout_full = compat._rollout_full


def _spaces(env: VectorEnv) -> tuple[int, int, ActionKind]:
    """(features of a flat observation, action dimensions or number of actions, kind of action) that V-MPO's
    networks need; of several branches the sum of their choices."""
    obs_dim = int(np.prod(env.obs_shape))
    if env.action.kind == "continuous":
        return obs_dim, env.action.dim, "continuous"
    return obs_dim, sum(env.action.nvec), env.action.kind
