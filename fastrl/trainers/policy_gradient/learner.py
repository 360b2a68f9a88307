"""The learners of the policy-gradient family: networks, optimisers, and a loss for each algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.losses.dae import ActingPolicy
from fastrl.losses.policy_gradient import (
    adapted_kl_penalty,
    kl_penalty_loss,
    surrogate_loss,
    total_loss,
    vanilla_pg_loss,
)
from fastrl.losses.ppo import approximate_kl, ppo_loss, ratio_metrics
from fastrl.losses.value import explained_variance, half_squared_error
from fastrl.memory.base import Reader
from fastrl.memory.make import Agent
from fastrl.nn.action_heads import Policy, distribution
from fastrl.nn.gsde import ExplorationNoise, StateDependentLinear
from fastrl.nn.normalizer import RunningNormalizer
from fastrl.nn.popart import PopArt
from fastrl.nn.precision import without_autocast
from fastrl.runs.advantage_fit import fit_advantages
from fastrl.runs.optimizers import FlatOptimizer, load_parts, require_gradients
from fastrl.trainers.policy_gradient.config import PolicyGradientConfig, PPOAdaptiveConfig, PPOConfig
from fastrl.trainers.policy_gradient.looks import Looks, PlainLooks, RememberedLooks
from fastrl.trainers.policy_gradient.networks import Network, make_networks
from fastrl.trainers.policy_gradient.rows import (
    Metrics,
    PolicyGradientRows,
    PolicyGradientSegments,
    means_of,
    minibatches,
)

Function = Callable[[Tensor], Tensor]


class Learner:
    """Networks and optimisers; an algorithm is a subclass with its loss.

    Args:
        obs_size: F, features of an observation.
        action_info: `space`, `shape` and `nvec` of the actions, see `fastrl.nn.containers.ActionLinear`, and
            `mask_size`, numbers of the mask at the end of an observation.
        config: the settings of the run.
        device: where networks live.
        agent: policy and value function that remember; None: networks without memory are made.

    Attributes:
        policy, value, advantage: the networks; advantage is None unless DAE fits it. With memory the first
            two are the agent.
        obs_normalizer: statistics of observations, None without; `normalized` applies them.
        popart: the scale on which `value` predicts, None: that of the returns; `values_of` restores it.
        total_steps: environment steps over which the learning rate falls.
    """

    policy: Any
    value: Any

    def __init__(
        self,
        obs_size: int,
        action_info: Mapping[str, Any],
        config: PolicyGradientConfig,
        device: torch.device | str = "cpu",
        agent: Agent | None = None,
    ) -> None:
        self.config = config
        self.action_info = dict(action_info)
        self.agent = None if agent is None else agent.to(device)
        self.total_steps = config.total_steps
        self.updates = 0
        self.obs_normalizer: RunningNormalizer | None = None
        self.advantage: Network | None = None
        self.popart: PopArt | None = None
        if self.agent is None:
            self._make_networks(obs_size, device)
        else:
            self.policy = self.value = self.agent
        self.optimizer = FlatOptimizer(self._trained(), self._make_optimizer, config.max_grad_norm)
        if config.advantage_estimator == "dae":
            fitted = self._fitted()
            self.dae_optimizer = FlatOptimizer(fitted, self._make_optimizer, config.max_grad_norm)

    def _make_networks(self, obs_size: int, device: torch.device | str) -> None:
        """Policy and value function without memory, and the advantage function where DAE fits one."""
        config = self.config
        if config.normalize_observation:
            plain = self.action_info.get("mask_size", 0)
            normalizer = RunningNormalizer((obs_size,), clip=config.clip_observation, plain=plain)
            self.obs_normalizer = normalizer.to(device)
        policy, value, advantage = make_networks(obs_size, self.action_info, config)
        self.policy, self.value = policy.to(device), value.to(device)
        if advantage is not None:
            self.advantage = advantage.to(device)
        if config.value_normalization == "popart":
            self.popart = PopArt(config.popart_rate).to(device)

    def _trained(self) -> list[nn.Module]:
        """What the policy's optimiser trains; with DAE the value function is fitted before."""
        if self.agent is not None:
            return [self.agent]
        return [self.policy] if self.advantage is not None else [self.policy, self.value]

    def _fitted(self) -> list[nn.Module]:
        """What DAE's optimiser trains."""
        assert self.advantage is not None
        return [self.advantage, self.value]

    def _make_optimizer(self, whole: Tensor) -> torch.optim.Optimizer:
        settings: dict[str, Any] = {"lr": self.config.learning_rate, "eps": 1e-5}
        if getattr(self.config, "optimizer_type", "adam") == "rmsprop":
            return torch.optim.RMSprop([whole], **settings)
        return torch.optim.Adam([whole], fused=True, **settings)

    def learning_rate(self, env_steps: int) -> float:
        """The learning rate of an update whose rollout began after so many environment steps.

        It is constant, or falls linearly to 0.
        """
        if not self.config.anneal_lr:
            return self.config.learning_rate
        return self.config.learning_rate * (1.0 - min(env_steps / self.total_steps, 1.0))

    def follow(self) -> None:
        """Follow parameters that were replaced; every update calls it.

        See `fastrl.nn.kept`; SettingError if that cannot be.
        """
        self.optimizer.weights.follow(self._trained())
        if self.advantage is not None:
            self.dae_optimizer.weights.follow(self._fitted())

    # ------------------------------------------------------------------------------------- acting, values

    def normalized(self, obs: Tensor) -> Tensor:
        """Observations [..., F] as the networks see them."""
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def distribution(self, parameters: Tensor) -> Policy:
        """The policy that a rollout's `acted` describes, [..., …]."""
        return distribution(parameters, self.action_info)

    def sampler(self, noise: ExplorationNoise | None = None) -> Function:
        """A function from observations [N, F] to drawn actions, for one rollout.

        Args:
            noise: of `exploration_noise`; None: each call draws anew.
        """
        draw = self.policy.sampler(noise)
        return draw if self.obs_normalizer is None else lambda obs: draw(self.normalized(obs))

    def exploration_noise(self, num_envs: int) -> ExplorationNoise | None:
        """What a sampler for so many environments keeps from step to step; None without gsde."""
        if not isinstance(self.policy.head, StateDependentLinear):
            return None
        return ExplorationNoise(num_envs, self.policy.head.log_std, self.config.gsde_sample_freq)

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions [N, ...] for observations [N, F]: drawn, or the most probable ones."""
        policy = self.policy.distribution(self.policy(self.normalized(obs)))
        return policy.mode() if deterministic else policy.sample()

    def values_of(self, obs: Tensor) -> Tensor:
        """State values [...] of observations [..., F], normalised."""
        outputs = self.value(obs.flatten(0, -2)).view(obs.shape[:-1])
        return outputs if self.popart is None else self.popart.restore(outputs)

    # ------------------------------------------------------------------------------------------- learning

    def policy_loss(self, rows: PolicyGradientRows, policy: Policy, log_probs: Tensor) -> Tensor:
        """L_π of a minibatch, 0-d.

        Args:
            rows: the minibatch.
            policy: π at its observations, with gradient.
            log_probs: log π(a|s) [M] in nats, with gradient.
        """
        raise NotImplementedError

    def loss(
        self, rows: PolicyGradientRows, policy: Policy, values: Tensor | None, *, diagnostics: bool
    ) -> tuple[Tensor, Metrics]:
        """L = L_π + vf_coef ½ mean (V − G)² − ent_coef mean H of a minibatch, and its parts, detached.

        Args:
            rows: the minibatch.
            policy: π at its observations, with gradient.
            values: V [M] at its observations, with gradient, on the scale of the rows' returns; None where
                DAE has fitted it already.
            diagnostics: work out too how far π has moved from the policy before the update.
        """
        config, log_probs = self.config, policy.log_prob(rows.actions)
        entropy = policy.entropy() if config.ent_coef or diagnostics else None
        policy_loss = self.policy_loss(rows, policy, log_probs)
        value_loss = None if values is None else half_squared_error(values, rows.returns).mean()
        loss, metrics = total_loss(
            policy_loss, value_loss, entropy, vf_coef=config.vf_coef, ent_coef=config.ent_coef
        )
        if diagnostics:
            metrics |= self.distance(log_probs.detach() - rows.old_log_probs)
        return loss, metrics

    def distance(self, log_ratio: Tensor) -> Metrics:
        """How far the policy has moved, from log π − log π_old [M] in nats."""
        return {"train/approx_kl": approximate_kl(log_ratio).mean()}

    def learn(self, rows: PolicyGradientRows, env_steps: int, reader: Reader | None = None) -> Metrics:
        """Epochs of minibatches; metrics are means over gradient steps.

        Those that only the last epoch measures are means over its steps.

        Args:
            rows: the transitions of a rollout; without any nothing is done.
            env_steps: environment steps before the rollout, for the learning rate.
            reader: reads them with their memory, where the policy remembers.

        Raises:
            NonFiniteError: the loss or its gradient is not finite; that gradient step was not taken.
            SettingError: the networks have changed so that the optimiser cannot follow.
        """
        if len(rows.obs) == 0:
            return {}
        self._begin(self.optimizer, env_steps)
        config = self.config
        residual_variance = (rows.returns - rows.values).var(correction=0)
        explained = explained_variance(rows.returns, residual_variance)
        looks = self._looks(self._on_scale_of_values(rows), reader)
        steps: list[Metrics] = []
        for epoch in range(config.update_epochs):
            last = epoch == config.update_epochs - 1
            for part, look in looks.minibatches(config.num_minibatches):
                loss, metrics = self.loss(part, *look(), diagnostics=last)
                steps.append(metrics | {"grad/norm": self.optimizer.step(loss, **self._place)})
            if self._stops_after_epoch(looks):
                break
        self.updates += 1
        means = means_of(steps)
        if config.update_epochs * config.num_minibatches == 1:  # the only minibatch was before the step
            means |= self._moved(looks)
        return means | {
            "train/explained_variance": explained,
            "train/learning_rate": torch.tensor(self.optimizer.learning_rate),
        }

    def _on_scale_of_values(self, rows: PolicyGradientRows) -> PolicyGradientRows:
        """The rows with returns and values on the value network's scale, which moves with the returns."""
        if self.popart is None:
            return rows
        self.popart.update(rows.returns, self.value.head)
        normalize = self.popart.normalize
        return rows._replace(returns=normalize(rows.returns), values=normalize(rows.values))

    def _looks(self, rows: PolicyGradientRows, reader: Reader | None) -> Looks:
        """The rows with the present networks on them."""
        if reader is not None:
            return RememberedLooks(rows, reader)
        policy, value = self.policy.prepared(), self.value.prepared()  # once for all minibatches
        learned = value if self.advantage is None else None
        return PlainLooks(rows, lambda obs: self.distribution(policy(obs)), learned)

    def _begin(self, optimizer: FlatOptimizer, env_steps: int) -> None:
        require_gradients()
        self.follow()
        optimizer.learning_rate = self.learning_rate(env_steps)

    @property
    def _place(self) -> dict[str, str]:
        """What errors say of a gradient step."""
        return {"who": self.config.ALGORITHM, "when": f"in update {self.updates}"}

    def _stops_after_epoch(self, looks: Looks) -> bool:
        """Whether to leave out the epochs that are left."""
        return False

    @torch.no_grad()
    def _moved(self, looks: Looks) -> Metrics:
        """Entropy, and how far the policy has moved, by all rows after the update."""
        rows, now = looks.whole()
        log_ratio = now.log_prob(rows.actions) - rows.old_log_probs
        return {"train/entropy": now.entropy().mean()} | self.distance(log_ratio)

    # --------------------------------------------------------------------------- direct advantage estimation

    def fit_advantages(
        self, segments: PolicyGradientSegments, env_steps: int
    ) -> tuple[Tensor, Tensor, Metrics]:
        """Fit Â and V together on a rollout; the policy does not move.

        Args:
            segments: the rollout.
            env_steps: as for `learn`.

        Returns:
            (Â [E, T], what V is fitted to with it [E, T], metrics), see `fastrl.runs.advantage_fit`.

        Raises:
            NonFiniteError, SettingError: as for `learn`.
        """
        assert self.advantage is not None
        self._begin(self.dae_optimizer, env_steps)
        value, advantage = self.value.prepared(), self.advantage.prepared()  # once for all minibatches

        def evaluate(part: PolicyGradientSegments) -> tuple[Tensor, Tensor, ActingPolicy]:
            obs, sizes = part.obs.flatten(0, 1), part.rewards.shape
            values, outputs = value(obs).view(sizes), advantage(obs).unflatten(0, sizes)
            return outputs, values, self.distribution(part.acted)

        def step(loss: Tensor) -> Metrics:
            return {"loss/dae": loss.detach(), "grad/dae_norm": self.dae_optimizer.step(loss, **self._place)}

        return fit_advantages(evaluate, step, segments, minibatches, self.config, environments_first=True)

    # ------------------------------------------------------------------------------------------------ state

    def _parts(self) -> dict[str, Any]:
        memoryless = (
            "policy",
            "value",
            "advantage",
            "obs_normalizer",
            "popart",
            "optimizer",
            "dae_optimizer",
        )
        names = memoryless if self.agent is None else ("agent", "optimizer")
        return {name: part for name in names if (part := getattr(self, name, None)) is not None}

    def state_dict(self) -> dict[str, Any]:
        """Networks, statistics of observations, optimisers and the update count."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; learning rates and the like stay as they were built."""
        load_parts(self._parts(), state)
        self.updates = int(state["updates"])


