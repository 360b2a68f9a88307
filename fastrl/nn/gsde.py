"""Generalised state-dependent exploration: noise that is a function of the state for some steps.

Noise that is new at every step makes a robot tremble and leads nowhere; this one is smooth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.containers import FlattenLinear
from fastrl.nn.dense import NONE, Dense, dense_chain
from fastrl.nn.sequence import run_layers

SMALLEST_VARIANCE = 1e-6  # of an action's density: where all features are 0 there is no noise at all


class StateDependentLinear(nn.Module):
    """The last layer of a Gaussian policy whose deviation follows from the state.

    With features h [N, H] of the state,

    mean = h Wᵀ + b,   Var a_j = Σ_i h_i² σ_ij² + 10⁻⁶

    which is the density of a_j = mean_j + Σ_i h_i θ_ij with θ_ij ~ N(0, σ_ij²), see `ExplorationNoise`. The
    deviation has no gradient in the features: the encoder learns what the mean needs, and log σ says how much
    each feature explores.

    Args:
        in_features: H.
        action_info: as for `fastrl.nn.containers.ActionLinear`; `space` must be "continuous".

    Attributes:
        linear: the mean's layer.
        log_std: log σ [H, A], a parameter; starts at 0.

    Raises:
        SettingError: actions are not continuous.

    Reference: Raffin, Kober, Stulp 2021, "Smooth Exploration for Robotic Reinforcement Learning".
    """

    def __init__(self, in_features: int, action_info: Mapping[str, Any]) -> None:
        super().__init__()
        if action_info["space"] != "continuous":
            raise SettingError(f"gsde must be false with {action_info['space']} actions, which have no noise")
        self.linear = FlattenLinear(in_features, action_info["shape"])
        self.log_std = nn.Parameter(torch.zeros(in_features, self.linear.out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, H] to means and log standard deviations [N, A, 2]."""
        return torch.stack((self.mean(features), 0.5 * self.variance(features).log()), dim=-1)

    def mean(self, features: Tensor) -> Tensor:
        """Means [N, A] at features [N, H]."""
        return run_layers((self.linear,), features)

    def variance(self, features: Tensor) -> Tensor:
        """Var a [N, A] at features [N, H], without gradient in these."""
        weight = (2.0 * self.log_std).exp().t().contiguous()  # [A, H]
        floor = torch.full_like(weight[:, 0], SMALLEST_VARIANCE)
        # as a layer of the native call, where a row's result does not depend on the rows beside it
        return dense_chain(features.detach().square(), [Dense(weight, floor, NONE)])


class ExplorationNoise:
    """θ of N environments, kept for some steps: the noise of a step is h(s) θ.

    Args:
        num_envs: N.
        like: log σ [H, A], for shape, dtype and device.
        sample_freq: steps after which new matrices are drawn; −1: with `begin` only.

    Attributes:
        matrices: θ [N, H, A].
        steps: since `begin`.
    """

    def __init__(self, num_envs: int, like: Tensor, sample_freq: int) -> None:
        self.matrices = torch.zeros(num_envs, *like.shape, dtype=like.dtype, device=like.device)
        self.sample_freq = sample_freq
        self.steps = 0

    def begin(self) -> None:
        """A rollout begins: its first step draws new matrices."""
        self.steps = 0

    @torch.no_grad()
    def __call__(self, features: Tensor, log_std: Tensor) -> Tensor:
        """The noise [N, A] of the next step of every environment.

        Args:
            features: h [N, H] of its state.
            log_std: log σ [H, A], for matrices that are drawn now.
        """
        if self.steps == 0 or (self.sample_freq > 0 and self.steps % self.sample_freq == 0):
            self.matrices = torch.randn_like(self.matrices) * log_std.exp()
        self.steps += 1
        return torch.einsum("nh,nha->na", features, self.matrices)

    def state_dict(self) -> dict[str, Any]:
        """θ and the steps since `begin`."""
        return {"matrices": self.matrices, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        self.matrices = state["matrices"].to(self.matrices.device)
        self.steps = int(state["steps"])
