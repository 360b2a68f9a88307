"""Networks of actor-critic methods with replay: a torso and critics of state and action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastrl import ops
from fastrl.nn.linear import Linear, linear

ROWS_PER_BLOCK = 1024  # rows of a pass without gradient, so that activations stay in cache


def small_init(layer: Linear) -> Linear:
    """The layer with uniform weights of variance 0.01² / inputs and bias 0: outputs near 0."""
    nn.init.uniform_(
        layer.weight, -0.01 * (3 / layer.in_features) ** 0.5, 0.01 * (3 / layer.in_features) ** 0.5
    )
    nn.init.zeros_(layer.bias)
    return layer


class Torso(nn.Module):
    """Linear, layer norm, tanh, then linear layers with ELU; without layer norm, linear layers with ReLU.

    Args:
        input_dim: features of the input.
        layer_sizes: widths, at least one.
        layer_norm: which of the two.

    Reference: Hoffman et al. 2020, "Acme: A Research Framework for Distributed Reinforcement Learning"
        (LayerNormMLP).
    """

    def __init__(self, input_dim: int, layer_sizes: Sequence[int], *, layer_norm: bool = True) -> None:
        super().__init__()
        self.first = Linear(input_dim, layer_sizes[0])
        self.norm = nn.LayerNorm(layer_sizes[0]) if layer_norm else None
        self.rest = nn.ModuleList(
            Linear(a, b) for a, b in zip(layer_sizes[:-1], layer_sizes[1:], strict=True)
        )
        self.width = layer_sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, input_dim] to [B, width]."""
        return self.behind_first(self.first(x))

    def behind_first(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """What the first layer gave, [B, layer_sizes[0]], to [B, width]; `shift` as in `activated`."""
        x = self.activated(x, shift)
        for layer in self.rest:
            x = ops.elu(layer(x)) if self.norm is not None else functional.relu(layer(x))
        return x

    def behind_first_in_bfloat16(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """`behind_first` with matrix products of bfloat16, without gradient.

        What is between them stays float32.
        """
        x = self.activated(x, shift)
        for layer in cast("list[Linear]", list(self.rest)):
            weight, bias = layer.weight.bfloat16(), layer.bias.bfloat16()
            x = functional.linear(x.bfloat16(), weight, bias).float()
            x = ops.elu(x) if self.norm is not None else functional.relu(x)
        return x

    def activated(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Activation of the first layer's x [B, layer_sizes[0]], to B / G rows each of `shift` added before.

        `shift` is [G, layer_sizes[0]].
        """
        if self.norm is None:
            if shift is not None:
                x = (x.unflatten(0, (len(shift), -1)) + shift.unsqueeze(1)).flatten(0, 1)
            return functional.relu(x)
        if shift is None and torch.is_grad_enabled():
            return ops.tanh(self.norm(x))  # the gradient of the two is faster
        return ops.layer_norm_tanh(x, self.norm.weight, self.norm.bias, shift=shift, eps=self.norm.eps)


class Critic(nn.Module):
    """Q(s, a) of continuous actions.

    Args:
        obs_dim: features of an observation.
        act_dim: A.
        layer_sizes: widths of the torso over observation and action side by side.
        layer_norm: see `Torso`.
    """

    def __init__(
        self, obs_dim: int, act_dim: int, layer_sizes: Sequence[int], *, layer_norm: bool = True
    ) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        self.torso = Torso(obs_dim + act_dim, layer_sizes, layer_norm=layer_norm)
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


def lowest(values: Sequence[Tensor]) -> Tensor:
    """The lower of two critics' values, entry by entry; those of a single critic as they are."""
    return values[0] if len(values) == 1 else torch.minimum(*values)


@contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """The module's parameters take no gradient from what is computed inside; what flows through it does."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
