"""MPO's policies; critics and Gaussian policy are in `fastrl.nn.critics` and `fastrl.nn.gaussian_policy`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastrl.nn.critics import Torso, small_init
from fastrl.nn.distributions import Categorical
from fastrl.nn.gaussian_policy import GaussianPolicy
from fastrl.nn.linear import Linear


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


Policy = GaussianPolicy | DiscretePolicy
