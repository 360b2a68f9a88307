"""PopArt: a value function that learns on the scale of its targets, whatever that scale is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrl.nn.normalizer import Statistics

SMALLEST_DEVIATION = 1e-4  # over the root mean square of the targets: less is mostly their rounding


class PopArt(Statistics):
    """Running mean μ and deviation σ of value targets, and a last layer that follows them.

    The last layer predicts n(s) in units of σ; the value is V(s) = σ n(s) + μ. Targets G are learned as (G −
    μ)/σ. With the batches' means, debiased as in Adam,

    m ← (1 − β) m + β mean G,   q ← (1 − β) q + β mean G²,   w ← (1 − β) w + β
    μ = m/w,   σ² = max(q/w − μ², (10⁻⁴)² q/w)

    and when these move, the last layer is changed so that every V(s) stays what it was:

    W ← (σ/σ') W,   b ← (σ b + μ − μ')/σ'

    Before the first targets that are not 0, μ = 0 and σ = 1. The bound of σ makes targets that are nearly one
    number no special case, and has no unit: targets of any size are learned alike.

    Args:
        rate: β, share of the newest batch, in (0, 1]; 1 knows that batch only.

    Attributes:
        mean_sum, square_sum, weight: m, q and w, float64 and 0-d.

    Reference: van Hasselt et al. 2016, "Learning values across many orders of magnitude"; Hessel et al. 2018,
        "Multi-task Deep Reinforcement Learning with PopArt".
    """

    mean_sum: Tensor
    square_sum: Tensor
    weight: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        for name in ("mean_sum", "square_sum", "weight"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def scale(self) -> tuple[float, float]:
        """(μ, σ)."""
        weight = float(self.weight)
        if weight == 0.0:
            return 0.0, 1.0
        mean, square = float(self.mean_sum) / weight, float(self.square_sum) / weight
        variance = max(square - mean * mean, SMALLEST_DEVIATION**2 * square, 0.0)
        return mean, variance**0.5 or 1.0

    def normalize(self, values: Tensor) -> Tensor:
        """(values − μ)/σ, any shape."""
        mean, deviation = self.scale()
        return (values - mean) / deviation

    def restore(self, outputs: Tensor) -> Tensor:
        """σ outputs + μ, any shape: the values that outputs of the last layer stand for."""
        mean, deviation = self.scale()
        return outputs * deviation + mean

    @torch.no_grad()
    def update(self, targets: Tensor, layer: nn.Linear) -> None:
        """Count targets once, and change the last layer so that the values that it stands for stay.

        Weight and bias are changed in place, the averages of their optimiser are not. While one of them is
        frozen, nothing moves: with other statistics the layer would stand for other values.

        Args:
            targets: G [M], M ≥ 1.
            layer: the last layer, with a bias; every output is a value.
        """
        if not (layer.weight.requires_grad and layer.bias.requires_grad):
            return
        mean, deviation = self.scale()
        batch = targets.double()
        for average, now in (
            (self.mean_sum, batch.mean()),
            (self.square_sum, batch.square().mean()),
            (self.weight, 1.0),
        ):
            average.mul_(1.0 - self.rate).add_(self.rate * now)
        new_mean, new_deviation = self.scale()
        layer.weight.mul_(deviation / new_deviation)
        layer.bias.copy_((layer.bias.double() * deviation + (mean - new_mean)) / new_deviation)


def start_at_zero(layer: nn.Linear) -> None:
    """Make a last layer stand for 0 in every state, which is the same number in every unit.

    Drawn weights would be values near 1, which are far from targets of a thousandth and, in their unit,
    errors of a thousand.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