class VanillaPGLearner(Learner):
    """L_π = −mean log π(a|s) A; A2C is the same."""

    def policy_loss(self, rows: PolicyGradientRows, policy: Policy, log_probs: Tensor) -> Tensor:
        return vanilla_pg_loss(log_probs, rows.advantages)


class SurrogatePGLearner(Learner):
    """L_π = −mean r A,  r = π(a|s) / π_old(a|s)."""

    def policy_loss(self, rows: PolicyGradientRows, policy: Policy, log_probs: Tensor) -> Tensor:
        return surrogate_loss(log_probs, rows.old_log_probs, rows.advantages)


class PPOLearner(Learner):
    """L_π = −mean min(r A, clip(r, 1 − c, 1 + c) A), see `fastrl.losses.ppo.ppo_loss`."""

    config: PPOConfig

    def loss(
        self, rows: PolicyGradientRows, policy: Policy, values: Tensor | None, *, diagnostics: bool
    ) -> tuple[Tensor, Metrics]:
        config = self.config
        return ppo_loss(
            policy.log_prob(rows.actions),
            rows.old_log_probs,
            rows.advantages,
            values,
            rows.returns,
            policy.entropy() if config.ent_coef or diagnostics else None,
            clip_coef=config.clip_coef,
            vf_coef=config.vf_coef,
            ent_coef=config.ent_coef,
            old_values=rows.values if config.clip_vloss else None,
            diagnostics=diagnostics,
        )

    def distance(self, log_ratio: Tensor) -> Metrics:
        return ratio_metrics(log_ratio, self.config.clip_coef)


