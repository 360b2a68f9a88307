"""The MPO learner: networks, targets, multipliers, optimisers, acting and learning.

It knows no environment.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl import ops
from fastrl.data.replay import Sequences
from fastrl.errors import NonFiniteError
from fastrl.losses.mpo import e_step, mpo_loss, out_of_bounds_cost, weights_of_valid
from fastrl.losses.multiplier import Multiplier
from fastrl.losses.value import critic_loss
from fastrl.nn.action_heads import Policy as ActionPolicy
from fastrl.nn.action_heads import policy_over
from fastrl.nn.critics import lowest
from fastrl.nn.flat import FlatParameters
from fastrl.nn.gaussian_policy import GaussianPolicy
from fastrl.nn.kept import KeptParameters
from fastrl.nn.precision import without_autocast
from fastrl.runs.optimizers import backward, build_optimizer, load_parts, names_of_non_finite
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.improvement import (
    ExactImprovement,
    GaussianImprovement,
    Improvement,
    SampledBranchesImprovement,
)
from fastrl.trainers.mpo.networks import DiscretePolicy, Policy, is_exact, make_critic

MOST_SKIPPED = 100  # batches that are not finite, one after the other
DUAL_EPS = 1e-8  # Adam's, of temperatures and multipliers; networks have 1e-5


class MPOLearner:
    """MPO: a critic from replay, and a policy fitted to its own actions, weighted by that critic.

    At each state s of a batch, with π' and Q' the target networks and a_1 … a_S drawn from π'(·|s):

    w_s = exp(Q'(s, a_s)/η) / Σ exp(Q'(s, a)/η)                                                       E-step
    L_η = η ε + η mean_B log mean_S exp(Q'(s, a)/η)
    L_π = −mean_B Σ_S (w + w_penalty) [log N(a; μ, σ') + log N(a; μ', σ)] + Σ sg(α) mean_B KL         M-step
    L_α = Σ α (ε_KL − sg(mean_B KL)),  one α for each action dimension and for mean and deviation
    L_Q = mean ½ (Q(s, a) − target)²,  target by Retrace(λ) over the window, or of one step with λ = 0

    The penalty (a second E-step with a temperature of its own) improves −‖a − clip(a)‖, so that means stay
    within the bounds. The critic sees actions as the environment executed them, Retrace's ratios those that
    the policies drew. All T targets of a window are used, and one evaluation of Q' at the sampled actions of
    its T + 1 states serves E-step and bootstrap. The functions are in `fastrl.losses.mpo`.

    Discrete actions need no samples: expectations and weights are over all actions, w_a ∝ π'(a) exp(Q'(s,
    a)/η), with one KL and one α. Several branches are independent in π, whose KL is the sum over them; the
    critic takes the whole action. Up to `LARGEST_JOINT` of these are all looked at, of more `action_samples`
    are drawn.

    Args:
        config: the settings, in range; those of environments and runs are not used.
        obs_dim: features of an observation.
        act_dim: A, action dimensions, or the number of actions when they are discrete; of several branches
            the sum of their choices.
        device: where networks and updates live.
        action_low, action_high: [A], bounds of continuous actions in policy units (−1 and 1 where an
            environment's are finite, see `fastrl.envs.ActionScale`); None for discrete ones.
        byte_range: what observations are divided by where a replay holds them as bytes; acting takes them
            divided.
        nvec: choices of each of several branches; none: there is one choice, or actions are continuous.
        mask_size: numbers at the end of an observation that say which choices are allowed.

    Attributes:
        policy, critics: what learns; target_policy, target_critics: their targets π' and Q'.
        temperature, penalty_temperature: η of the two E-steps with their bounds; the second None without
            penalty.
        alphas: the KL multipliers with their bounds, "mean" (or the whole of a discrete policy) and "std".
        updates: calls of `learn` so far, but for those that were left out.
        skipped: batches that were left out since something was not finite.

    Reference: Abdolmaleki et al. 2018a, "Maximum a Posteriori Policy Optimisation"; 2018b, "Relative Entropy
        Regularized Policy Iteration";
    Munos et al. 2016 (Retrace); Hoffman et al. 2020, "Acme" (networks, penalty).
    """

    def __init__(
        self,
        config: MPOConfig,
        obs_dim: int,
        act_dim: int,
        device: torch.device,
        *,
        action_low: Tensor | None = None,
        action_high: Tensor | None = None,
        byte_range: int = 255,
        nvec: Sequence[int] = (),
        mask_size: int = 0,
    ) -> None:
        self.config = config
        self.obs_dim, self.act_dim, self.byte_range = obs_dim, act_dim, byte_range
        self.device = torch.device(device)
        self.discrete, self.nvec, self.mask_size = action_low is None, tuple(nvec), mask_size
        if action_low is not None and action_high is not None:
            self.low = action_low.to(self.device, torch.float32)
            self.high = action_high.to(self.device, torch.float32)
        self.updates = 0
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._make_networks()
        self.improvement = self._make_improvement()
        self._make_multipliers()
        self._make_optimizers()

    # --------------------------------------------------------------------------------- construction

    def _make_networks(self) -> None:
        config = self.config
        sizes = (self.obs_dim, self.act_dim)
        self.policy: Policy = (
            DiscretePolicy(*sizes, config.policy_layer_sizes, self.nvec, self.mask_size)
            if self.discrete
            else GaussianPolicy(*sizes, config.policy_layer_sizes, config.log_std_init)
        ).to(self.device)
        critics = [
            make_critic(*sizes, config.critic_layer_sizes, self.nvec, discrete=self.discrete)
            for _ in range(2 if config.twin_critic else 1)
        ]
        self.critics = nn.ModuleList(critics).to(self.device)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)

    def _make_improvement(self) -> Improvement:
        if self.discrete and is_exact(self.nvec):
            return ExactImprovement(self.nvec)
        config = self.config
        drawn = max(config.retrace_mc_actions if config.use_retrace else 1, config.action_samples)
        samples = (config.action_samples, drawn, config.bfloat16)
        if self.discrete:
            return SampledBranchesImprovement(self.nvec, *samples)
        return GaussianImprovement(self.executed, *samples)

    def _make_multipliers(self) -> None:
        config = self.config
        bounded = not self.discrete and bool(torch.isfinite(self.low).any() | torch.isfinite(self.high).any())
        self.temperature = Multiplier(config.temperature_init, config.kl_epsilon).to(self.device)
        self.penalty_temperature: Multiplier | None = None
        if bounded and config.action_penalty:
            penalty = Multiplier(config.temperature_init, config.epsilon_penalty)
            self.penalty_temperature = penalty.to(self.device)
        of_std = config.mstep_kl_epsilon_std
        parts = {
            "mean": (config.init_log_alpha_mean, config.mstep_kl_epsilon),
            "std": (config.init_log_alpha_stddev, config.mstep_kl_epsilon if of_std is None else of_std),
        }
        if self.discrete:
            del parts["std"]
        shape = () if self.discrete or not config.per_dimension_kl else (self.act_dim,)
        self.alphas = nn.ModuleDict()
        for name, (raw, bound) in parts.items():
            initial = config.lambda_init * float(functional.softplus(torch.tensor(raw)))
            self.alphas[name] = Multiplier(initial, bound, shape).to(self.device)

    @property
    def _temperatures(self) -> list[Multiplier]:
        both = (self.temperature, self.penalty_temperature)
        return [temperature for temperature in both if temperature is not None]

    @property
    def _alphas(self) -> dict[str, Multiplier]:
        return cast("dict[str, Multiplier]", dict(self.alphas.items()))

    def _multipliers(self) -> list[Multiplier]:
        return [*self._temperatures, *self._alphas.values()]

    def _make_optimizers(self) -> None:
        config = self.config
        self._policy_weights = FlatParameters([self.policy])
        self._critic_weights = FlatParameters([self.critics])
        self._target_weights = [FlatParameters([self.target_policy]), FlatParameters([self.target_critics])]
        self._dual_weights = KeptParameters(self._multipliers())
        self.policy_optimizer = build_optimizer(config, [self._policy_weights.whole], config.policy_lr)
        self.critic_optimizer = build_optimizer(config, [self._critic_weights.whole], config.q_lr)
        temperatures = [temperature.value for temperature in self._temperatures]
        groups = [
            {"params": temperatures, "lr": config.temperature_lr},
            {"params": list(self.alphas.parameters()), "lr": config.lambda_lr},
        ]
        self.dual_optimizer = torch.optim.Adam(groups, eps=DUAL_EPS)

    def follow(self) -> None:
        """Follow parameters that were replaced; every update calls it.

        See `fastrl.nn.kept`; SettingError if that cannot be.
        """
        self._policy_weights.follow([self.policy])
        self._critic_weights.follow([self.critics])
        self._dual_weights.follow(self._multipliers())
        targets = (self.target_policy, self.target_critics)
        for weights, target in zip(self._target_weights, targets, strict=True):
            weights.follow([target])

    # ---------------------------------------------------------------------------------------- acting

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions as environments execute them at obs [B, obs_dim]: [B, A], or [B] int64.

        Samples, or the mode if `deterministic`.
        """
        policy: ActionPolicy = self.policy(obs)
        return self.executed(policy.mode() if deterministic else policy.sample())

    @without_autocast
    @torch.no_grad()
    def act_for_replay(self, obs: Tensor) -> dict[str, Tensor]:
        """A sample of the policy at obs [B, obs_dim], with what the replay keeps of it.

        `actions` as executed, `raw_actions` as drawn, [B, A] or [B] int64 each, and `behaviour_logp` [B], the
        log-probability of the latter in nats.
        """
        policy: ActionPolicy = self.policy(obs)
        raw = policy.sample()
        return {
            "actions": self.executed(raw),
            "raw_actions": raw,
            "behaviour_logp": policy.log_prob(raw),
        }

    def executed(self, actions: Tensor) -> Tensor:
        """Raw actions as environments execute them: clipped to the bounds."""
        return actions if self.discrete else torch.maximum(torch.minimum(actions, self.high), self.low)

    # -------------------------------------------------------------------------------------- learning

    @without_autocast
    def learn(self, batch: Sequences, m_steps: int | None = None) -> dict[str, Tensor]:
        """A step of the critic, one of the temperatures, and `m_steps` of policy and KL multipliers.

        All are on the same replayed windows.

        Args:
            batch: windows of T transitions, observations [T+1, B, obs_dim], with `raw_actions` [T, B, ...]
                and `behaviour_logp` [T, B] among the extras.
            m_steps: gradient steps of the policy on the same E-step; None: the configuration's.

        Returns:
            Metrics. A batch that leads to something that is not finite is left out from there on, counted
            (`train/skipped`) and warned of.

        Raises:
            NonFiniteError: more than 100 batches in a row were left out; the message names what was not
                finite.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        self.follow()
        batch = batch.with_float_obs(self.byte_range)
        row_weights = weights_of_valid(batch.valid)
        try:
            improved = self._targets(batch)
            _require_finite({name: value.sum() for name, value in improved.items()})
            metrics = self._critic_step(batch, improved["targets"], row_weights)
            steps = self.config.m_steps if m_steps is None else m_steps
            metrics |= self._policy_steps(batch, improved, row_weights, steps)
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
                f"MPO: {bad} not finite in {self._skipped_in_a_row} batches in a row, after update "
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
        """What the target networks say of a batch: the critic's `targets` [T, B]; `q_values` [T·B, S] of the
        E-step, and π' by its parameters."""
        length, size = batch.rewards.shape
        states = length * size  # those that a transition was made from
        obs = batch.obs.flatten(0, 1)  # [(T+1) B, obs_dim]
        policy: ActionPolicy = self.target_policy(obs)
        answer = self.improvement.ask(policy, list(self.target_critics), obs)
        taken = policy_over(policy, lambda field: field[:states])
        executed, raw = batch.actions.flatten(0, 1), batch.extras["raw_actions"].flatten(0, 1)
        q_taken = lowest([critic(obs[:states], executed) for critic in self.target_critics])
        targets = ops.retrace(
            batch.rewards,
            q_taken.view(length, size),
            answer.values.view(length + 1, size)[1:],
            taken.log_prob(raw).view(length, size) - batch.extras["behaviour_logp"],
            batch.terminated,
            batch.truncated,
            gamma=self.config.gamma,
            retrace_lambda=self.config.retrace_lambda if self.config.use_retrace else 0.0,
            valid=batch.valid,
        )
        of_states = {name: value[:states] for name, value in answer.old.items()}
        return {"q_values": answer.q_values[:states], "targets": targets, **of_states}

    def _critic_step(self, batch: Sequences, targets: Tensor, row_weights: Tensor) -> dict[str, Tensor]:
        obs, actions = batch.obs[:-1].flatten(0, 1), batch.actions.flatten(0, 1)
        self._critic_weights.zero_grad()
        q_values = [critic(obs, actions) for critic in self.critics]
        loss = critic_loss(q_values, targets.flatten(), row_weights)
        backward(loss)
        norm = self._critic_weights.clip_grad_norm_(self.config.max_grad_norm)
        _require_finite({"loss/q": loss.detach(), "grad/q_norm": norm})
        self._critic_weights.step(self.critic_optimizer)
        return {
            "loss/q": loss.detach(),
            "grad/q_norm": norm,
            "q/target_mean": (row_weights * targets.flatten()).sum(),
        }

    def _policy_steps(
        self, batch: Sequences, improved: Mapping[str, Tensor], row_weights: Tensor, m_steps: int
    ) -> dict[str, Tensor]:
        """E-step, its temperatures, and `m_steps` of the policy with its multipliers."""
        q_values, log_prior = improved["q_values"], improved.get("log_prior")
        weights, dual_loss = e_step(q_values, self.temperature, row_weights, log_prior)
        metrics = {
            "mpo/temperature": self.temperature.value.detach().clone(),
            "mpo/ess": (row_weights / weights.square().sum(1)).sum(),
        }
        if self.penalty_temperature is not None:
            cost = out_of_bounds_cost(improved["actions"], self.low, self.high)  # [T·B, S]
            of_penalty, penalty_loss = e_step(cost, self.penalty_temperature, row_weights)
            weights, dual_loss = weights + of_penalty, dual_loss + penalty_loss
            metrics |= {
                "mpo/penalty_temperature": self.penalty_temperature.value.detach().clone(),
                "mpo/out_of_bounds": -(row_weights * cost.mean(1)).sum(),
            }
        metrics["loss/dual"] = dual_loss.detach()
        obs = batch.obs[:-1].flatten(0, 1)
        for step in range(m_steps):
            temperature_loss = dual_loss if step == 0 else None
            metrics |= self._m_step(obs, improved, weights, row_weights, temperature_loss)
        return metrics

    def _m_step(
        self,
        obs: Tensor,
        improved: Mapping[str, Tensor],
        weights: Tensor,
        row_weights: Tensor,
        temperature_loss: Tensor | None,
    ) -> dict[str, Tensor]:
        """One step of the policy and the multipliers, and of the temperatures where their loss is given."""
        policy: ActionPolicy = self.policy(obs)
        cross_entropy, kls = self.improvement.fit(policy, improved, weights)
        loss, alpha_loss, metrics = mpo_loss(cross_entropy, kls, self._alphas, row_weights)
        duals = alpha_loss if temperature_loss is None else alpha_loss + temperature_loss
        self._policy_weights.zero_grad()
        self.dual_optimizer.zero_grad()
        backward(loss)
        backward(duals)
        norm = self._policy_weights.clip_grad_norm_(self.config.max_grad_norm)
        losses = {"loss/policy": metrics["loss/policy"], "grad/policy_norm": norm}
        _require_finite(losses | {"loss/dual": duals.detach()})
        self._policy_weights.step(self.policy_optimizer)
        self.dual_optimizer.step()
        for multiplier in self._multipliers():
            multiplier.project_()
        metrics |= {f"mpo/alpha_{name}": alpha.value.detach().mean() for name, alpha in self._alphas.items()}
        entropy = (row_weights * policy.entropy()).sum().detach()
        return metrics | {"grad/policy_norm": norm, "train/entropy": entropy}

    @torch.no_grad()
    def _renew_targets(self) -> None:
        online = (self._policy_weights, self._critic_weights)
        for target, weights in zip(self._target_weights, online, strict=True):
            target.whole.copy_(weights.whole)

    # ----------------------------------------------------------------------------------------- state

    def _stateful(self) -> dict[str, Any]:
        names = ("policy", "critics", "target_policy", "target_critics", "temperature", "alphas")
        optimizers = ("policy_optimizer", "critic_optimizer", "dual_optimizer")
        parts = {name: getattr(self, name) for name in (*names, *optimizers)}
        if self.penalty_temperature is not None:
            parts["penalty_temperature"] = self.penalty_temperature
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Networks and their targets, multipliers, optimisers and counts."""
        counts = {"updates": self.updates, "skipped": self.skipped}
        return {name: part.state_dict() for name, part in self._stateful().items()} | counts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a learner of the same networks; learning rates stay as built."""
        load_parts(self._stateful(), state)
        self.updates, self.skipped = int(state["updates"]), int(state["skipped"])


class _NotFinite(ArithmeticError):
    """Names what is not finite in a batch."""


def _require_finite(named: Mapping[str, Tensor]) -> None:
    if bad := names_of_non_finite(named):
        raise _NotFinite(bad)
