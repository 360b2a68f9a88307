"""MPO's policy and critic: a linear layer with layer norm and tanh, then ELU layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl import ops
from fastrl.autograd import transformed
from fastrl.nn.distributions import Categorical, DiagonalGaussian
from fastrl.nn.linear import Linear, linear

LOWEST_LOG_STD, HIGHEST_LOG_STD = -20.0, 2.0
ROWS_PER_BLOCK = 1024  # rows of a pass without gradient, so that activations stay in cache


def small_init(layer: Linear) -> Linear:
    """The layer with uniform weights of variance 0.01² / inputs and bias 0: outputs near 0."""
    nn.init.uniform_(
        layer.weight, -0.01 * (3 / layer.in_features) ** 0.5, 0.01 * (3 / layer.in_features) ** 0.5
    )
    nn.init.zeros_(layer.bias)
    return layer


class Torso(nn.Module):
    """Linear, layer norm, tanh; then linear layers with ELU.

    Args:
        input_dim: features of the input.
        layer_sizes: widths, at least one.

    Reference: Hoffman et al. 2020, "Acme: A Research Framework for Distributed Reinforcement Learning"
        (LayerNormMLP).
    """

    def __init__(self, input_dim: int, layer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.first = Linear(input_dim, layer_sizes[0])
        self.norm = nn.LayerNorm(layer_sizes[0])
        self.rest = nn.ModuleList(
            Linear(a, b) for a, b in zip(layer_sizes[:-1], layer_sizes[1:], strict=True)
        )
        self.width = layer_sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, input_dim] to [B, width]."""
        return self.behind_first(self.first(x))

    def behind_first(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """What the first layer gave, [B, layer_sizes[0]], to [B, width]; `shift` as in `normalised`."""
        x = self.normalised(x, shift)
        for layer in self.rest:
            x = ops.elu(layer(x))
        return x

    def behind_first_in_bfloat16(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """`behind_first` with matrix products of bfloat16; what is between them stays float32. Without
        gradient."""
        x = self.normalised(x, shift)
        for layer in cast("list[Linear]", list(self.rest)):
            weight, bias = layer.weight.bfloat16(), layer.bias.bfloat16()
            x = ops.elu(functional.linear(x.bfloat16(), weight, bias).float())
        return x

    def normalised(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Layer norm and tanh of x [B, layer_sizes[0]], to B / G rows of which one of `shift` [G,
        layer_sizes[0]] is added before."""
        if shift is None and torch.is_grad_enabled():
            return ops.tanh(self.norm(x))  # the gradient of the two is faster
        return ops.layer_norm_tanh(x, self.norm.weight, self.norm.bias, shift=shift, eps=self.norm.eps)


class _Limited(torch.autograd.Function):
    """log σ within its limits; beyond them only a gradient that leads back comes through, so that it cannot
    get stuck there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _within_limits(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        leads_away = ((x > HIGHEST_LOG_STD) & (gradient < 0)) | ((x < LOWEST_LOG_STD) & (gradient > 0))
        return gradient.masked_fill(leads_away, 0.0)


def _within_limits(x: Tensor) -> Tensor:
    return torch.where(torch.isfinite(x), x.clamp(LOWEST_LOG_STD, HIGHEST_LOG_STD), x)


class GaussianPolicy(nn.Module):
    """π(a|s) = N(μ(s), diag(σ(s)²)), with log σ in [−20, 2].

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso.
        init_std: σ to start from, in policy units, for each dimension or all.
    """

    def __init__(self, obs_dim: int, act_dim: int, layer_sizes: Sequence[int], init_std: float = 0.5) -> None:
        super().__init__()
        self.act_dim = act_dim
        self.torso = Torso(obs_dim, layer_sizes)
        self.head = small_init(Linear(self.torso.width, 2 * act_dim))
        with torch.no_grad():
            self.head.bias[act_dim:] = torch.tensor(init_std).log()

    def forward(self, obs: Tensor) -> DiagonalGaussian:
        """The policy at obs [B, obs_dim]. What is not finite stays so: clamping must not hide it."""
        mean, log_std = self.head(self.torso(obs)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, _within_limits(log_std) if transformed() else _Limited.apply(log_std))


class DiscretePolicy(nn.Module):
    """π(a|s) over A actions.

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso.
    """

    def __init__(self, obs_dim: int, act_dim: int, layer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.torso = Torso(obs_dim, layer_sizes)
        self.head = small_init(Linear(self.torso.width, act_dim))

    def forward(self, obs: Tensor) -> Categorical:
        """The policy at obs [B, obs_dim]."""
        return Categorical(self.head(self.torso(obs)))


class Critic(nn.Module):
    """Q(s, a) of continuous actions.

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso over observation and action side by side.
    """

    def __init__(self, obs_dim: int, act_dim: int, layer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        self.torso = Torso(obs_dim + act_dim, layer_sizes)
        self.head = small_init(Linear(self.torso.width, 1))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Q [B] of obs [B, obs_dim] and actions [B, A]."""
        return self.head(self.torso(torch.cat([obs, actions], dim=-1))).squeeze(-1)

    @torch.no_grad()
    def of_samples(self, obs: Tensor, actions: Tensor, bfloat16: bool = False) -> Tensor:
        """Q [B, S] of S actions at each state, actions [B, S, A], without gradient.

        The observation's part of the first layer is worked out once for each state. `bfloat16` is for the
        products of the layers behind.
        """
        behind_first = self.torso.behind_first_in_bfloat16 if bfloat16 else self.torso.behind_first
        batch, samples, act_dim = actions.shape
        weight, bias = self.torso.first.weight, self.torso.first.bias
        of_obs = linear(obs, weight[:, : self.obs_dim], bias)  # [B, width]
        of_action = weight[:, self.obs_dim :]
        values = torch.empty(batch, samples, device=obs.device)
        states = max(ROWS_PER_BLOCK // samples, 1)
        for begin in range(0, batch, states):
            here = slice(begin, begin + states)
            first = linear(actions[here].reshape(-1, act_dim), of_action)
            values[here] = self.head(behind_first(first, of_obs[here])).view(-1, samples)
        return values


class DiscreteCritic(nn.Module):
    """Q(s, ·) of A discrete actions.

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso.
    """

    def __init__(self, obs_dim: int, act_dim: int, layer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.torso = Torso(obs_dim, layer_sizes)
        self.head = small_init(Linear(self.torso.width, act_dim))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Q [B] of obs [B, obs_dim] and actions [B] int64."""
        return self.of_all(obs).gather(1, actions.unsqueeze(1)).squeeze(1)

    def of_all(self, obs: Tensor) -> Tensor:
        """Q [B, A] of every action."""
        return self.head(self.torso(obs))


Policy = GaussianPolicy | DiscretePolicy
