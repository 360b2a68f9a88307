"""Activations as modules, for the layers that are put together from modules."""

from __future__ import annotations

from torch import Tensor, nn

from fastrl import ops


class Tanh(nn.Module):
    """The activation tanh through `fastrl.ops.tanh`, which is several times as fast as torch's on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh of x, any shape."""
        return ops.tanh(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
