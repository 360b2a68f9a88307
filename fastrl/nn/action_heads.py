"""Policies over the features of a network: branches of discrete actions, or a Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.masks import mask_in, masked_logits


class BranchedPolicy(Protocol):
    """A distribution over actions whose log-probability comes in parts, each with a ratio of its own."""

    def sample(self) -> Tensor:
        """A draw [B, branches], or [B, A] of a Gaussian."""

    def mode(self) -> Tensor:
        """The most probable action, shaped as `sample`."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability in nats of each branch [B, branches], or of a Gaussian action [B, 1]."""

    def entropy(self) -> Tensor:
        """Entropy [B] in nats, summed over branches or action dimensions."""


@dataclass(frozen=True, slots=True)
class Branches:
    """Independent categoricals, one for each branch of a discrete action.

    Args:
        choices: the categoricals over [B, n] logits each.
    """

    choices: tuple[Categorical, ...]

    def sample(self) -> Tensor:
        """Actions [B, branches] int64."""
        return torch.stack([choice.sample() for choice in self.choices], dim=-1)

    def mode(self) -> Tensor:
        """The most probable actions [B, branches] int64."""
        return torch.stack([choice.mode() for choice in self.choices], dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probabilities [B, branches] of actions [B, branches]."""
        return torch.stack([choice.log_prob(actions[:, i]) for i, choice in enumerate(self.choices)], dim=-1)

    def entropy(self) -> Tensor:
        """Entropy [B], the sum over branches."""
        first, *others = (choice.entropy() for choice in self.choices)
        return sum(others, start=first)


class JointBranches(Branches):
    """Independent categoricals whose log-probabilities are added up: one number for the whole action."""

    __slots__ = ()

    @classmethod
    def from_logits(cls, logits: Tensor, nvec: Sequence[int]) -> JointBranches:
        """The branches of logits [..., n₁ + n₂ + ...], side by side."""
        return cls(tuple(Categorical(part) for part in logits.split(list(nvec), dim=-1)))

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability [B] in nats of whole actions [B, branches]."""
        return Branches.log_prob(self, actions).sum(-1)

    def log_probs(self) -> Tensor:
        """Log-probabilities of all whole actions [..., n₁ n₂ …], numbered as `joint_numbers` does."""
        first, *others = (choice.log_probs() for choice in self.choices)
        for part in others:
            first = (first.unsqueeze(-1) + part.unsqueeze(-2)).flatten(-2)
        return first

    def branch_log_probs(self) -> Tensor:
        """Log-probabilities of each branch's choices, side by side [..., n₁ + n₂ + …]."""
        return torch.cat([choice.log_probs() for choice in self.choices], dim=-1)

    def samples(self, count: int) -> Tensor:
        """`count` draws for each of B rows, [B, count, branches] int64."""
        rows = (choice.logits.unsqueeze(1).expand(-1, count, -1) for choice in self.choices)
        return torch.stack([Categorical(logits).sample() for logits in rows], dim=-1)

    def centred(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """The branches' centred outputs, summed, [...].

        Outputs [..., n₁ + n₂ + ...] are side by side; actions are [..., branches].
        """
        parts = zip(self.choices, self._split(outputs), actions.unbind(-1), strict=True)
        return torch.stack([choice.centred(part, action) for choice, part, action in parts]).sum(0)

    def centred_variance(self, outputs: Tensor) -> Tensor:
        """The variance of `centred` over actions [...]; branches are independent."""
        parts = zip(self.choices, self._split(outputs), strict=True)
        return torch.stack([choice.centred_variance(part) for choice, part in parts]).sum(0)

    def _split(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return outputs.split([choice.logits.shape[-1] for choice in self.choices], dim=-1)

    def kl_parts(self, new: JointBranches) -> tuple[Tensor]:
        """KL(self ‖ new) [B] in nats as its only part, see `Categorical.kl_parts`."""
        return (self.kl(new),)

    def kl(self, new: JointBranches) -> Tensor:
        """KL(self ‖ new) [B] in nats, the sum over branches."""
        first, *others = (old.kl(other) for old, other in zip(self.choices, new.choices, strict=True))
        return sum(others, start=first)


Policy = Distribution | JointBranches


def joint_numbers(actions: Tensor, nvec: Sequence[int]) -> Tensor:
    """Numbers [...] of whole actions [..., branches] int64, the last branch counting first.

    They go from 0 to n₁ n₂ … − 1.
    """
    numbers = torch.zeros_like(actions[..., 0])
    for branch, choices in enumerate(nvec):
        numbers = numbers * choices + actions[..., branch]
    return numbers


def one_hot_branches(actions: Tensor, nvec: Sequence[int]) -> Tensor:
    """Whole actions [..., branches] as float32 [..., n₁ + n₂ + …], a 1 in each branch."""
    first = torch.tensor((0, *nvec[:-1]), device=actions.device).cumsum(0)
    flat = torch.zeros(*actions.shape[:-1], sum(nvec), device=actions.device)
    return flat.scatter_(-1, actions + first, 1.0)


def categorical(logits: Tensor, nvec: Sequence[int] = ()) -> Categorical | JointBranches:
    """One choice, or with `nvec` independent ones whose logits lie side by side."""
    return JointBranches.from_logits(logits, nvec) if nvec else Categorical(logits)


def distribution(parameters: Tensor, action_info: Mapping[str, Any]) -> Policy:
    """The distribution over actions that a network ending in `ActionLinear` describes, for each row.

    Log-probabilities, entropy and KL divergence are those of whole actions, one number for each row.

    Args:
        parameters: logits [..., A], side by side where there are branches, or mean and log standard deviation
            [..., A, 2].
        action_info: `space` ("discrete", "continuous" or "multi_discrete") of the actions, and for the last
            the choices of the branches, as `nvec` or `shape`.

    Raises:
        ValueError: there is no distribution for these actions.
    """
    space = action_info["space"]
    if space == "discrete":
        return Categorical(parameters)
    if space == "continuous":
        mean, log_std = parameters.unbind(-1)
        return DiagonalGaussian(mean, log_std)
    if space == "multi_discrete":
        return JointBranches.from_logits(parameters, tuple(action_info.get("nvec", action_info["shape"])))
    raise ValueError(f"create_dist: there is no distribution for {space} actions")


def policy_over(policy: Policy, take: Callable[[Tensor], Tensor]) -> Policy:
    """The policy over what `take` makes of its rows; a log σ that all rows share [1, A] stays."""
    if isinstance(policy, JointBranches):
        return JointBranches(tuple(Categorical(take(choice.logits)) for choice in policy.choices))
    if isinstance(policy, Categorical):
        return Categorical(take(policy.logits))
    mean, log_std = policy.mean, policy.log_std
    shared = log_std.dim() < mean.dim() or (log_std.dim() == 2 and log_std.shape[0] == 1)
    return DiagonalGaussian(take(mean), log_std if shared else take(log_std))


def whole_policy(policy: BranchedPolicy) -> Policy:
    """The same policy with one log-probability for the whole action."""
    if isinstance(policy, DiagonalGaussian):
        return DiagonalGaussian(policy.mean, policy.log_std)
    assert isinstance(policy, Branches)
    return policy.choices[0] if len(policy.choices) == 1 else JointBranches(policy.choices)


def legal_policy(policy: BranchedPolicy, obs: Tensor, size: int) -> BranchedPolicy:
    """The policy without the choices that observations [B, F] forbid in their last `size` numbers.

    As it is where `size` is 0.
    """
    if not size:
        return policy
    assert isinstance(policy, Branches)
    masks = mask_in(obs, size).split([choice.logits.shape[-1] for choice in policy.choices], dim=-1)
    pairs = zip(policy.choices, masks, strict=True)
    return Branches(tuple(Categorical(masked_logits(choice.logits, mask)) for choice, mask in pairs))


def policy_parameters(policy: BranchedPolicy | Policy) -> Tensor:
    """What `distribution` makes the policy of again: logits side by side [B, n], or [B, A, 2]."""
    if isinstance(policy, DiagonalGaussian):
        return torch.stack([policy.mean, policy.log_std.expand_as(policy.mean)], dim=-1)
    if isinstance(policy, Categorical):
        return policy.logits
    assert isinstance(policy, Branches)
    return torch.cat([choice.logits for choice in policy.choices], dim=-1)


class OneRatioGaussian(DiagonalGaussian):
    """A Gaussian whose action dimensions make up one branch."""

    __slots__ = ()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Joint log-density [B, 1] of actions [B, A]."""
        return DiagonalGaussian.log_prob(self, actions).unsqueeze(-1)


class DiscreteHead(nn.Module):
    """Logits of one or more branches from one linear layer.

    Args:
        dim: D, features.
        nvec: choices of each branch.
        std: gain of the orthogonal weights of each branch.
    """

    def __init__(self, dim: int, nvec: Sequence[int], *, std: float = 0.1) -> None:
        super().__init__()
        self.nvec = tuple(nvec)
        self.layer = Linear(dim, sum(self.nvec))
        with torch.no_grad():
            for weight in self.layer.weight.split(list(self.nvec)):
                nn.init.orthogonal_(weight, std)
            self.layer.bias.zero_()

    def forward(self, features: Tensor) -> Branches:
        """The policy at features [B, D]."""
        logits = self.layer(features)
        parts = (logits,) if len(self.nvec) == 1 else logits.split(list(self.nvec), dim=-1)
        return Branches(tuple(Categorical(part) for part in parts))


class GaussianHead(nn.Module):
    """Means from a linear layer (gain 0.01), and state-independent standard deviations that start at 1.

    Args:
        dim: D, features.
        act_dim: A, action dimensions.
    """

    def __init__(self, dim: int, act_dim: int) -> None:
        super().__init__()
        self.layer = layer_init(Linear(dim, act_dim), std=0.01)
        self.log_std = nn.Parameter(torch.zeros(1, act_dim))

    def forward(self, features: Tensor) -> OneRatioGaussian:
        """The policy at features [B, D]."""
        return OneRatioGaussian(self.layer(features), self.log_std)
