"""Direct advantage estimation for V-MPO: the network of Â, a rollout of whole environments to train it on,
and the fit itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastrl.losses.dae import advantage_scale, centred_advantages, dae_loss
from fastrl.nn.containers import AdvantageLinear
from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution
from fastrl.nn.layers import mlp
from fastrl.nn.precision import without_autocast
from fastrl.nn.sequence import run_layers
from fastrl.runs.optimizers import backward, require_finite_step
from fastrl.trainers.vmpo.policy import ActorCritic


@dataclass(frozen=True, slots=True)
class Segments:
    """T steps of N environments, on the learner's device. Rows of one environment stay together and in order,
    so pieces stay whole.

    Args:
        obs: [T, N, obs_dim] float32.
        actions: [T, N, A] float32, or [T, N] int64 when discrete.
        acted: the policy that chose the actions, over [T, N].
        rewards: [T, N] float32.
        bootstrap: [T+1, N] float32, V as it was when the rollout was made; row t+1 is of what followed step
            t, before any reset.
        terminated, truncated, valid: [T, N] bool.
    """

    obs: Tensor
    actions: Tensor
    acted: Distribution
    rewards: Tensor
    bootstrap: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor

    def of(self, envs: Tensor) -> Segments:
        """The rollout of some environments, by index [n]."""
        return Segments(
            self.obs[:, envs],
            self.actions[:, envs],
            _of(self.acted, envs),
            self.rewards[:, envs],
            self.bootstrap[:, envs],
            self.terminated[:, envs],
            self.truncated[:, envs],
            self.valid[:, envs],
        )

    def mini_batches(self, count: int) -> Iterator[Segments]:
        """The environments in random order, in `count` groups of nearly the same size, but at most one for
        each environment.

        One group is the rollout itself.
        """
        envs = self.rewards.shape[1]
        if min(count, envs) == 1:
            yield self
            return
        for group in torch.randperm(envs, device=self.rewards.device).tensor_split(min(count, envs)):
            yield self.of(group)


def _of(acted: Distribution, envs: Tensor) -> Distribution:
    if isinstance(acted, Categorical):
        return Categorical(acted.logits[:, envs])
    return DiagonalGaussian(
        acted.mean[:, envs], acted.log_std if acted.log_std.dim() == 2 else acted.log_std[:, envs]
    )


class AdvantageNetwork(nn.Module):
    """f(s, ·) behind tanh layers; `fastrl.losses.dae` makes Â of it.

    Args:
        obs_dim: features of an observation, which comes in normalised.
        act_dim: A, action dimensions, or the number of actions when they are discrete.
        layer_sizes: widths of the hidden layers.
        discrete: whether actions are.
    """

    def __init__(self, obs_dim: int, act_dim: int, layer_sizes: tuple[int, ...], *, discrete: bool) -> None:
        super().__init__()
        self.encoder = mlp(obs_dim, layer_sizes)
        space = "discrete" if discrete else "continuous"
        self.head = AdvantageLinear(
            layer_sizes[-1] if layer_sizes else obs_dim, {"space": space, "shape": act_dim}
        )

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, obs_dim] to [B, A], or to Hermite coefficients [B, A, 2]."""
        return run_layers((self.encoder, self.head), obs)


def scaled_advantages(outputs: Tensor, segments: Segments, *, scale: bool) -> tuple[Tensor, Tensor]:
    """(Â [T, N], sqrt(mean_s E_π Â²) 0-d), the first over the second if `scale`.

    Args:
        outputs: of the network at all rows, [T, N, A] or [T, N, A, 2].
        segments: the rollout.
        scale: put advantages on a common scale. Their mean is not taken out: it is 0 under the policy in each
            state as it is.
    """
    advantages = centred_advantages(outputs, segments.acted, segments.actions)
    deviation = advantage_scale(outputs, segments.acted, segments.valid)
    return advantages / deviation if scale else advantages, deviation


class AdvantageFitting:
    """The part of `VMPOAgent` that fits Â and V to a rollout."""

    policy: ActorCritic
    advantage_network: AdvantageNetwork | None
    optimizer: torch.optim.Optimizer
    gamma: float
    normalize_advantages: bool
    dae_epochs: int
    dae_mini_batches: int
    dae_lambda: float
    updates: int
    _parameters: Mapping[str, Sequence[nn.Parameter]]
    _clip: Callable[..., Tensor]
    follow: Callable[[], None]

    @without_autocast
    def fit_advantages(self, segments: Segments) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """With "dae": fit Â and V together on a rollout, `dae_epochs` times, and look at Â afterwards. The
        policy does not move.

        Minibatches without a transition are passed over: their gradient is 0, but the optimiser's momentum
        would move the networks.

        Returns:
            (Â [T, N], over sqrt(mean_s E_π Â²) with `normalize_advantages`; what V(s_t) is fitted to with
            this Â, [T, N]; metrics).

        Raises:
            NonFiniteError: the loss or its gradient is not finite; that gradient step was not taken.
            SettingError: parameters have changed so that the optimiser cannot follow.
        """
        self.follow()
        parts = (
            part for _ in range(self.dae_epochs) for part in segments.mini_batches(self.dae_mini_batches)
        )
        steps = [self._critic_step(part) for part in parts if bool(part.valid.any())]
        with torch.no_grad():
            loss, targets, outputs = self._dae_loss(segments)
            advantages, scale = scaled_advantages(outputs, segments, scale=self.normalize_advantages)
        metrics = {
            name: torch.stack([step[name] for step in steps]).mean() for name in (steps[0] if steps else ())
        }
        return advantages, targets, metrics | {"dae/loss_after": loss, "dae/advantage_std": scale}

    def _critic_step(self, segments: Segments) -> dict[str, Tensor]:
        """One gradient step of advantage and value function on whole environments."""
        self.optimizer.zero_grad()
        loss = self._dae_loss(segments)[0]
        backward(loss)
        for parameter in self._parameters["policy"]:
            parameter.grad = (
                None  # a shared encoder is moved by M-steps only: π is still to be the policy that acted
            )
        metrics = {"loss/dae": loss.detach(), "grad/dae_norm": self._clip("value", "advantage")}
        require_finite_step("VMPOAgent", self.updates, metrics)
        self.optimizer.step()
        return metrics

    def _dae_loss(self, segments: Segments) -> tuple[Tensor, Tensor, Tensor]:
        """(loss 0-d; what V(s_t) is fitted to [T, N]; what the advantage network says [T, N, ...])."""
        assert self.advantage_network is not None
        rows, sizes = segments.obs.flatten(0, 1), segments.rewards.shape
        outputs = self.advantage_network(self.policy.obs_normalizer(rows)).unflatten(0, sizes)
        advantages = centred_advantages(outputs, segments.acted, segments.actions)
        values = self.policy.get_value(rows).view(sizes)
        given = (
            advantages,
            values,
            segments.rewards,
            segments.bootstrap,
            segments.terminated,
            segments.truncated,
        )
        return *dae_loss(*given, gamma=self.gamma, dae_lambda=self.dae_lambda, valid=segments.valid), outputs
