"""Direct advantage estimation for V-MPO: the network of Â, and a rollout of whole environments to train it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastrl.losses.dae import advantage_scale, centred_advantages
from fastrl.nn.containers import AdvantageLinear
from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution
from fastrl.nn.layers import mlp
from fastrl.nn.sequence import run_layers


@dataclass(frozen=True, slots=True)
class Segments:
    """T steps of N environments, on the learner's device. Rows of one environment stay together and in order, so pieces stay whole.

    Args:
        obs: [T, N, obs_dim] float32.
        actions: [T, N, A] float32, or [T, N] int64 when discrete.
        acted: the policy that chose the actions, over [T, N].
        rewards: [T, N] float32.
        bootstrap: [T+1, N] float32, V as it was when the rollout was made; row t+1 is of what followed step t, before any reset.
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
        """The environments in random order, in `count` groups of nearly the same size, but at most one for each environment.

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
    return DiagonalGaussian(acted.mean[:, envs], acted.log_std if acted.log_std.dim() == 2 else acted.log_std[:, envs])


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
        self.head = AdvantageLinear(layer_sizes[-1] if layer_sizes else obs_dim, {"space": space, "shape": act_dim})

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, obs_dim] to [B, A], or to Hermite coefficients [B, A, 2]."""
        return run_layers((self.encoder, self.head), obs)


def scaled_advantages(outputs: Tensor, segments: Segments, *, scale: bool) -> tuple[Tensor, Tensor]:
    """(Â [T, N], sqrt(mean_s E_π Â²) 0-d), the first over the second if `scale`.

    Args:
        outputs: of the network at all rows, [T, N, A] or [T, N, A, 2].
        segments: the rollout.
        scale: put advantages on a common scale. Their mean is not taken out: it is 0 under the policy in each state as it is.
    """
    advantages = centred_advantages(outputs, segments.acted, segments.actions)
    deviation = advantage_scale(outputs, segments.acted, segments.valid)
    return advantages / deviation if scale else advantages, deviation
