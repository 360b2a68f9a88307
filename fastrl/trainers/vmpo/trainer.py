"""V-MPO on vector environments: collect T steps of N environments, estimate, update, repeat."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from fastrl.data.rollout import Field, Rollout
from fastrl.envs import VectorEnv
from fastrl.envs.adapters.final_info import (
    _extract_episode_returns,
    _extract_final_observations,
    _iter_final_info_entries,
)
from fastrl.envs.toolkit.wrappers import _find_wrapper, _make_env, _transform_observation, _transform_reward
from fastrl.errors import SettingError
from fastrl.machine import require_memory
from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution
from fastrl.nn.encoders import as_vectors
from fastrl.nn.normalizer import RewardScaler
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import without_autocast
from fastrl.runs.config import Unsaid
from fastrl.runs.evaluation import Actor, MemorylessActor
from fastrl.runs.metrics import _format_metrics
from fastrl.runs.state_check import Maybe
from fastrl.runs.trainer import Trainer
from fastrl.runs.trainer_state import rollout_outline
from fastrl.trainers.vmpo.agent import DiagonalGaussianPolicy, VMPOAgent
from fastrl.trainers.vmpo.batch import Rows
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.direct_advantage import Segments
from fastrl.trainers.vmpo.gymnasium_evaluation import (
    _apply_obs_rms_stats,
    _collect_vector_obs_rms_stats,
    _evaluate_vectorized,
    _merge_obs_rms_stats,
)

__all__ = [
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

ActionKind = Literal["continuous", "discrete"]


class VMPOTrainer(Trainer):
    """Train a V-MPO agent (see `fastrl.trainers.vmpo.agent.VMPOAgent` for the algorithm) on vector
    environments.

    A round collects `rollout_steps` steps of each of `num_envs` environments with the acting policy,
    estimates advantages from the value function, and updates the agent on the valid rows. Rows that are no
    transition (the step after a done) never enter a loss or a statistic; truncated episodes bootstrap from
    their real last observation. Observation statistics stand still while a rollout is collected and learned
    from, and take in its observations once, afterwards.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        seed: seeds torch, numpy, environments and sampling.
        device: where networks and rollouts live.
        policy_layer_sizes, value_layer_sizes, normalize_advantages, gamma, advantage_estimator, gae_lambda,
        policy_lr, value_lr,
            topk_fraction, temperature_init, temperature_lr, epsilon_eta, epsilon_mu, epsilon_sigma, alpha_lr,
            max_grad_norm, optimizer_type, sgd_momentum, m_steps, shared_encoder, alpha_mu_init,
            alpha_sigma_init, target_update_period, initial_log_std,
            kl_stop, dae_epochs, dae_mini_batches, dae_lambda, advantage_lr: as for `VMPOAgent`.
        rollout_steps: T, steps per environment and round.
        num_envs: N.
        normalize_observation: run observations through the running normaliser.
        clip_observation: bound of normalised observations; None leaves them unbounded.
        normalize_reward: learn from rewards over the running standard deviation of the discounted return;
            reported returns are raw.
        clip_reward: bound of scaled rewards; None leaves them unbounded.
        threads, env_threads: threads of torch and of the environments; None chooses (see
            `fastrl.runs.threads`).
        env_timeout: seconds that a step or reset of all environments may take; None: no limit (see
            `fastrl.envs.deadline`).
        obs_keys: which entries of dict observations to use, in this order; None takes all.
        max_episode_steps: overrides the environment's time limit.
        env_kwargs: further arguments of the environment.
        intervals: when to log, evaluate and save.

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
                rollout_steps=rollout_steps,
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
        obs_dim, act_dim, kind = _spaces(self.env)
        learner = {name: value for name, value in config.to_dict().items() if name in _AGENT_SETTINGS}
        self.agent: VMPOAgent = VMPOAgent(obs_dim, act_dim, self.device, action_kind=kind, **learner)
        self.learner = self.agent
        self.agent.policy.obs_normalizer.clip = (
            config.clip_observation if config.normalize_observation else None
        )
        self.reward_scaler = None
        if config.normalize_reward:
            scaler = RewardScaler(self.env.num_envs, gamma=config.gamma, clip=config.clip_reward)
            self.reward_scaler = scaler.to(self.device)
        self.rollout = self._make_rollout(obs_dim, act_dim)
        self.rows: Rows | None = None
        self._fitted: dict[str, Tensor] = {}  # what the last fit of advantages has to say
        self.obs = as_vectors(self.env.reset())

    # ------------------------------------------------------------------------------------------------
    # construction

    def _make_train_env(self, *, env_id: str, seed: int, env_index: int, gamma: float) -> gym.Env:
        """One Gymnasium environment as training would wrap it, with normalised observations and rewards,
        seeded `seed + env_index`.

        For loops of one's own; this trainer steps vector environments and normalises outside them. Actions
        are in the environment's own units (see `fastrl.envs.ActionScale`).
        """
        return _make_env(env_id, seed=seed + env_index, gamma=gamma)

    def _make_rollout(self, obs_dim: int, act_dim: int) -> Rollout:
        per_action: Field = ((act_dim,), torch.float32)
        fields: dict[str, Any] = {
            "obs": ((obs_dim,), torch.float32),
            "action": ((), torch.int64) if self.agent.discrete else per_action,
            "extras": {"logits" if self.agent.discrete else "means": per_action},
        }
        wanted = Rollout(
            self.config.rollout_steps, self.env.num_envs, **fields, device="meta"
        ).nbytes  # counted without being taken
        self._memory = require_memory(
            {"rollout": wanted}, "num_envs or rollout_steps", device=str(self.device)
        )
        return Rollout(self.config.rollout_steps, self.env.num_envs, **fields, device=self.device)

    def _reset_rollout(self) -> None:
        """Empty the rollout."""
        self.rollout.reset()

    def _rollout_full(self) -> bool:
        """Whether `rollout_steps` rows are stored."""
        return self.rollout.full

    # ------------------------------------------------------------------------------------- one round

    def train(self, total_steps: int, out_dir: str, updates_per_step: int = Unsaid(1)) -> None:
        """Train, write the run folder, evaluate at the end.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/.
            updates_per_step: `agent.update` calls per full rollout, ≥ 1; left out: the configuration's.
        """
        if not isinstance(updates_per_step, Unsaid):
            config = replace(self.config, updates_per_step=updates_per_step)
            config.check()
            self.config = config
        self.run(total_steps, out_dir)

    @without_autocast
    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        if self._rollout_full():
            self._reset_rollout()
        with self.env.many_steps():
            while not self._rollout_full():
                if self.stop_requested():
                    return False
                self._step()
        return True

    @torch.inference_mode()
    def _step(self) -> None:
        with self.stopwatch("acting"):
            distribution = self.agent.acting_policy.distribution(self.obs)
            actions = distribution.sample()
        with self.stopwatch("environment"):
            timestep = self.env.step(actions)
        next_obs = as_vectors(timestep.obs)
        acted = (
            {"logits": distribution.logits}
            if isinstance(distribution, Categorical)
            else {"means": distribution.mean}
        )
        self.rollout.append(
            obs=self.obs,
            actions=actions,
            next_obs=next_obs,
            rewards=timestep.reward,
            terminated=timestep.terminated,
            truncated=timestep.truncated,
            valid=timestep.valid,
            **acted,
        )
        self.count(timestep.transitions, self.env.pop_episodes())
        self.obs = next_obs

    @torch.no_grad()
    def estimate(self) -> None:
        """Advantages, returns and the acting policy of the rollout's valid rows."""
        rollout = self.rollout
        rewards = rollout.rewards
        if self.reward_scaler is not None:
            self.reward_scaler.update(rewards, rollout.terminated | rollout.truncated, rollout.valid)
            rewards = self.reward_scaler(rewards)
        values = self.agent.values_of(rollout.obs)  # [T+1, N]
        ends = (rollout.terminated, rollout.truncated, rollout.valid)
        if self.agent.advantage_network is None:
            advantages, returns = self.agent.estimate(rewards, values, *ends)
        else:
            segments = Segments(
                rollout.obs[:-1], rollout.actions, self._acted(lambda field: field), rewards, values, *ends
            )
            with torch.enable_grad():
                advantages, returns, self._fitted = self.agent.fit_advantages(segments)
        take = rollout.valid_rows
        self.rows = Rows(
            obs=take(rollout.obs),
            actions=take(rollout.actions),
            returns=take(returns),
            advantages=take(advantages),
            acted=self._acted(take),
            unmoved=self.agent.acting_policy is self.agent.policy,
        )

    def _acted(self, take: Callable[[Tensor], Tensor]) -> Distribution:
        """The policy that chose the rollout's actions, over what `take` makes of a field [T, N, ...]."""
        if self.agent.discrete:
            return Categorical(take(self.rollout.extras["logits"]))
        means = take(self.rollout.extras["means"])
        policy = self.agent.acting_policy
        assert isinstance(policy, DiagonalGaussianPolicy)
        return DiagonalGaussian(
            means, policy.policy_logstd.detach().clone()
        )  # [1, A]; the update moves the parameter itself

    def learn(self) -> Mapping[str, Tensor]:
        """Update the agent `updates_per_step` times on the estimated rows, then take the rollout's
        observations into the statistics."""
        assert self.rows is not None
        if len(self.rows) == 0:
            return {}  # every row of a very short rollout can be a reset row
        for update in range(self.config.updates_per_step):
            metrics = self.agent.learn(self.rows if update == 0 else replace(self.rows, unmoved=False))
            self.updates += 1
        if self.config.normalize_observation:
            self.agent.policy.obs_normalizer.update(self.rows.obs)
        return metrics | self._fitted

    def actor(self, num_envs: int) -> Actor:
        """The acting policy, which remembers nothing."""
        return MemorylessActor(self._act)

    @without_autocast
    @torch.no_grad()
    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("VMPOTrainer", obs, self.env.obs_shape, self.device)
        distribution = self.agent.acting_policy.distribution(as_vectors(rows))
        return distribution.mode() if deterministic else distribution.sample()

    def describe(self) -> str:
        """Environments, threads and the memory of the rollout."""
        networks = [
            network for network in (self.agent.policy, self.agent.advantage_network) if network is not None
        ]
        parameters = sum(parameter.numel() for network in networks for parameter in network.parameters())
        return (
            f"V-MPO on {self.env.name}: {self.env.num_envs} environments × {self.config.rollout_steps} steps per "
            "rollout, "
            f"{parameters:,} parameters; {self._memory}; {self.threads}"
        )

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, reward statistics, and a half-collected rollout."""
        half_collected = 0 < self.rollout.position < self.config.rollout_steps
        return {
            "obs": self.obs,
            "reward_scaler": None if self.reward_scaler is None else self.reward_scaler.state_dict(),
            "rollout": self.rollout.state_dict() if half_collected else None,
        }

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`; a rollout may be half collected or not."""
        return {**self.trainer_state(), "rollout": Maybe(rollout_outline(self.rollout, self.env.action))}

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        self._reset_rollout()
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
        if environments_continue:
            self.obs = state["obs"].to(self.device)
            if state["rollout"] is not None:
                self.rollout.load_state_dict(state["rollout"])
            return
        self.obs = as_vectors(self.env.reset())
        if self.reward_scaler is not None:
            self.reward_scaler.running_return.zero_()


_AGENT_SETTINGS = frozenset(inspect.signature(VMPOAgent).parameters) - {"device"}


def _spaces(env: VectorEnv) -> tuple[int, int, ActionKind]:
    """(features of a flat observation, action dimensions or number of actions, kind of action) that V-MPO's
    networks need."""
    obs_dim = int(np.prod(env.obs_shape))
    if env.action.kind == "discrete":
        return obs_dim, env.action.num_actions, "discrete"
    if env.action.kind == "continuous":
        return obs_dim, env.action.dim, "continuous"
    raise SettingError(
        f"env_id {env.name!r} has {env.action.kind} actions; V-MPO takes discrete or continuous ones"
    )
