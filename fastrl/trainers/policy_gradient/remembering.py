"""Rounds of the policy-gradient family with a policy that remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl import ops
from fastrl.losses.value import standardize
from fastrl.memory.base import MemoryActor
from fastrl.memory.collect import RememberingCollector
from fastrl.memory.make import make_actor, make_memory
from fastrl.nn.action_heads import BranchedPolicy, policy_parameters
from fastrl.runs.trainer import Trainer
from fastrl.trainers.policy_gradient.learner import Learner
from fastrl.trainers.policy_gradient.rows import PolicyGradientRows


class RememberingRounds:
    """What `PolicyGradientTrainer` does in a round where `memory` is set.

    Statistics of observations move after learning: the network normalises, and the first gradient step sees
    the policy that acted.

    Args:
        trainer: whose environments, settings and learner they are.

    Attributes:
        collected: rollout and memory.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.config = trainer, trainer.config
        self.learner: Learner = trainer.learner
        assert self.learner.agent is not None
        env = trainer.env
        self.memory = make_memory(self.config, self.learner.agent, env.num_envs, env.action, trainer.device)
        width = (env.action.dim, 2) if env.action.kind == "continuous" else (sum(env.action.nvec),)
        self.collected = RememberingCollector(
            env,
            self.memory,
            self.config.num_steps,
            extras={"acted": (width, torch.float32)},
            keep=self._acted,
            count=trainer.count,
            stopwatch=trainer.stopwatch,
            settings="num_envs, num_steps or the sizes of memory",
            guesses=self.config.network == "auto",
        )

    @staticmethod
    def _acted(policy: BranchedPolicy, actions: Tensor) -> Mapping[str, Tensor]:
        return {"acted": policy_parameters(policy)}

    def actor(self, num_envs: int) -> MemoryActor:
        """The policy with nothing remembered."""
        return actor_of(self.trainer, num_envs)

    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        self.memory.follow(self.learner.agent)
        return self.collected.fill(self.trainer.stop_requested)

    @torch.no_grad()
    def estimate(self, rewards: Tensor) -> None:
        """Advantages and returns by GAE.

        Args:
            rewards: [T, N], as the learner sees them.
        """
        rollout = self.collected.rollout
        self.values = self.collected.values()  # [T+1, N]
        self.advantages, self.returns = ops.gae(
            rewards,
            self.values,
            rollout.terminated,
            rollout.truncated,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
            valid=rollout.valid,
        )

    def learn(self, steps_before: int) -> dict[str, Tensor]:
        """Epochs over the rows that are transitions, then their observations enter the statistics.

        Args:
            steps_before: environment steps before the rollout.
        """
        rows = self.rows()
        if len(rows.obs) == 0:
            return {}
        metrics = self.learner.learn(rows, steps_before, self.collected.reader())
        normalizer = self.learner.agent.obs_normalizer if self.learner.agent is not None else None
        if self.config.normalize_observation and normalizer is not None:
            normalizer.update(rows.obs)
        return metrics

    @torch.no_grad()
    def rows(self) -> PolicyGradientRows:
        """The transitions of the rollout, as the learner takes them; observations as they came."""
        rollout = self.collected.rollout
        take = rollout.valid_rows
        acted, actions, advantages = (
            take(rollout.extras["acted"]),
            take(rollout.actions),
            take(self.advantages),
        )
        if self.config.normalize_advantages:
            advantages = standardize(advantages)
        return PolicyGradientRows(
            obs=take(rollout.obs),
            actions=actions,
            advantages=advantages,
            returns=take(self.returns),
            values=take(self.values),
            acted=acted,
            old_log_probs=self.learner.distribution(acted).log_prob(actions),
        )

    def state_dict(self) -> dict[str, Any]:
        """Observations to go on from, memory, and a half-collected rollout."""
        return self.collected.state_dict()


def actor_of(trainer: Trainer, num_envs: int) -> MemoryActor:
    """The policy of a trainer in `num_envs` environments, with nothing remembered."""
    agent = trainer.learner.agent
    return make_actor(trainer.config, agent, num_envs, trainer.env.action, trainer.device)
