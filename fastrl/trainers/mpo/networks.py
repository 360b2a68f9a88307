"""MPO's policies and critics of discrete actions.

The others are in `fastrl.nn.critics` and `fastrl.nn.gaussian_policy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastrl.nn.action_heads import JointBranches, categorical, joint_numbers, one_hot_branches
from fastrl.nn.critics import Critic, DiscreteCritic, Torso, small_init
from fastrl.nn.distributions import Categorical
from fastrl.nn.gaussian_policy import GaussianPolicy
from fastrl.nn.linear import Linear
from fastrl.nn.masks import mask_in, masked_logits
from fastrl.trainers.mpo.config import LARGEST_JOINT


class DiscretePolicy(nn.Module):
    """π(a|s) over A actions, or over several independent branches.

    Args:
        obs_dim: features of an observation.
        act_dim: A; of several branches the sum of their choices.
        layer_sizes: widths of the torso.
        nvec: choices of each branch; none: one choice of A.
        mask_size: A where the last A numbers of an observation are a mask, 0 where there is none.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        layer_sizes: Sequence[int],
        nvec: Sequence[int] = (),
        mask_size: int = 0,
    ) -> None:
        super().__init__()
        self.nvec, self.mask_size = tuple(nvec), mask_size
        self.torso = Torso(obs_dim, layer_sizes)
        self.head = small_init(Linear(self.torso.width, act_dim))

    def forward(self, obs: Tensor) -> Categorical | JointBranches:
        """The policy at obs [B, obs_dim]."""
        logits = self.head(self.torso(obs))
        if self.mask_size:
            logits = masked_logits(logits, mask_in(obs, self.mask_size))
        return categorical(logits, self.nvec)


Policy = GaussianPolicy | DiscretePolicy


class JointCritic(DiscreteCritic):
    """Q(s, ·) of all whole actions of several branches.

    Args:
        obs_dim: features of an observation.
        nvec: choices of each branch.
        layer_sizes: widths of the torso.
    """

    def __init__(self, obs_dim: int, nvec: Sequence[int], layer_sizes: Sequence[int]) -> None:
        super().__init__(obs_dim, math.prod(nvec), layer_sizes)
        self.nvec = tuple(nvec)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Q [B] of obs [B, obs_dim] and actions [B, branches] int64."""
        return super().forward(obs, joint_numbers(actions, self.nvec))


class BranchesCritic(Critic):
    """Q(s, a) of a whole action of several branches, one-hot beside the observation.

    Args:
        obs_dim: features of an observation.
        nvec: choices of each branch.
        layer_sizes: widths of the torso over both.
    """

    def __init__(self, obs_dim: int, nvec: Sequence[int], layer_sizes: Sequence[int]) -> None:
        super().__init__(obs_dim, sum(nvec), layer_sizes)
        self.nvec = tuple(nvec)

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Q [B] of obs [B, obs_dim] and actions [B, branches] int64."""
        return super().forward(obs, one_hot_branches(actions, self.nvec).to(obs.dtype))

    @torch.no_grad()
    def of_samples(self, obs: Tensor, actions: Tensor, bfloat16: bool = False) -> Tensor:
        """Q [B, S] of S actions at each state, [B, S, branches] int64; see `Critic.of_samples`."""
        return super().of_samples(obs, one_hot_branches(actions, self.nvec).to(obs.dtype), bfloat16)


def make_critic(
    obs_dim: int, act_dim: int, layer_sizes: Sequence[int], nvec: Sequence[int], *, discrete: bool
) -> nn.Module:
    """The critic of these actions.

    Args:
        obs_dim: features of an observation.
        act_dim: A, action dimensions or number of choices.
        layer_sizes: widths of the torso.
        nvec: choices of several branches; none: there are not several.
        discrete: whether actions are.
    """
    if not nvec:
        return (DiscreteCritic if discrete else Critic)(obs_dim, act_dim, layer_sizes)
    return (JointCritic if is_exact(nvec) else BranchesCritic)(obs_dim, nvec, layer_sizes)


def is_exact(nvec: Sequence[int]) -> bool:
    """Whether expectations are over all whole actions of these branches, and not over samples."""
    return math.prod(nvec) <= LARGEST_JOINT
