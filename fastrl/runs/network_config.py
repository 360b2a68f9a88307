"""Settings of networks, the same in every algorithm, and modules of a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastrl.errors import SettingError, nearest
from fastrl.runs.config import RunConfig, check_choice

if TYPE_CHECKING:
    from fastrl.observation_spec import ObservationSpec

    Network = Any  # in Python a module, or a function or class that makes one, too
else:
    Network = str  # what files and flags hold

NETWORKS = ("auto", "mlp", "cnn", "impala", "grid", "dict")
ACTIVATIONS = ("tanh", "relu", "elu", "gelu", "silu")


@dataclass(kw_only=True)
class NetworkChoice(RunConfig):
    """Which network sees the observations."""

    network: Network = "auto"
    """What sees the observations: mlp, cnn (three convolutions), impala (a residual network), grid (of
    symbols), dict (a network for each entry) or module:name of a function or class that makes one; auto: by
    what they are."""

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        return (*super().fixed_on_resume(), "network")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_network(self.network)

    def takes_object(self, name: str, value: Any) -> bool:
        """See `RunConfig.takes_object`."""
        return super().takes_object(name, value) or name == "network"

    def unwritten(self) -> list[str]:
        """See `RunConfig.unwritten`."""
        from fastrl.envs.own import label

        own = [] if isinstance(self.network, str) else [f"network ({label(self.network)})"]
        return [*super().unwritten(), *own]

    def found_network(self) -> Any:
        """A name of `NETWORKS`, a module, or what makes one; the module of `module:name` is imported."""
        from fastrl.envs.modules import names_module

        return _maker(self.network) if names_module(self.network) else self.network


@dataclass(kw_only=True)
class NetworkConfig(NetworkChoice):
    """Which network sees the observations, and what its linear layers are made of."""

    activation: str = "tanh"
    """Activation behind each linear layer: tanh, relu, elu, gelu or silu."""
    layer_norm: bool = False
    """Normalise the features of each linear layer before its activation."""

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued."""
        return (*super().fixed_on_resume(), "activation", "layer_norm")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        super().check()
        check_choice(self, "activation", ACTIVATIONS)


def check_network(network: Any) -> None:
    """Raises SettingError unless `network` is a name, `module:name`, a module, or can make one."""
    from fastrl.envs.modules import names_module
    from fastrl.envs.own import is_label

    if not isinstance(network, str):
        if not callable(network):
            raise SettingError(
                f"network must be a name, a torch.nn.Module or a function that makes one, got {network!r}"
            )
    elif is_label(network):
        raise SettingError(
            f"network: the run's network was an object, {network}, which its folder cannot hold; give it "
            "again, in Python as network=... of the configuration; a network that is given as module:name "
            "is kept"
        )
    elif network not in NETWORKS and not names_module(network):
        raise SettingError(
            f"network must be {', '.join(NETWORKS)} or module:name, got {network!r}"
            f"{nearest(network, NETWORKS)}"
        )


def _maker(name: str) -> Callable[[ObservationSpec], Any]:
    """The function or class that `module:name` names, called with the present folder among the modules."""
    from fastrl.envs.modules import find_callable, present_folder

    with present_folder():
        found = find_callable(name, "network")

    def make(spec: ObservationSpec) -> Any:
        with present_folder():
            return found(spec)

    make.__name__ = name
    return make
