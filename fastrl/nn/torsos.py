"""From the settings of a network to a module: observations as a rollout keeps them to features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.activations import ACTIVATIONS
from fastrl.nn.grid_network import GridNetwork
from fastrl.nn.image_networks import ImpalaNetwork, NatureNetwork
from fastrl.nn.layers import MLP, layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.sequence import MADE_OF_PARTS
from fastrl.observation_spec import ObservationSpec

NETWORKS = ("auto", "mlp", "cnn", "impala", "grid", "dict")
BY_KIND = {"vector": "mlp", "image": "cnn", "grid": "grid", "dict": "dict"}
ROWS_PER_BLOCK = 256  # of a pass without gradient through convolutions, so that activations stay small


def chosen_network(spec: ObservationSpec, network: Any) -> str:
    """What `network` is for these observations: a name other than "auto", "own" for a module.

    Packed observations have "dict" whatever the network of their images.

    Raises:
        SettingError: the network is for observations of another kind.
    """
    if not isinstance(network, str) or network not in NETWORKS:
        return "own"
    chosen = BY_KIND[spec.kind] if network == "auto" else network
    if spec.layout is not None:
        return "dict"
    if chosen == "dict":
        raise SettingError(
            f"network must not be dict for {spec.described}: it is for observations of several entries"
        )
    return chosen


def is_costly(spec: ObservationSpec, network: Any) -> bool:
    """Whether a pass through the network takes long, so that it is made once and in blocks of rows."""
    return chosen_network(spec, network) != "mlp"


def kept_as(spec: ObservationSpec, network: Any) -> ObservationSpec:
    """What a rollout or a replay keeps of observations: vectors without axes, anything else as it comes."""
    flat = chosen_network(spec, network) == "mlp" and spec.dtype == torch.float32
    return ObservationSpec.vector(spec.size) if flat else spec


class Torso(MLP):
    """What turns observations [B, ...] into features [B, width]: a sequence, which linear layers end.

    Args:
        layers: in order.
        width: features of the result.
    """

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__(*layers)
        self.width = width


MADE_OF_PARTS.add(Torso)


def make_torso(
    spec: ObservationSpec,
    layer_sizes: Sequence[int],
    *,
    network: Any = "auto",
    activation: str = "tanh",
    layer_norm: bool = False,
) -> Torso:
    """The network that the settings ask for, as torch initialises linear layers; see `initialise`.

    Args:
        spec: what the observations are.
        layer_sizes: widths of the linear layers, behind convolutions where there are any; a module of one's
            own has none behind it.
        network: a name of `NETWORKS`; a module that maps observations [B, *shape] (a dict of entries where
            the observations are packed) to [B, features], of which a copy is taken; or a function or class
            that makes one from `spec`.
        activation: a name of `ACTIVATIONS`.
        layer_norm: normalise the features of each linear layer before its activation.

    Raises:
        SettingError: the network does not fit the observations.
    """
    chosen = chosen_network(spec, network)
    if chosen == "own":
        own = OwnNetwork(spec, network)
        return Torso(own, width=own.width)
    layers: list[nn.Module] = []
    width, settings = spec.size, (activation, layer_norm)
    if chosen != "mlp" or spec.dtype != torch.float32:
        layers.append(front := make_front(spec, network, layer_sizes[:1], *settings))
        width = front.width
    layers += _linear_layers(width, layer_sizes, *settings)
    return Torso(*layers, width=layer_sizes[-1] if layer_sizes else width)


def make_front(
    spec: ObservationSpec,
    network: Any = "auto",
    vector_sizes: Sequence[int] = (),
    activation: str = "tanh",
    layer_norm: bool = False,
) -> Any:
    """What stands before linear layers: a module from observations to features [B, width], with `width`.

    Args:
        spec, network, activation, layer_norm: as for `make_torso`.
        vector_sizes: widths of the linear layers over the vectors among several entries, before they are
            joined with features of images.
    """
    chosen = chosen_network(spec, network)
    if chosen == "own":
        return OwnNetwork(spec, network)
    if chosen == "dict":
        return EntriesNetwork(spec, network, vector_sizes, activation, layer_norm)
    if chosen == "mlp":
        return Numbers(spec)
    return {"cnn": NatureNetwork, "impala": ImpalaNetwork, "grid": GridNetwork}[chosen](spec)


def _linear_layers(
    width: int, layer_sizes: Sequence[int], activation: str, layer_norm: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for size in layer_sizes:
        norm = [nn.LayerNorm(size)] if layer_norm else []
        layers += [Linear(width, size), *norm, ACTIVATIONS[activation]()]
        width = size
    return layers


def initialise(torso: nn.Module) -> None:
    """Orthogonal weights with gain √2 and biases 0 for linear layers; a module of one's own keeps its own."""
    for module in torso.children():
        if isinstance(module, nn.Linear):
            layer_init(module)
        elif not isinstance(module, OwnNetwork):
            initialise(module)


