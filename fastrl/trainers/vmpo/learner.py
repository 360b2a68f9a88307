"""The V-MPO learner: networks, multipliers, optimisers, acting and learning. It knows no environment."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from fastrl import ops
from fastrl.losses.dae import ActingPolicy
from fastrl.losses.multiplier import Multiplier
from fastrl.losses.value import explained_variance, standardize
from fastrl.losses.vmpo import e_step
from fastrl.memory.make import Agent
from fastrl.nn.kept import KeptParameters
from fastrl.nn.precision import without_autocast
from fastrl.runs.advantage_fit import fit_advantages
from fastrl.runs.optimizers import backward, build_optimizer, load_parts, require_finite_step
from fastrl.trainers.vmpo.batch import VMPORows, VMPOSegments
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.gradients import ROWS_PER_BLOCK, accumulate_gradients
from fastrl.trainers.vmpo.networks import (
    ActorCritic,
    AdvantageNetwork,
    CategoricalPolicy,
    DiagonalGaussianPolicy,
)

ActionKind = Literal["continuous", "discrete", "multi_discrete"]

MULTIPLIER_EPS = 1e-8  # the gradient of a multiplier is ε − KL, often below the networks' 1e-5


class VMPOLearner:
    """V-MPO: policy iteration on visited states with a weighted maximum-likelihood step inside a KL bound.

    With D~ the valid rows of the larger advantages and π_old the policy that acted:

    ψ_i = exp(A_i/η) / Σ_D~ exp(A_j/η)
    L = −Σ_D~ ψ_i log π(a_i|s_i) + Σ_k sg(α_k) KL_k(π_old ‖ π) + ½ mean (V − G)²
    L_η = η ε_η + η log mean_D~ exp(A_i/η),   L_α = Σ_k α_k (ε_k − sg(KL_k))

    KL_k is the mean over all valid rows; for continuous actions it has a mean and a covariance part with
    multipliers and bounds of their own, for discrete actions it is one number, bounded by `epsilon_mu`. The
    functions are in `fastrl.losses.vmpo`.

    One update makes one temperature step and `m_steps` steps of policy, value function and multipliers on the
    whole batch. At the first of them π = π_old and the KL is 0, so the bound only acts with `m_steps` > 1,
    several updates per batch, or `target_update_period` > 1.

    Where this departs from the paper: π_old is renewed after every update unless `target_update_period` is
    larger; the value function learns from scaled rewards (the trainer's reward normalisation), and through
    PopArt with `value_normalization` only; advantages are standardised over the batch unless
    `normalize_advantages` is off; gradients are clipped.

    Args:
        config: the settings, in range; those of environments and runs are not used.
        obs_dim: features of an observation.
        act_dim: A, action dimensions, or the number of actions when they are discrete; of several branches
            the sum of their choices.
        device: where networks and updates live.
        action_kind: "continuous", "discrete" or "multi_discrete".
        agent: policy and value function that remember; None: networks without memory are made.
        nvec: choices of each branch of a multi-discrete action, whose branches are independent: log π and KL
            are sums over them.
        mask_size: numbers at the end of an observation that say which choices are allowed.

    Attributes:
        policy: π and V, which learn; with memory the agent.
        acting_policy: π_old, which acts: `policy` itself, or a frozen copy with `target_update_period` > 1.
        advantage_network: f of direct advantage estimation; None without it.
        temperature: η with its bound.
        alphas: the KL multipliers with their bounds, by the name of their part: "mean" (or the whole of a
            categorical KL) and "std".
        updates: calls of `learn` so far.

    Reference: Song et al. 2019, "V-MPO: On-Policy Maximum a Posteriori Policy Optimization for Discrete and
        Continuous Control".
    """

    def __init__(
        self,
        config: VMPOConfig,
        obs_dim: int,
        act_dim: int,
        device: torch.device,
        action_kind: ActionKind = "continuous",
        agent: Agent | None = None,
        nvec: Sequence[int] = (),
        mask_size: int = 0,
    ) -> None:
        self.config = config
        self.nvec, self.mask_size = tuple(nvec), mask_size
        self.agent = None if agent is None else agent.to(device)
        self.obs_dim, self.act_dim = obs_dim, act_dim
        self.device = torch.device(device)
        self.discrete = action_kind != "continuous"
        self.updates = 0
        self.policy: Any = self._make_policy() if self.agent is None else self.agent
        self.acting_policy = self._acting_copy()
        self.temperature = Multiplier(config.temperature_init, config.epsilon_eta).to(self.device)
        self.alphas = self._make_multipliers()
        of_policy, of_value = self._split_parameters()
        groups = {"policy": (of_policy, config.policy_lr), "value": (of_value, config.value_lr)}
        self.advantage_network: AdvantageNetwork | None = None
        if config.advantage_estimator == "dae":
            self.advantage_network = AdvantageNetwork(
                obs_dim, act_dim, config.value_layer_sizes, discrete=self.discrete, nvec=self.nvec
            ).to(self.device)
            rate = config.value_lr if config.advantage_lr is None else config.advantage_lr
            groups["advantage"] = (list(self.advantage_network.parameters()), rate)
        self._parameters = {name: parameters for name, (parameters, _) in groups.items()}
        self._weights = KeptParameters(self._learned())
        networks = [{"params": parameters, "lr": rate} for parameters, rate in groups.values()]
        self.optimizer = build_optimizer(config, networks, config.policy_lr)
        multipliers = {"eps": MULTIPLIER_EPS}
        self.temperature_optimizer = build_optimizer(
            config, self.temperature.parameters(), config.temperature_lr, **multipliers
        )
        self.alpha_optimizer = build_optimizer(
            config, self.alphas.parameters(), config.alpha_lr, **multipliers
        )

    # --------------------------------------------------------------------------------- construction

    def _make_policy(self) -> ActorCritic:
        config = self.config
        sizes = (config.policy_layer_sizes, config.value_layer_sizes, config.shared_encoder)
        policy: ActorCritic = (
            CategoricalPolicy(self.obs_dim, self.act_dim, *sizes, nvec=self.nvec, mask_size=self.mask_size)
            if self.discrete
            else DiagonalGaussianPolicy(self.obs_dim, self.act_dim, *sizes)
        )
        policy.obs_normalizer.clip = config.clip_observation if config.normalize_observation else None
        if isinstance(policy, DiagonalGaussianPolicy):
            nn.init.constant_(policy.policy_logstd, config.log_std_init)
        if config.value_normalization == "popart":
            policy.normalize_values(config.popart_rate)
        return policy.to(self.device)

    def _split_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the policy with all that it shares, and those that only the value loss moves."""
        if self.agent is None:
            return self.policy.policy_parameters(), self.policy.value_parameters()
        of_value = list(self.agent.critic.parameters())
        value = {id(parameter) for parameter in of_value}
        return [parameter for parameter in self.agent.parameters() if id(parameter) not in value], of_value

    def _make_multipliers(self) -> nn.ModuleDict:
        config = self.config
        parts = {"mean": Multiplier(config.alpha_mu_init, config.epsilon_mu)}
        if not self.discrete:
            parts["std"] = Multiplier(config.alpha_sigma_init, config.epsilon_sigma)
        return nn.ModuleDict(parts).to(self.device)

    def _acting_copy(self) -> Any:
        """π_old: the learned policy itself, or a frozen copy that shares the observation statistics."""
        if self.config.target_update_period == 1:
            return self.policy
        frozen = copy.deepcopy(self.policy).requires_grad_(False)
        frozen.obs_normalizer = self.policy.obs_normalizer
        return frozen

    def _learned(self) -> list[nn.Module]:
        networks: list[nn.Module] = [self.policy]
        if self.advantage_network is not None:
            networks.append(self.advantage_network)
        return [*networks, self.temperature, self.alphas]

    def follow(self) -> None:
        """Follow parameters that were replaced; every update calls it.

        See `fastrl.nn.kept`; SettingError if that cannot be.
        """
        self._weights.follow(self._learned())
        if self.config.target_update_period == 1:
            self.acting_policy = self.policy
        else:
            self.acting_policy.obs_normalizer = self.policy.obs_normalizer

    # --------------------------------------------------------------------------- acting, estimation

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions of the acting policy at obs [B, obs_dim], not normalised: [B, A], or [B] int64.

        Samples, or the mode if `deterministic`.
        """
        distribution = self.acting_policy.distribution(obs)
        return distribution.mode() if deterministic else distribution.sample()

    @without_autocast
    @torch.no_grad()
    def values_of(self, obs: Tensor) -> Tensor:
        """State values [...] of observations [..., obs_dim], in row blocks that stay in cache."""
        rows = obs.reshape(-1, self.obs_dim)
        values = torch.cat([self.policy.get_value(block) for block in rows.split(ROWS_PER_BLOCK)])
        return values.view(obs.shape[:-1])

    def estimate(self, segments: VMPOSegments) -> tuple[Tensor, Tensor]:
        """(advantages, returns), each [T, N], by "returns" or "gae"; see `fastrl.ops.gae`."""
        config = self.config
        return ops.gae(
            segments.rewards,
            segments.values,
            segments.terminated,
            segments.truncated,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda if config.advantage_estimator == "gae" else 1.0,
            valid=segments.valid,
        )

    # ------------------------------------------------------------------------------------ learning

    @without_autocast
    def fit_advantages(self, segments: VMPOSegments) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """With "dae": fit Â and V together on a rollout, before the policy learns from it.

        See `fastrl.runs.advantage_fit`.

        Returns:
            (advantages [T, N], what V(s_t) is fitted to [T, N], metrics).

        Raises:
            NonFiniteError: the loss or its gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that the optimiser cannot follow.
        """
        self.follow()
        return fit_advantages(
            self._fit_terms, self._fit_step, segments, VMPOSegments.minibatches, self.config
        )

    def _fit_terms(self, segments: VMPOSegments) -> tuple[Tensor, Tensor, ActingPolicy]:
        """f, V(s_t) and the policy that acted of a rollout."""
        assert self.advantage_network is not None
        rows, sizes = segments.obs.flatten(0, 1), segments.rewards.shape
        outputs = self.advantage_network(self.policy.obs_normalizer(rows)).unflatten(0, sizes)
        return outputs, self.policy.get_value(rows).view(sizes), segments.acted

    def _fit_step(self, loss: Tensor) -> dict[str, Tensor]:
        """One gradient step of advantage and value function."""
        self.optimizer.zero_grad()
        backward(loss)
        for parameter in self._parameters["policy"]:
            # a shared encoder is moved by M-steps only: π is still to be the policy that acted
            parameter.grad = None
        metrics = {"loss/dae": loss.detach(), "grad/dae_norm": self._clip("value", "advantage")}
        require_finite_step("V-MPO", self.updates, metrics)
        self.optimizer.step()
        return metrics

    @without_autocast
    def learn(self, rows: VMPORows) -> dict[str, Tensor]:
        """One update on a batch of visited states.

        Args:
            rows: M ≥ 1 transitions.

        Returns:
            Metrics, 0-d: losses and gradient norms averaged over the M-steps, KLs as they were found last
            (before the last step).

        Raises:
            NonFiniteError: a loss or gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        self.follow()
        on_scale = not self.config.normalize_advantages or self.advantage_network is not None
        advantages = rows.advantages if on_scale else standardize(rows.advantages)
        psi, dual_loss, metrics = e_step(
            advantages, self.temperature, self.config.topk_fraction, rows.log_importance
        )
        require_finite_step("V-MPO", self.updates, {"loss/dual": dual_loss.detach()})
        if self.agent is None and (popart := self.policy.popart) is not None:
            popart.update(rows.returns, self.policy.value_head)
            rows = replace(rows, returns=popart.normalize(rows.returns))
        steps: list[dict[str, Tensor]] = []
        while len(steps) < self.config.m_steps:
            kls, step = self._m_step(rows, psi, may_stop=bool(steps))
            if step is None:
                break
            steps.append(step)
            rows = replace(rows, unmoved=False)
        self._step_temperature(dual_loss)
        self.updates += 1
        if self.acting_policy is not self.policy and self.updates % self.config.target_update_period == 0:
            self.acting_policy.load_state_dict(self.policy.state_dict())
        metrics |= {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}
        metrics["vmpo/m_steps"] = torch.tensor(float(len(steps)))
        return metrics | self._kl_metrics(kls) | {"vmpo/temperature": self.temperature().detach()}

    def _m_step(
        self, rows: VMPORows, psi: Tensor, *, may_stop: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """One gradient step of policy, value function and multipliers on all rows.

        Returns:
            (the KLs before the step; its other metrics, None where `kl_stop` forbade the step).
        """
        multipliers = self._multipliers
        self.optimizer.zero_grad()
        sums = accumulate_gradients(self.policy, rows, psi, multipliers)
        kls = {name: sums.pop(f"kl/{name}") for name in multipliers}
        limit = self.config.kl_stop if may_stop else None
        if limit is not None and any(kls[name] > limit * part.bound for name, part in multipliers.items()):
            return kls, None
        self.alpha_optimizer.zero_grad()
        alpha_loss = torch.stack([part.loss(kls[name]) for name, part in multipliers.items()]).sum()
        backward(alpha_loss)
        bias, entropy = sums.pop("bias"), sums.pop("train/entropy")
        total = torch.stack(list(sums.values())).sum()
        losses = {"loss/total": total, **sums, "loss/alpha": alpha_loss.detach()}
        norms = {f"grad/{name}_norm": self._clip(name) for name in ("policy", "value")}
        require_finite_step("V-MPO", self.updates, losses | norms)
        self.optimizer.step()
        self.alpha_optimizer.step()
        for part in multipliers.values():
            part.project_()
        residual_variance = 2.0 * losses["loss/value"] - bias.square()
        return kls, {
            **losses,
            **norms,
            "train/entropy": entropy,
            "train/explained_variance": explained_variance(rows.returns, residual_variance),
        }

    def _step_temperature(self, loss: Tensor) -> None:
        self.temperature_optimizer.zero_grad()
        backward(loss)
        self.temperature_optimizer.step()
        self.temperature.project_()

    def _clip(self, *names: str) -> Tensor:
        """Clip the gradients of these networks by the norm of all of them together; returns the norm before,
        0-d."""
        parameters = [parameter for name in names for parameter in self._parameters[name]]
        return nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)

    @property
    def _multipliers(self) -> dict[str, Multiplier]:
        return cast("dict[str, Multiplier]", dict(self.alphas.items()))

    def _kl_metrics(self, kls: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each part of the KL in nats and over its bound, its multiplier, and the sum of the parts."""
        metrics = {"train/approx_kl": torch.stack(list(kls.values())).sum()}
        for name, part in self._multipliers.items():
            metrics |= {
                f"kl/{name}": kls[name],
                f"vmpo/kl_{name}_rel": kls[name] / part.bound,
                f"vmpo/alpha_{name}": part().detach(),
            }
        return metrics

    # --------------------------------------------------------------------------------------- state

    def _stateful(self) -> dict[str, Any]:
        names = ("policy", "temperature", "alphas", "optimizer", "temperature_optimizer", "alpha_optimizer")
        parts = {name: getattr(self, name) for name in names}
        if self.advantage_network is not None:
            parts["advantage_network"] = self.advantage_network
        return parts if self.acting_policy is self.policy else parts | {"acting_policy": self.acting_policy}

    def state_dict(self) -> dict[str, Any]:
        """Networks with their observation statistics, multipliers, optimisers and the update count."""
        state = {name: part.state_dict() for name, part in self._stateful().items()}
        return state | {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a learner of the same networks.

        Learning rates and the like stay as this learner was built.
        """
        load_parts(self._stateful(), state)
        self.updates = int(state["updates"])
