"""The SAC learner: policy, twin critics, targets, temperature, optimisers.

It knows no environment.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.data.replay import Sequences
from fastrl.losses.multiplier import Multiplier
from fastrl.losses.sac import sac_policy_loss, soft_targets
from fastrl.losses.value import critic_loss
from fastrl.nn.critics import Critic, constant, lowest
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.flat import FlatParameters
from fastrl.nn.gaussian_policy import GaussianPolicy
from fastrl.nn.kept import KeptParameters
from fastrl.nn.precision import without_autocast
from fastrl.nn.squashed import SquashedGaussian
from fastrl.runs.optimizers import LinearRates, backward, load_parts, require_finite_step
from fastrl.trainers.sac.config import SACConfig


class SACLearner:
    """Soft actor-critic: twin critics of return plus entropy, and a squashed Gaussian policy.

    The policy climbs the lower of the critics; the temperature α keeps the entropy at its target.

    G   = r + γ (1 − terminated) [min_i Q'_i(s', a') − α log π(a'|s')],   a' ~ π(·|s')
    L_Q = Σ_i mean ½ (Q_i(s, a) − G)²
    L_π = mean [α log π(ã|s) − min_i Q_i(s, ã)],   ã ~ π(·|s)
    L_α = −α (mean log π(ã|s) + H̄)
    Q'  ← Q' + τ (Q − Q')

    The functions are in `fastrl.losses.sac`.

    Args:
        config: the settings, in range; those of environments and runs are not used.
        obs_dim: features of an observation.
        device: where networks and updates live.
        action_low, action_high: [A], finite bounds of the actions, which the policy keeps to.

    Attributes:
        policy, critics: what learns; target_critics: Q'.
        alpha: α, with −H̄ as the bound of mean log π.
        updates: calls of `learn` so far.
        rates: learning rates of policy and critics.

    Reference: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications".
    """

    def __init__(
        self,
        config: SACConfig,
        obs_dim: int,
        device: torch.device,
        *,
        action_low: Tensor,
        action_high: Tensor,
    ) -> None:
        self.config = config
        self.low, self.high = (bound.to(device, torch.float32) for bound in (action_low, action_high))
        self.updates = 0
        sizes, layer_norm = (obs_dim, len(self.low)), {"layer_norm": config.layer_norm}
        self.policy = GaussianPolicy(*sizes, config.policy_layer_sizes, 0.0, **layer_norm).to(device)
        critics = [Critic(*sizes, config.critic_layer_sizes, **layer_norm) for _ in range(2)]
        self.critics = nn.ModuleList(critics).to(device)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        target_entropy = -len(self.low) if config.target_entropy is None else config.target_entropy
        self.alpha = Multiplier(config.temperature_init, -float(target_entropy)).to(device)
        self._policy_weights, self._critic_weights, self._target_weights = (
            FlatParameters([module]) for module in (self.policy, self.critics, self.target_critics)
        )
        self._alpha_weights = KeptParameters([self.alpha])
        rates = (config.policy_lr, config.q_lr, config.temperature_lr)
        learned = (self._policy_weights.whole, self._critic_weights.whole, self.alpha.value)
        self.policy_optimizer, self.critic_optimizer, self.alpha_optimizer = (
            torch.optim.Adam([weights], lr=lr, fused=True) for weights, lr in zip(learned, rates, strict=True)
        )
        self.rates = LinearRates(self.policy_optimizer, self.critic_optimizer)

    def follow(self) -> None:
        """Follow parameters that were replaced; every update calls it.

        See `fastrl.nn.kept`; SettingError if that cannot be.
        """
        self._policy_weights.follow([self.policy])
        self._critic_weights.follow([self.critics])
        self._target_weights.follow([self.target_critics])
        self._alpha_weights.follow([self.alpha])

    def distribution(self, obs: Tensor) -> SquashedGaussian:
        """π(·|s) at obs [B, obs_dim]."""
        return SquashedGaussian(self.policy(obs), self.low, self.high)

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions [B, A] at obs [B, obs_dim]; the squashed mean instead of a sample if `deterministic`."""
        policy = self.distribution(obs)
        return policy.mode() if deterministic else policy.sample()

    @without_autocast
    def learn(self, batch: Sequences, *, measure: bool = True) -> dict[str, Tensor]:
        """One step of the critics, of the policy and of the temperature, on replayed transitions.

        Args:
            batch: windows of one transition, observations [2, B, obs_dim].
            measure: whether to measure the KL divergence of the policy's step, which takes another pass.

        Returns:
            Metrics, 0-d.

        Raises:
            NonFiniteError: a loss or gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        self.follow()
        metrics = self._critic_step(batch)
        metrics |= self._policy_step(batch.obs[0], measure)
        with torch.no_grad():
            self._target_weights.whole.lerp_(self._critic_weights.whole, self.config.tau)
        self.updates += 1
        return metrics

    def _critic_step(self, batch: Sequences) -> dict[str, Tensor]:
        with torch.no_grad():
            next_obs = batch.obs[1]
            next_actions, next_log_probs = self.distribution(next_obs).sample_with_log_prob()
            next_q = lowest([critic(next_obs, next_actions) for critic in self.target_critics])
            rewards, terminated = batch.rewards[0], batch.terminated[0]
            alpha, gamma = self.alpha(), self.config.gamma
            targets = soft_targets(rewards, terminated, next_q, next_log_probs, alpha, gamma)
        loss = critic_loss([critic(batch.obs[0], batch.actions[0]) for critic in self.critics], targets)
        self._critic_weights.zero_grad()
        backward(loss)
        norm = self._critic_weights.clip_grad_norm_(math.inf)
        metrics = {"loss/q": loss.detach(), "grad/q_norm": norm}
        require_finite_step("SAC", self.updates, metrics)
        self._critic_weights.step(self.critic_optimizer)
        return metrics | {"q/target_mean": targets.mean()}

    def _policy_step(self, obs: Tensor, measure: bool) -> dict[str, Tensor]:
        """One step of the policy, and one of the temperature by the entropy that the policy had before."""
        policy = self.distribution(obs)
        actions, log_probs = policy.sample_with_log_prob()
        with constant(self.critics):
            q_values = lowest([critic(obs, actions) for critic in self.critics])
        loss = sac_policy_loss(log_probs, q_values, self.alpha())
        mean_log_prob = log_probs.detach().mean()
        alpha_loss = self.alpha.loss(mean_log_prob)
        self._policy_weights.zero_grad()
        self.alpha_optimizer.zero_grad()
        backward(loss)
        backward(alpha_loss)
        norm = self._policy_weights.clip_grad_norm_(math.inf)
        losses = {"loss/policy": loss.detach(), "loss/alpha": alpha_loss.detach()}
        metrics = losses | {"grad/policy_norm": norm}
        require_finite_step("SAC", self.updates, metrics)
        self._policy_weights.step(self.policy_optimizer)
        self.alpha_optimizer.step()
        self.alpha.project_()
        metrics |= {"train/entropy": -mean_log_prob, "sac/alpha": self.alpha().detach().clone()}
        return metrics | {"train/approx_kl": self._moved(policy.gaussian, obs)} if measure else metrics

    @torch.no_grad()
    def _moved(self, before: DiagonalGaussian, obs: Tensor) -> Tensor:
        """Mean KL(π_old ‖ π) in nats of the step that was taken; squashing does not change it."""
        return before.kl(self.policy(obs)).mean()

    def _stateful(self) -> dict[str, Any]:
        names = ("policy", "critics", "target_critics", "alpha")
        optimizers = ("policy_optimizer", "critic_optimizer", "alpha_optimizer")
        return {name: getattr(self, name) for name in (*names, *optimizers)}

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, temperature, optimisers and the update count."""
        return {name: part.state_dict() for name, part in self._stateful().items()} | {
            "updates": self.updates
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a learner of the same networks; learning rates stay as built."""
        load_parts(self._stateful(), state)
        self.updates = int(state["updates"])