class Numbers(nn.Module):
    """Observations as vectors [B, width]: bytes as parts of the largest that they may be.

    Args:
        spec: of the observations.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        super().__init__()
        self.width = spec.size
        self.divisor = spec.divisor

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *shape] to float32 [B, width]."""
        rows = obs.flatten(1)
        return rows.float() / self.divisor if obs.dtype == torch.uint8 else rows.float()


class EntriesNetwork(nn.Module):
    """A network for each image and grid, linear layers for all vectors together, and their features joined.

    Args:
        spec: of rows of bytes with a layout.
        network: of images and grids; "auto" and "dict": each has that of its kind.
        vector_sizes, activation, layer_norm: of the linear layers over the vectors, see `make_front`; without
            images and grids the vectors are the result, as they are.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        network: str,
        vector_sizes: Sequence[int],
        activation: str,
        layer_norm: bool,
    ) -> None:
        super().__init__()
        assert spec.layout is not None
        self.layout = spec.layout
        self.seen = self.layout.of_kind("image", "grid")
        names = [BY_KIND[entry.kind] if network in ("auto", "dict") else network for entry in self.seen]
        self.networks = nn.ModuleList(
            make_front(entry.spec, name) for entry, name in zip(self.seen, names, strict=True)
        )
        self.width = sum(network.width for network in self.networks)  # type: ignore[misc]
        self.vectors: MLP | None = None
        if self.layout.vectors:
            sizes = vector_sizes if self.seen else ()
            self.vectors = MLP(*_linear_layers(self.layout.vectors, sizes, activation, layer_norm))
            self.width += sizes[-1] if sizes else self.layout.vectors
        if self.width == 0:
            raise SettingError("obs_keys must name an entry beside the mask of actions")

    def forward(self, rows: Tensor) -> Tensor:
        """rows [B, nbytes] to [B, width]."""
        parts = [
            network(self.layout.read(rows, entry))
            for network, entry in zip(self.networks, self.seen, strict=True)
        ]
        if self.vectors is not None:
            parts.insert(0, self.vectors(self.layout.numbers(rows)[..., : self.layout.vectors]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class OwnNetwork(nn.Module):
    """A module of the user's own, which is copied, or made by calling what was given.

    Args:
        spec: what it is called with.
        network: the module, or a function or class that makes it from `spec`.

    Attributes:
        module: the copy.
        width: its attribute `width`, or what a forward pass of zeros shows.

    Raises:
        SettingError: it is none, or does not return [B, features].
    """

    def __init__(self, spec: ObservationSpec, network: Any) -> None:
        super().__init__()
        self.layout = spec.layout
        made = copy.deepcopy(network) if isinstance(network, nn.Module) else network(spec)
        if not isinstance(made, nn.Module):
            raise SettingError(
                f"network must be or make a torch.nn.Module, {_called(network)} made {type(made).__name__}"
            )
        self.module = made
        self.width = self._width(spec, network)

    def _width(self, spec: ObservationSpec, network: Any) -> int:
        named = getattr(self.module, "width", None)
        if isinstance(named, int):
            return named
        here = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        training = self.module.training
        self.module.eval()  # a normalisation over the batch shall not count the zeros
        with torch.no_grad():
            result = self(torch.zeros(2, *spec.shape, dtype=spec.dtype, device=here))
        self.module.train(training)
        if not isinstance(result, Tensor) or result.dim() != 2 or len(result) != 2:
            shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise SettingError(
                f"network must give features [B, F]; {_called(network)} gave {shape} for 2 observations, "
                f"{spec.described}"
            )
        return int(result.shape[1])

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, ...] as the rollout keeps them, to [B, width]."""
        return self.module(obs if self.layout is None else self.layout.unpack(obs))


def _called(network: Any) -> str:
    return getattr(network, "__name__", type(network).__name__)


def in_blocks(network: Any, obs: Tensor, rows: int = ROWS_PER_BLOCK) -> Tensor:
    """What `network` gives for observations [B, ...], some rows at a time; for passes without gradient."""
    if len(obs) <= rows:
        return network(obs)
    return torch.cat([network(part) for part in obs.split(rows)])