class PPOAdaptiveLearner(Learner):
    """L_π = −mean r A + β KL(π_old ‖ π) + hinge, see `fastrl.losses.policy_gradient.kl_penalty_loss`.

    After an update β is halved where the KL on all its rows is below d/1.5, and doubled where it is above 1.5
    d; epochs that are left are not made once it is above 4 d.
    """

    config: PPOAdaptiveConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kl_penalty = self.config.kl_penalty
        self.early_stops = 0  # updates of which epochs were left out
        self._after: Metrics = {}  # the policy on all rows after the latest epoch

    def policy_loss(self, rows: PolicyGradientRows, policy: Policy, log_probs: Tensor) -> Tensor:
        kl = self.distribution(rows.acted).kl(policy).mean()  # type: ignore[arg-type]  # of the same kind
        penalty = kl_penalty_loss(kl, self.kl_penalty, self.config.kl_target)
        return surrogate_loss(log_probs, rows.old_log_probs, rows.advantages) + penalty

    @torch.no_grad()
    def _stops_after_epoch(self, looks: Looks) -> bool:
        rows, now = looks.whole()
        kl = self.distribution(rows.acted).kl(now).mean()  # type: ignore[arg-type]  # of the same kind
        self._after = {"train/approx_kl": kl, "train/entropy": now.entropy().mean()}
        stops = float(kl) > 4.0 * self.config.kl_target
        self.early_stops += stops
        return stops

    def learn(self, rows: PolicyGradientRows, env_steps: int, reader: Reader | None = None) -> Metrics:
        metrics = super().learn(rows, env_steps, reader)
        if not metrics:
            return metrics
        penalty = adapted_kl_penalty(
            self.kl_penalty, float(self._after["train/approx_kl"]), self.config.kl_target
        )
        self.kl_penalty = penalty
        counts = {
            "train/kl_penalty": torch.tensor(penalty),
            "train/early_stops": torch.tensor(self.early_stops),
        }
        return metrics | self._after | counts

    def state_dict(self) -> dict[str, Any]:
        """As of the others, and the penalty."""
        own = {
            "kl_penalty": torch.tensor(self.kl_penalty, dtype=torch.float64),
            "early_stops": torch.tensor(self.early_stops),
        }
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        super().load_state_dict(state)
        self.kl_penalty, self.early_stops = float(state["kl_penalty"]), int(state["early_stops"])


LEARNERS: dict[str, type[Learner]] = {
    "vanilla-pg": VanillaPGLearner,
    "a2c": VanillaPGLearner,
    "surrogate-pg": SurrogatePGLearner,
    "ppo": PPOLearner,
    "ppo-adaptive": PPOAdaptiveLearner,
}
