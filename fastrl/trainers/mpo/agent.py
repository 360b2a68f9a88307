"""The MPO learner: networks, their targets, duals, optimisers, `act_with_logp` and `update`. It knows no
environment."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl import ops
from fastrl.data.replay import Sequences
from fastrl.errors import NonFiniteError, SettingError
from fastrl.losses.mpo import (
    Dual,
    decoupled_gaussian_loss,
    gaussian_kl_parts,
    kl_metrics,
    multiplier_loss,
    out_of_bounds_cost,
    sample_temperature_loss,
    sample_weights,
    weights_of_valid,
)
from fastrl.losses.value import half_squared_error
from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution
from fastrl.nn.flat import FlatParameters
from fastrl.nn.kept import KeptParameters
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.optimizers import backward, load_parts, names_of_non_finite
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.networks import Critic, DiscreteCritic, DiscretePolicy, GaussianPolicy, Policy

MOST_SKIPPED = 100  # batches that are not finite, one after the other


class MPOAgent:
    """MPO: a critic from replay, and a policy that is fitted to its own actions weighted by what the critic
    thinks of them.

    At each state s of a batch, with π' and Q' the target networks and a_1 … a_S drawn from π'(·|s):

    w_s = exp(Q'(s, a_s)/η) / Σ exp(Q'(s, a)/η)                                                       E-step
    L_η = η ε + η mean_B log mean_S exp(Q'(s, a)/η)
    L_π = −mean_B Σ_S (w + w_penalty) [log N(a; μ, σ') + log N(a; μ', σ)] + Σ sg(α) mean_B KL       M-step,
    decoupled
    L_α = Σ α (ε_KL − sg(mean_B KL)),  one α for each action dimension and for mean and deviation
    L_Q = mean ½ (Q(s, a) − target)²,  target by Retrace(λ) over the window, or r + γ E_π' Q'(s', ·) with λ =
    0

    The penalty (a second E-step with a temperature of its own) improves −‖a − clip(a)‖, so that means stay
    within the bounds. The critic sees actions as the environment executed them, Retrace's ratios those that
    the policies drew. All T targets of a window are used, and one evaluation of Q' at the sampled actions of
    its T + 1 states serves E-step and bootstrap.

    Discrete actions need no samples: expectations and weights are over all actions, w_a ∝ π'(a) exp(Q'(s,
    a)/η), with one KL and one α.

    Args:
        obs_dim: features of an observation.
        act_dim: A, action dimensions, or the number of actions when they are discrete.
        device: where networks and updates live.
        action_low, action_high: [A], bounds of continuous actions in policy units (−1 and 1 where an
            environment's are finite, see `fastrl.envs.ActionScale`); None for discrete ones.
        config: the settings; those of `MPOTrainer`.
        byte_range: what observations are divided by where a replay holds them as bytes; acting takes them
            divided.

    Raises:
        SettingError: a setting is out of range; the message names it.

    Reference: Abdolmaleki et al. 2018a, "Maximum a Posteriori Policy Optimisation"; 2018b, "Relative Entropy
        Regularized Policy Iteration";
    Munos et al. 2016 (Retrace); Hoffman et al. 2020, "Acme" (networks, penalty).
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
        self.config = config
        self.obs_dim, self.act_dim, self.byte_range = obs_dim, act_dim, byte_range
        self.device = torch.device(device)
        self.discrete = action_low is None
        self.updates = 0
        self.skipped = 0  # batches left out because something was not finite
        self._skipped_in_a_row = 0
        if action_low is None or action_high is None:
            self.policy: Policy = DiscretePolicy(obs_dim, act_dim, config.policy_layer_sizes).to(self.device)
            critic: type[Critic] | type[DiscreteCritic] = DiscreteCritic
        else:
            self.low, self.high = (
                bound.to(self.device, torch.float32) for bound in (action_low, action_high)
            )
            self.policy = GaussianPolicy(obs_dim, act_dim, config.policy_layer_sizes, config.init_std).to(
                self.device
            )
            critic = Critic
        critics = [
            critic(obs_dim, act_dim, config.critic_layer_sizes) for _ in range(2 if config.twin_critic else 1)
        ]
        self.critics = nn.ModuleList(critics).to(self.device)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self._make_duals()
        self._make_optimizers()

    # ------------------------------------------------------------------------------------------------
    # construction

    def _make_duals(self) -> None:
        config = self.config
        bounded = not self.discrete and bool(torch.isfinite(self.low).any() | torch.isfinite(self.high).any())
        self.temperature = Dual(config.temperature_init)
        self.penalty_temperature = (
            Dual(config.temperature_init) if bounded and config.action_penalty else None
        )
        initial = [
            config.lambda_init * float(functional.softplus(torch.tensor(raw))) for raw in self._raw_alphas()
        ]
        shape = () if self.discrete or not config.per_dimension_kl else (self.act_dim,)
        self.alphas = nn.ModuleList(Dual(value, shape) for value in initial)
        given = config.mstep_kl_epsilon_std
        if self.discrete:
            self.epsilons: tuple[float, ...] = (config.mstep_kl_epsilon,)
        else:
            self.epsilons = (config.mstep_kl_epsilon, config.mstep_kl_epsilon if given is None else given)
        for dual in self._duals():
            dual.to(self.device)

    def _raw_alphas(self) -> tuple[float, ...]:
        both = (self.config.init_log_alpha_mean, self.config.init_log_alpha_stddev)
        return both[:1] if self.discrete else both

    def _duals(self) -> list[Dual]:
        temperatures = (
            [self.temperature]
            if self.penalty_temperature is None
            else [self.temperature, self.penalty_temperature]
        )
        return [*temperatures, *cast("list[Dual]", list(self.alphas))]

    def _make_optimizers(self) -> None:
        config = self.config
        self._policy_weights, self._critic_weights = (
            FlatParameters([self.policy]),
            FlatParameters([self.critics]),
        )
        self._target_weights = [FlatParameters([self.target_policy]), FlatParameters([self.target_critics])]
        self._dual_weights = KeptParameters(self._duals())
        self.policy_optimizer = self._build_optimizer([self._policy_weights.whole], config.policy_lr)
        self.critic_optimizer = self._build_optimizer([self._critic_weights.whole], config.q_lr)
        temperatures = [dual.multiplier for dual in self._duals()[: -len(self.alphas)]]
        groups = [
            {"params": temperatures, "lr": config.temperature_lr},
            {"params": list(self.alphas.parameters()), "lr": config.lambda_lr},
        ]
        self.dual_optimizer = torch.optim.Adam(groups, eps=1e-8)

    def _build_optimizer(self, params: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.config.optimizer_type == "adam":
            return torch.optim.Adam(params, lr=lr, eps=1e-5, fused=True)
        return torch.optim.SGD(params, lr=lr, momentum=self.config.sgd_momentum)

    def follow(self) -> None:
        """Follow parameters that were replaced, see `fastrl.nn.kept`; SettingError if that cannot be. Every
        update does it by itself."""
        self._policy_weights.follow([self.policy])
        self._critic_weights.follow([self.critics])
        self._dual_weights.follow(self._duals())
        for weights, target in zip(
            self._target_weights, (self.target_policy, self.target_critics), strict=True
        ):
            weights.follow([target])

    # ---------------------------------------------------------------------------------------- acting

    @without_autocast
    @torch.no_grad()
    def draw(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(executed, raw actions [N, A] or [N], log-probability of the raw ones [N]) of the policy at obs [N,
        obs_dim]."""
        policy = self.policy(obs)
        raw = policy.sample()
        return self.executed(raw), raw, policy.log_prob(raw)

    @without_autocast
    @torch.no_grad()
    def mode(self, obs: Tensor) -> Tensor:
        """The policy's most probable actions at obs [N, obs_dim], or at one of them, as they are executed;
        ValueError for other shapes."""
        rows, single = as_rows("MPOAgent.mode", obs, (self.obs_dim,), self.device)
        actions = self.executed(self.policy(rows.float()).mode())
        return actions[0] if single else actions

    @without_autocast
    def act_with_logp(
        self, obs: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose actions.

        Args:
            obs: one observation [obs_dim] or a batch [B, obs_dim].
            deterministic: the mode instead of a draw.

        Returns:
            (executed action, raw action, log-probability of the raw action in nats) as numpy, with the batch
            dimension only if obs has it. Both actions are in policy units; the executed one is clipped to the
            bounds.

        Raises:
            ValueError: obs has another shape.
        """
        rows, single = as_rows("MPOAgent.act_with_logp", obs, (self.obs_dim,), self.device)
        with torch.no_grad():
            policy: Distribution = self.policy(rows.float())
            raw = policy.mode() if deterministic else policy.sample()
            results = [value.cpu().numpy() for value in (self.executed(raw), raw, policy.log_prob(raw))]
        executed, drawn, logp = (value[0] if single else value for value in results)
        return executed, drawn, logp

    def executed(self, actions: Tensor) -> Tensor:
        """Raw actions as environments execute them: clipped to the bounds."""
        return actions if self.discrete else torch.maximum(torch.minimum(actions, self.high), self.low)

    # ------------------------------------------------------------------------------------------------
    # learning

    def update(self, batch: Sequences, m_steps: int = 1) -> dict[str, float]:
        """One update from replayed windows; see `learn`. Returns metrics as floats."""
        return {name: float(value) for name, value in self.learn(batch, m_steps).items()}

    @without_autocast
    def learn(self, batch: Sequences, m_steps: int = 1) -> dict[str, Tensor]:
        """One step of the critic, one of the duals' E-step part, and `m_steps` of policy and KL multipliers,
        on replayed windows.

        Args:
            batch: windows of T transitions, observations [T+1, B, obs_dim].
            m_steps: gradient steps of the policy on the same E-step.

        Returns:
            Metrics. A batch that leads to something that is not finite is left out from there on, counted
            (`train/skipped`) and warned of.

        Raises:
            NonFiniteError: more than 100 batches in a row were left out; the message names what was not
                finite.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        self.follow()
        batch = replace(
            batch,
            obs=batch.obs.float() / self.byte_range if batch.obs.dtype == torch.uint8 else batch.obs.float(),
        )
        try:
            found = self._targets(batch)
            _require_finite({name: value.sum() for name, value in found.items()})
            metrics = self._critic_step(batch, found["targets"])
            metrics |= self._policy_steps(batch, found, m_steps)
        except _NotFinite as trouble:
            return self._skip(str(trouble))
        self._skipped_in_a_row = 0
        self.updates += 1
        if self.updates % self.config.target_networks_update_period == 0:
            self._renew_targets()
        return metrics | {"train/skipped": torch.tensor(float(self.skipped))}

    def _skip(self, bad: str) -> dict[str, Tensor]:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MOST_SKIPPED:
            raise NonFiniteError(
                f"MPOAgent: {bad} not finite in {self._skipped_in_a_row} batches in a row, after update "
                f"{self.updates}"
            )
        if self._skipped_in_a_row == 1:
            warnings.warn(
                f"MPO: {bad} not finite, a batch is left out; {self.skipped} so far",
                RuntimeWarning,
                stacklevel=4,
            )
        return {"train/skipped": torch.tensor(float(self.skipped))}

    @torch.no_grad()
    def _targets(self, batch: Sequences) -> dict[str, Tensor]:
        """What the target networks say: values of sampled actions at all states, and the critic's targets [T,
        B]."""
        length, size = batch.rewards.shape
        obs = batch.obs.flatten(0, 1)  # [(T+1) B, obs_dim]
        policy: Distribution = self.target_policy(obs)
        if isinstance(policy, DiagonalGaussian):
            samples = (
                self.config.retrace_mc_actions if self.config.use_retrace else self.config.action_samples
            )
            samples = max(samples, self.config.action_samples)
            spread = policy.log_std.exp().unsqueeze(1)
            actions = policy.mean.unsqueeze(1) + spread * torch.randn(
                len(obs), samples, self.act_dim, device=obs.device
            )
            done = self.executed(actions)
            critics: Any = self.target_critics
            q_values = self._lowest(
                [critic.of_samples(obs, done, self.config.bfloat16) for critic in critics]
            )
            values = q_values.mean(1)
            old = {"actions": actions, "old_mean": policy.mean, "old_log_std": policy.log_std}
            taken: Distribution = DiagonalGaussian(
                policy.mean[: length * size], policy.log_std[: length * size]
            )
        else:
            q_values = self._lowest([critic.of_all(obs) for critic in self.target_critics])  # type: ignore[operator]
            log_probs = policy.log_probs()
            values = (log_probs.exp() * q_values).sum(1)
            old = {"log_prior": log_probs}
            taken = Categorical(policy.logits[: length * size])
        of_taken = self._lowest(
            [critic(obs[: length * size], batch.actions.flatten(0, 1)) for critic in self.target_critics]
        )
        log_rhos = taken.log_prob(batch.raw_actions.flatten(0, 1)).view(length, size) - batch.behaviour_logp
        targets = ops.retrace(
            batch.rewards,
            of_taken.view(length, size),
            values.view(length + 1, size)[1:],
            log_rhos,
            batch.terminated,
            batch.truncated,
            gamma=self.config.gamma,
            retrace_lambda=self.config.retrace_lambda if self.config.use_retrace else 0.0,
            valid=batch.valid,
        )
        states = length * size  # the E-step is over states that a transition was made from
        if not self.discrete:
            old["actions"], q_values = (
                actions[:, : self.config.action_samples],
                q_values[:, : self.config.action_samples],
            )
        return {
            "q_values": q_values[:states],
            "targets": targets,
            **{name: value[:states] for name, value in old.items()},
        }

    @staticmethod
    def _lowest(values: list[Tensor]) -> Tensor:
        return values[0] if len(values) == 1 else torch.minimum(*values)

    def _critic_step(self, batch: Sequences, targets: Tensor) -> dict[str, Tensor]:
        obs, actions = batch.obs[:-1].flatten(0, 1), batch.actions.flatten(0, 1)
        weight = weights_of_valid(batch.valid)
        self._critic_weights.zero_grad()
        losses = [
            (weight * half_squared_error(critic(obs, actions), targets.flatten())).sum()
            for critic in self.critics
        ]
        loss = torch.stack(losses).sum()
        backward(loss)
        norm = self._critic_weights.clip_grad_norm_(self.config.max_grad_norm)
        _require_finite({"loss/q": loss.detach(), "grad/q_norm": norm})
        self._critic_weights.step(self.critic_optimizer)
        return {
            "loss/q": loss.detach(),
            "grad/q_norm": norm,
            "q/target_mean": (weight * targets.flatten()).sum(),
        }

    def _policy_steps(self, batch: Sequences, found: Mapping[str, Tensor], m_steps: int) -> dict[str, Tensor]:
        """E-step, its temperatures, and `m_steps` of the policy with its multipliers."""
        weight = weights_of_valid(batch.valid)
        log_prior = found.get("log_prior")
        temperature = self.temperature()
        weights = sample_weights(found["q_values"], temperature, log_prior)
        dual_loss = sample_temperature_loss(
            found["q_values"], temperature, self.config.kl_epsilon, log_prior, weight
        )
        metrics = {
            "mpo/temperature": temperature.detach().clone(),
            "mpo/ess": (weight / weights.square().sum(1)).sum(),
        }
        if self.penalty_temperature is not None:
            cost = out_of_bounds_cost(found["actions"], self.low, self.high)
            penalty = self.penalty_temperature()
            weights = weights + sample_weights(cost, penalty)
            dual_loss = dual_loss + sample_temperature_loss(
                cost, penalty, self.config.epsilon_penalty, None, weight
            )
            metrics |= {
                "mpo/penalty_temperature": penalty.detach().clone(),
                "mpo/out_of_bounds": -(weight * cost.mean(1)).sum(),
            }
        obs = batch.obs[:-1].flatten(0, 1)
        for step in range(m_steps):
            metrics |= self._m_step(obs, weight, weights, found, dual_loss if step == 0 else None)
        return metrics

    def _m_step(
        self,
        obs: Tensor,
        weight: Tensor,
        weights: Tensor,
        found: Mapping[str, Tensor],
        dual_loss: Tensor | None,
    ) -> dict[str, Tensor]:
        policy: Distribution = self.policy(obs)
        if isinstance(policy, DiagonalGaussian):
            old_mean, old_log_std = found["old_mean"], found["old_log_std"]
            per_state = decoupled_gaussian_loss(
                weights, found["actions"], policy.mean, policy.log_std, old_mean, old_log_std
            )
            kls = [
                (weight.unsqueeze(1) * kl).sum(0)
                for kl in gaussian_kl_parts(policy.mean, policy.log_std, old_mean, old_log_std)
            ]
            if not self.config.per_dimension_kl:
                kls = [kl.sum() for kl in kls]
        else:
            per_state = -(weights * policy.log_probs()).sum(1)
            kls = [(weight * kl).sum() for kl in Categorical(found["log_prior"]).kl_parts(policy)]
        policy_loss = (weight * per_state).sum()
        alphas = [alpha() for alpha in self.alphas]
        penalty = torch.stack(
            [(alpha.detach() * kl).sum() for alpha, kl in zip(alphas, kls, strict=True)]
        ).sum()
        multipliers = [
            multiplier_loss(alpha, eps, kl) for alpha, eps, kl in zip(alphas, self.epsilons, kls, strict=True)
        ]
        duals = torch.stack(multipliers if dual_loss is None else [*multipliers, dual_loss]).sum()
        self._policy_weights.zero_grad()
        self.dual_optimizer.zero_grad()
        backward(policy_loss + penalty)
        backward(duals)
        norm = self._policy_weights.clip_grad_norm_(self.config.max_grad_norm)
        _require_finite(
            {"loss/policy": policy_loss.detach(), "grad/policy_norm": norm, "loss/dual": duals.detach()}
        )
        self._policy_weights.step(self.policy_optimizer)
        self.dual_optimizer.step()
        for dual in self._duals():
            dual.project_()
        metrics = {
            "loss/policy": policy_loss.detach(),
            "loss/kl": penalty.detach(),
            "loss/dual": duals.detach(),
            "grad/policy_norm": norm,
        }
        metrics |= kl_metrics(kls, self.epsilons)
        metrics |= {
            f"mpo/alpha_{name}": alpha.detach().mean()
            for name, alpha in zip(("mean", "std"), alphas, strict=False)
        }
        return metrics | {"train/entropy": (weight * policy.entropy()).sum().detach()}

    @torch.no_grad()
    def _renew_targets(self) -> None:
        for target, online in zip(
            self._target_weights, (self._policy_weights, self._critic_weights), strict=True
        ):
            target.whole.copy_(online.whole)

    # ----------------------------------------------------------------------------------------- state

    def _stateful(self) -> dict[str, Any]:
        parts = {
            "policy": self.policy,
            "critics": self.critics,
            "target_policy": self.target_policy,
            "target_critics": self.target_critics,
            "temperature": self.temperature,
            "alphas": self.alphas,
            "policy_optimizer": self.policy_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "dual_optimizer": self.dual_optimizer,
        }
        return (
            parts
            if self.penalty_temperature is None
            else parts | {"penalty_temperature": self.penalty_temperature}
        )

    def state_dict(self) -> dict[str, Any]:
        """Networks and their targets, duals, optimisers and counts."""
        counts = {"updates": self.updates, "skipped": self.skipped}
        return {name: part.state_dict() for name, part in self._stateful().items()} | counts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an agent of the same networks; learning rates stay as this agent
        was built."""
        load_parts(self._stateful(), state)
        self.updates, self.skipped = int(state["updates"]), int(state["skipped"])


class _NotFinite(ArithmeticError):
    """Names what is not finite in a batch."""


def _require_finite(named: Mapping[str, Tensor]) -> None:
    if bad := names_of_non_finite(named):
        raise _NotFinite(bad)
