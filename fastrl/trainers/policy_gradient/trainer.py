"""The policy-gradient family: collect T steps of N environments, estimate, learn, repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl import ops
from fastrl.data.collector import Collector
from fastrl.data.rollout import Rollout
from fastrl.losses.value import standardize
from fastrl.memory.make import make_agent
from fastrl.nn.encoders import as_vectors
from fastrl.nn.gsde import ExplorationNoise
from fastrl.nn.layers import count_parameters
from fastrl.nn.normalizer import RewardScaler
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import without_autocast
from fastrl.runs.evaluation import Actor, MemorylessActor
from fastrl.runs.state_check import Maybe
from fastrl.runs.trainer import Trainer
from fastrl.runs.trainer_state import rollout_outline
from fastrl.trainers.policy_gradient.learner import LEARNERS, Learner
from fastrl.trainers.policy_gradient.remembering import RememberingRounds, actor_of
from fastrl.trainers.policy_gradient.rows import PolicyGradientRows, PolicyGradientSegments


class PolicyGradientTrainer(Trainer):
    """Trains VanillaPG, A2C, SurrogatePG, PPO or PPO with an adaptive penalty, each with a value function.

    A round collects `num_steps` steps of each of `num_envs` environments, estimates advantages by GAE, and
    learns from the rows that are transitions; with DAE an advantage function is fitted together with the
    value function before the policy learns. Truncated episodes bootstrap from their real last observation.
    Statistics of observations and rewards stand still while a rollout is collected and made ready, and take
    it in once, afterwards.

    Args:
        config: the settings; its class says which algorithm.

    Attributes:
        learner: networks (`policy`, `value`) and optimisers.
        remembering: rounds with a policy that remembers; None where `memory` is "none".
    """

    learner: Learner

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        config, env = self.config, self.env
        continuous = env.action.kind == "continuous"
        self.learner = self.make_learner()
        self.reward_scaler: RewardScaler | None = None
        if config.normalize_reward:
            scaler = RewardScaler(env.num_envs, gamma=config.gamma, clip=config.clip_reward)
            self.reward_scaler = scaler.to(self.device)
        self.noise: ExplorationNoise | None = None
        self.remembering = RememberingRounds(self) if config.memory != "none" else None
        if self.remembering is not None:
            self.rollout = self.remembering.collected.rollout
            return
        self.rollout = Rollout(
            config.num_steps,
            env.num_envs,
            obs=((math.prod(env.obs_shape),), torch.float32),
            action=(tuple(env.action.shape), torch.float32 if continuous else torch.int64),
            device=self.device,
        )
        self.noise = self.learner.exploration_noise(env.num_envs)
        self.collector = self._make_collector()
        self.collector.restart()

    def make_learner(self) -> Learner:
        """See `Trainer.make_learner`."""
        action = self.env.action
        shape = action.shape if action.kind == "continuous" else action.nvec
        info = {"space": action.kind, "shape": shape, "mask_size": action.mask_size}
        agent, env, config = None, self.env, self.config
        if config.memory != "none":
            longest = config.longest_episode(env) if config.memory == "trxl" else None
            agent = make_agent(config, env.obs_shape, env.obs_dtype, action, longest)
        return LEARNERS[self.algorithm](math.prod(env.obs_shape), info, config, self.device, agent)

    def _make_collector(self) -> Collector:
        return Collector(self.env, self.rollout, view=as_vectors, count=self.count, stopwatch=self.stopwatch)

    @property
    def algorithm(self) -> str:  # type: ignore[override]  # a constant of other trainers
        """The algorithm's name in the registry; the class of the configuration says it."""
        return str(self.config.ALGORITHM)

    def anneal_over(self, total_steps: int) -> None:
        """Let the learning rate fall from `learning_rate` to nearly 0 over a run of so many steps."""
        self.learner.total_steps = total_steps

    # ------------------------------------------------------------------------------------------ one round

    @without_autocast
    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        if self.remembering is not None:
            return self.remembering.collect()
        if self.noise is not None and not 0 < self.rollout.position < self.rollout.num_steps:
            self.noise.begin()
        draw = self.learner.sampler(self.noise)
        return self.collector.fill(lambda obs: {"actions": draw(obs)}, stop=self.stop_requested)

    @without_autocast
    @torch.no_grad()
    def estimate(self) -> None:
        """Compute what is learned from.

        Normalised observations and rewards, the policy that acted, values, and advantages unless DAE fits
        them.
        """
        rollout, scaler = self.rollout, self.reward_scaler
        ended = rollout.terminated | rollout.truncated
        self.steps_before = self.env_steps - int(rollout.valid.sum())
        self.rewards = rollout.rewards if scaler is None else scaler(rollout.rewards)  # [T, N]
        if self.remembering is not None:
            self.remembering.estimate(self.rewards)
            if scaler is not None:
                scaler.update(rollout.rewards, ended, rollout.valid)
            return
        self.obs = self.learner.normalized(rollout.obs)  # [T+1, N, F]
        self.values = self.learner.values_of(self.obs)  # [T+1, N]
        acted = self.learner.policy(self.obs[:-1].flatten(0, 1))  # it has not moved since it acted
        self.acted = acted.unflatten(0, rollout.rewards.shape)  # [T, N, ...]
        # statistics move after everything is transformed: acting and learning see the same numbers
        if self.learner.obs_normalizer is not None:
            self.learner.obs_normalizer.update(rollout.valid_rows(rollout.obs))
        if scaler is not None:
            scaler.update(rollout.rewards, ended, rollout.valid)
        if self.config.advantage_estimator == "gae":
            self.advantages, self.returns = ops.gae(
                self.rewards,
                self.values,
                rollout.terminated,
                rollout.truncated,
                gamma=self.config.gamma,
                gae_lambda=self.config.gae_lambda,
                valid=rollout.valid,
            )

    @without_autocast
    def learn(self) -> Mapping[str, Tensor]:
        """With DAE fit advantages and values; then epochs over the rows that are transitions."""
        if self.remembering is not None:
            metrics = self.remembering.learn(self.steps_before)
            self.updates += 1
            return metrics
        fitted: dict[str, Tensor] = {}
        if self.config.advantage_estimator == "dae":
            with self.stopwatch("fitting"):
                *estimates, fitted = self.learner.fit_advantages(self._segments(), self.steps_before)
                self.advantages, self.returns = (estimate.transpose(0, 1) for estimate in estimates)
        metrics = self.learner.learn(self.rows(), self.steps_before)
        self.updates += 1
        return metrics | fitted

    def rows(self) -> PolicyGradientRows:
        """The transitions of the rollout, as the learner takes them."""
        take = self.rollout.valid_rows
        acted, actions, advantages = take(self.acted), take(self.rollout.actions), take(self.advantages)
        if self.config.normalize_advantages and self.config.advantage_estimator == "gae":
            advantages = standardize(advantages)
        return PolicyGradientRows(
            obs=take(self.obs),
            actions=actions,
            advantages=advantages,
            returns=take(self.returns),
            values=take(self.values),
            acted=acted,
            old_log_probs=self.learner.policy.distribution(acted).log_prob(actions),
        )

    def _segments(self) -> PolicyGradientSegments:
        """The rollout, environments first."""
        rollout = self.rollout
        fields = (self.obs[:-1], rollout.actions, self.acted, self.rewards, self.values)
        flags = (rollout.terminated, rollout.truncated, rollout.valid)
        return PolicyGradientSegments(*(field.transpose(0, 1) for field in (*fields, *flags)))

    def actor(self, num_envs: int) -> Actor:
        """The policy, with nothing remembered."""
        return MemorylessActor(self._act) if self.config.memory == "none" else actor_of(self, num_envs)

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("PolicyGradientTrainer", obs, self.env.obs_shape, self.device)
        return self.learner.act(as_vectors(rows), deterministic)

    def describe(self) -> str:
        """Environments, rollout, networks and threads."""
        learner = self.learner
        parameters = count_parameters(learner.policy, learner.value, learner.advantage)
        memory = "" if self.remembering is None else f"memory {self.config.memory}; "
        sizes = f"{self.env.num_envs} environments × {self.config.num_steps} steps, {parameters:,} parameters"
        return f"{self.algorithm} on {self.env.name}: {sizes}; {memory}{self.threads}"

    # ---------------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, a half-collected rollout with its noise, and statistics of rewards."""
        scaler, noise = self.reward_scaler, self.noise
        collected = self.collector if self.remembering is None else self.remembering
        state = {
            **collected.state_dict(),
            "reward_scaler": None if scaler is None else scaler.state_dict(),
        }
        return state if noise is None else state | {"noise": noise.state_dict()}

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`; a rollout may be half collected or not."""
        if self.remembering is not None:
            return {**self.trainer_state(), **self.remembering.collected.outline()}
        return {**self.trainer_state(), "rollout": Maybe(rollout_outline(self.rollout, self.env.action))}

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
            if not environments_continue:
                self.reward_scaler.running_return.zero_()
        if self.remembering is not None:
            self.remembering.collected.load_state_dict(state, self.env, continues=environments_continue)
            return
        self.collector = self._make_collector()  # the environments may be others now
        if environments_continue:
            self.collector.load_state_dict(state)
            if self.noise is not None:
                self.noise.load_state_dict(state["noise"])
        else:
            self.collector.restart()
