"""The V-MPO learner: networks, duals, optimisers, `act` and `update`. It knows no environment."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastrl import ops
from fastrl.errors import SettingError
from fastrl.losses.mpo import (
    Dual,
    e_step_weights,
    kl_metrics,
    multiplier_loss,
    temperature_loss,
    top_fraction,
)
from fastrl.losses.value import explained_variance, standardize
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.kept import KeptParameters
from fastrl.nn.layers import layer_init
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.optimizers import backward, load_parts, require_finite_step
from fastrl.trainers.vmpo.batch import Rows, rows_from_batch
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.direct_advantage import AdvantageFitting, AdvantageNetwork
from fastrl.trainers.vmpo.gradients import ROWS_PER_BLOCK, accumulate_gradients
from fastrl.trainers.vmpo.policy import ActorCritic, CategoricalPolicy, DiagonalGaussianPolicy

__all__ = ["CategoricalPolicy", "DiagonalGaussianPolicy", "VMPOAgent", "layer_init"]

DUAL_EPS = 1e-8  # the gradient of a multiplier is ε − KL, often below the networks' 1e-5


class VMPOAgent(AdvantageFitting):
    """V-MPO: policy iteration on visited states with a weighted maximum-likelihood step inside a KL bound.

    With D~ the valid rows of the larger advantages and π_old the policy that acted:

    ψ_i = exp(A_i/η) / Σ_D~ exp(A_j/η)
    L = −Σ_D~ ψ_i log π(a_i|s_i) + Σ_k sg(α_k) KL_k(π_old ‖ π) + ½ mean (V − G)²
    L_η = η ε_η + η log mean_D~ exp(A_i/η),   L_α = Σ_k α_k (ε_k − sg(KL_k))

    KL_k is the mean over all valid rows; for continuous actions it has a mean and a covariance part with
    multipliers and bounds of their own, for discrete actions it is one number, bounded by `epsilon_mu`.

    One update makes one temperature step and `m_steps` steps of policy, value function and multipliers on the
    whole batch. At the first of them π = π_old and the KL is 0, so the bound only acts with `m_steps` > 1,
    several updates per batch, or `target_update_period` > 1.

    Where this departs from the paper: π_old is renewed after every update unless `target_update_period` is
    larger; the value function learns from scaled rewards (the trainer's reward normalisation) and not through
    PopArt; advantages are standardised over the batch unless `normalize_advantages` is off; gradients are
    clipped.

    Args:
        obs_dim: features of an observation.
        act_dim: A, action dimensions, or the number of actions when they are discrete.
        device: where networks and updates live.
        policy_layer_sizes, value_layer_sizes: widths of the hidden tanh layers.
        normalize_advantages: subtract the mean and divide by the standard deviation over valid rows; with
            "dae" divide by sqrt(mean_s E_π Â²) alone, in `fit_advantages`, and take those that `update` is
            given as they are.
        gamma: discount per environment step, in [0, 1].
        advantage_estimator: "returns" (bootstrapped Monte-Carlo return minus V), "gae", or "dae", Direct
            Advantage Estimation: Â from a network of its own (`value_layer_sizes`, `advantage_lr`), fitted
            together with V on each rollout before the policy learns from it.
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
            separately; in the fit of "dae" of value and advantage function together.
        optimizer_type: "adam" (ε = 1e-5; 1e-8 for temperature and multipliers) or "sgd".
        sgd_momentum: momentum of "sgd".
        shared_encoder: one encoder for policy and value function.
        m_steps: gradient steps on the batch per update.
        action_kind: "continuous" or "discrete".
        alpha_mu_init, alpha_sigma_init: KL multipliers to start from, in real units.
        target_update_period: T_target, updates between copies of the learned policy into the acting one,
            π_old. 1: the newest policy acts.
        initial_log_std: log σ to start from, of continuous actions, σ in policy units; discrete ones have
            none.
        kl_stop: leave out the remaining M-steps of an update as soon as a KL is found above this many times
            its bound; None never does.
        dae_epochs: with "dae", passes over a rollout.
        dae_mini_batches: with "dae", minibatches of a pass, each of whole environments; at most one for each
            environment.
        dae_lambda: with "dae", λ of the sums that Â and V are fitted to, in [0, 1]; 1: up to where the
            episode or the rollout ends.
        advantage_lr: with "dae", learning rate of the advantage function; None: `value_lr`. Lower averages
            over more rollouts.

    Raises:
        SettingError: a setting is out of range; the message names it.

    Reference: Song et al. 2019, "V-MPO: On-Policy Maximum a Posteriori Policy Optimization for Discrete and
        Continuous Control".
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
        action_kind: Literal["continuous", "discrete"] = "continuous",
        alpha_mu_init: float = 1.0,
        alpha_sigma_init: float = 1.0,
        target_update_period: int = 1,
        initial_log_std: float = 0.0,
        kl_stop: float | None = None,
        dae_epochs: int = 16,
        dae_mini_batches: int = 1,
        dae_lambda: float = 1.0,
        advantage_lr: float | None = None,
    ) -> None:
        given = {
            name: value
            for name, value in locals().items()
            if name in VMPOConfig.__dataclass_fields__ and name != "device"
        }
        require_float32_default()
        VMPOConfig(env_id="", **given).check()
        for name, size in (("obs_dim", obs_dim), ("act_dim", act_dim)):
            if size < 1:
                raise SettingError(f"{name} must be at least 1, got {size}")
        if action_kind not in ("continuous", "discrete"):
            raise SettingError(f'action_kind must be "continuous" or "discrete", got {action_kind!r}')

        self.obs_dim = obs_dim
        self.act_dim = act_dim
        self.device = torch.device(device)
        self.discrete = action_kind == "discrete"
        self.normalize_advantages = normalize_advantages
        self.gamma = gamma
        self.trace_lambda = gae_lambda if advantage_estimator == "gae" else 1.0
        self.dae_epochs = dae_epochs
        self.dae_mini_batches = dae_mini_batches
        self.dae_lambda = dae_lambda
        self.topk_fraction = topk_fraction
        self.epsilon_eta = epsilon_eta
        self.max_grad_norm = max_grad_norm
        self.m_steps = m_steps
        self.target_update_period = target_update_period
        self.kl_stop = kl_stop
        self.optimizer_type = optimizer_type
        self.sgd_momentum = sgd_momentum
        self.policy_lr = policy_lr
        self.updates = 0

        policy_type: type[ActorCritic] = CategoricalPolicy if self.discrete else DiagonalGaussianPolicy
        sizes: Any = (obs_dim, act_dim, policy_layer_sizes, value_layer_sizes, shared_encoder)
        self.policy = policy_type(*sizes).to(self.device)
        if isinstance(self.policy, DiagonalGaussianPolicy):
            nn.init.constant_(self.policy.policy_logstd, initial_log_std)
        self.acting_policy = self._acting_copy()
        self.temperature = Dual(temperature_init).to(self.device)
        self.epsilons = (epsilon_mu,) if self.discrete else (epsilon_mu, epsilon_sigma)
        self.alphas = nn.ModuleList(
            Dual(value) for value in (alpha_mu_init, alpha_sigma_init)[: len(self.epsilons)]
        ).to(self.device)
        groups = {
            "policy": (self.policy.policy_parameters(), policy_lr),
            "value": (self.policy.value_parameters(), value_lr),
        }
        self.advantage_network = None
        if advantage_estimator == "dae":
            self.advantage_network = AdvantageNetwork(
                obs_dim, act_dim, value_layer_sizes, discrete=self.discrete
            ).to(self.device)
            groups["advantage"] = (
                list(self.advantage_network.parameters()),
                value_lr if advantage_lr is None else advantage_lr,
            )
        self._parameters = {name: parameters for name, (parameters, _) in groups.items()}
        self._weights = KeptParameters(self._learned())
        self.optimizer = self._build_optimizer(
            [{"params": parameters, "lr": rate} for parameters, rate in groups.values()]
        )
        self.temperature_optimizer = self._build_optimizer(
            self.temperature.parameters(), temperature_lr, eps=DUAL_EPS
        )
        self.alpha_optimizer = self._build_optimizer(self.alphas.parameters(), alpha_lr, eps=DUAL_EPS)

    # ------------------------------------------------------------------------------------------------
    # construction

    def _build_optimizer(
        self, params: Iterable[Any], lr: float | None = None, *, eps: float = 1e-5
    ) -> torch.optim.Optimizer:
        """The configured optimiser over `params` (tensors or groups) with learning rate `lr` (`policy_lr`
        when None).

        Raises:
            SettingError: `optimizer_type` is neither "adam" nor "sgd".
        """
        rate = self.policy_lr if lr is None else lr
        if self.optimizer_type == "adam":
            return torch.optim.Adam(params, lr=rate, eps=eps, fused=True)
        if self.optimizer_type == "sgd":
            return torch.optim.SGD(params, lr=rate, momentum=self.sgd_momentum)
        raise SettingError(f'optimizer_type must be "adam" or "sgd", got {self.optimizer_type!r}')

    def follow(self) -> None:
        """Follow parameters that were replaced, see `fastrl.nn.kept`; SettingError if that cannot be. Every
        update does it by itself."""
        self._weights.follow(self._learned())
        if self.target_update_period == 1:
            self.acting_policy = self.policy
        else:
            self.acting_policy.obs_normalizer = self.policy.obs_normalizer

    def _learned(self) -> list[nn.Module]:
        networks: list[nn.Module] = (
            [self.policy] if self.advantage_network is None else [self.policy, self.advantage_network]
        )
        return [*networks, self.temperature, self.alphas]

    def _acting_copy(self) -> ActorCritic:
        """π_old: the learned policy itself, or a frozen copy that shares the observation statistics."""
        if self.target_update_period == 1:
            return self.policy
        frozen = copy.deepcopy(self.policy).requires_grad_(False)
        frozen.obs_normalizer = self.policy.obs_normalizer
        return frozen

    # ---------------------------------------------------------------------------------------- acting

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
            value a float, mean [A], log_std [A].
            Discrete: action is an int64 index, mean the logits [A], log_std an empty array [0]. Actions are
                in policy units, where
            finite bounds are −1 and 1 (see `fastrl.envs.ActionScale`), and not clipped to them.

        Raises:
            ValueError: obs has another shape.
        """
        rows, single = self._rows("act", obs)
        distribution = self.acting_policy.distribution(rows)
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

    def _rows(self, method: str, obs: Any) -> tuple[Tensor, bool]:
        rows, single = as_rows(f"VMPOAgent.{method}", obs, (self.obs_dim,), self.device)
        return rows.float(), single

    # ------------------------------------------------------------------------------------------------
    # estimation

    @without_autocast
    @torch.no_grad()
    def values_of(self, obs: Tensor) -> Tensor:
        """State values [...] of observations [..., obs_dim], in row blocks that stay in cache."""
        rows = obs.reshape(-1, self.obs_dim)
        return torch.cat([self.policy.get_value(block) for block in rows.split(ROWS_PER_BLOCK)]).view(
            obs.shape[:-1]
        )

    def estimate(
        self, rewards: Tensor, values: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(advantages, returns), each [T, N], by the configured estimator; values has T+1 rows. See
        `fastrl.ops.gae`."""
        return ops.gae(
            rewards,
            values,
            terminated,
            truncated,
            gamma=self.gamma,
            gae_lambda=self.trace_lambda,
            valid=valid,
        )

    # ------------------------------------------------------------------------------------------------
    # learning

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
            Metrics by name: losses and gradient norms averaged over the M-steps, KLs as they were found last
                (before the last step).

        Raises:
            ValueError: a key is missing or has the wrong shape, or no row is valid.
            NonFiniteError: a loss term or gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that their optimiser cannot follow.
        """
        rows = rows_from_batch(
            batch, obs_dim=self.obs_dim, act_dim=self.act_dim, discrete=self.discrete, device=self.device
        )
        return {name: float(value) for name, value in self.learn(rows).items()}

    @without_autocast
    def learn(self, rows: Rows) -> dict[str, Tensor]:
        """`update` on rows that are already checked; the metrics stay tensors."""
        self.follow()
        on_scale = not self.normalize_advantages or self.advantage_network is not None
        advantages = rows.advantages if on_scale else standardize(rows.advantages)
        psi, dual_loss, metrics = self._e_step(advantages, rows.log_importance)
        steps: list[dict[str, Tensor]] = []
        while len(steps) < self.m_steps:
            found, taken = self._m_step(rows, psi, may_stop=bool(steps))
            metrics |= found["kl"]
            if not taken:
                break
            steps.append(found["mean"])
            rows = replace(rows, unmoved=False)
        self._step_temperature(dual_loss)
        self.updates += 1
        if self.acting_policy is not self.policy and self.updates % self.target_update_period == 0:
            self.acting_policy.load_state_dict(self.policy.state_dict())
        metrics |= {name: torch.stack([step[name] for step in steps]).mean() for name in steps[0]}
        metrics |= {
            f"vmpo/alpha_{name}": alpha().detach()
            for name, alpha in zip(("mu", "sigma"), self.alphas, strict=False)
        }
        return metrics | {
            "vmpo/temperature": self.temperature().detach(),
            "vmpo/m_steps": torch.tensor(float(len(steps))),
        }

    def _e_step(
        self, advantages: Tensor, log_importance: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Weights ψ [M] (0 outside D~) at the present temperature, and the temperature's loss."""
        selected = top_fraction(advantages, self.topk_fraction)
        chosen = advantages[selected]
        log_chosen = None if log_importance is None else log_importance[selected]
        temperature = self.temperature()
        weights = e_step_weights(chosen, temperature, log_chosen)
        loss = temperature_loss(chosen, temperature, self.epsilon_eta, log_chosen)
        metrics = {
            "vmpo/dual_loss": loss.detach(),
            "vmpo/selected_frac": torch.tensor(selected.numel() / advantages.numel()),
            "vmpo/ess": weights.square().sum().reciprocal() / selected.numel(),
        }
        require_finite_step("VMPOAgent", self.updates, {"vmpo/dual_loss": loss.detach()})
        return torch.zeros_like(advantages).index_put_((selected,), weights), loss, metrics

    def _step_temperature(self, loss: Tensor) -> None:
        self.temperature_optimizer.zero_grad()
        backward(loss)
        self.temperature_optimizer.step()
        self.temperature.project_()

    def _m_step(
        self, rows: Rows, psi: Tensor, *, may_stop: bool
    ) -> tuple[dict[str, dict[str, Tensor]], bool]:
        """One gradient step of policy, value function and multipliers on all rows.

        Returns:
            Metrics from before the step, those to average over steps and the KLs; and whether the step was
            taken (`kl_stop` can forbid it).
        """
        self.optimizer.zero_grad()
        multipliers = [alpha() for alpha in self.alphas]
        policy_loss, value_loss, bias, entropy, *kls = accumulate_gradients(
            self.policy, rows, psi, [m.detach() for m in multipliers]
        )
        found = {"kl": kl_metrics(kls, self.epsilons), "mean": {}}
        if (
            may_stop
            and self.kl_stop is not None
            and any(kl > self.kl_stop * eps for kl, eps in zip(kls, self.epsilons, strict=True))
        ):
            return found, False
        self.alpha_optimizer.zero_grad()
        alpha_terms = [
            multiplier_loss(m, eps, kl) for m, eps, kl in zip(multipliers, self.epsilons, kls, strict=True)
        ]
        alpha_loss = torch.stack(alpha_terms).sum()
        backward(alpha_loss)
        penalty = torch.stack([m.detach() * kl for m, kl in zip(multipliers, kls, strict=True)]).sum()
        losses = {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "loss/kl": penalty,
            "loss/alpha": alpha_loss.detach(),
        }
        norms = {f"grad/{name}_norm": self._clip(name) for name in ("policy", "value")}
        require_finite_step("VMPOAgent", self.updates, losses | norms)
        self.optimizer.step()
        self.alpha_optimizer.step()
        for alpha in self.alphas:
            alpha.project_()  # type: ignore[operator]
        found["mean"] = {
            "loss/total": policy_loss + value_loss + penalty + alpha_loss.detach(),
            "train/entropy": entropy,
            "value/explained_var": explained_variance(rows.returns, 2.0 * value_loss - bias.square()),
            **losses,
            **norms,
        }
        return found, True

    def _clip(self, *names: str) -> Tensor:
        """Clip the gradients of these networks by the norm of all of them together; returns the norm before,
        0-d."""
        return nn.utils.clip_grad_norm_(
            [parameter for name in names for parameter in self._parameters[name]], self.max_grad_norm
        )

    # ----------------------------------------------------------------------------------------- state

    def _stateful(self) -> dict[str, Any]:
        parts = {
            "policy": self.policy,
            "temperature": self.temperature,
            "alphas": self.alphas,
            "optimizer": self.optimizer,
            "temperature_optimizer": self.temperature_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }
        if self.advantage_network is not None:
            parts["advantage_network"] = self.advantage_network
        return parts if self.acting_policy is self.policy else parts | {"acting_policy": self.acting_policy}

    def state_dict(self) -> dict[str, Any]:
        """Networks with their observation statistics, duals, optimisers and the update count."""
        return {name: part.state_dict() for name, part in self._stateful().items()} | {
            "updates": self.updates
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an agent of the same networks; learning rates and the like stay as
        this agent was built."""
        load_parts(self._stateful(), state)
        self.updates = int(state["updates"])
