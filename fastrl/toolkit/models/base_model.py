"""What all models have: a network of body and head, losses, and callbacks around training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError
from fastrl.nn.containers import ModuleExtended, SequentialExtended, Shape, output_shape
from fastrl.nn.sequence import is_changed
from fastrl.toolkit.optimizers.base_opt import EVENTS
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.memories import DefaultMemory
from fastrl.toolkit.utils.net_builder import nn_from_config, packaged_arch


class BaseModel(ModuleExtended):
    """A network with losses. Optimisers (`fastrl.optimizers`) train it.

    Args:
        model: the network; `body` and `head` are its layers of these names, where it is a SequentialExtended
            that has them.
        batcher: tells the shapes of states and actions, and the number of environment steps.
        cuda_default: put the network on the GPU where torch has one.
    """

    def __init__(self, model: nn.Module, batcher: Any, *, cuda_default: bool = True) -> None:
        super().__init__()
        self.model = model
        self.batcher = batcher
        self.memory: DefaultMemory = DefaultMemory()
        self.losses: list[Callable[[Any], Tensor]] = []
        self.callbacks: dict[str, list[Callable[[Any], Any]]] = {event: [] for event in EVENTS}
        self.logger: Any = None
        self._network: Callable[[Tensor], Tensor] | None = None  # the model's, while it learns from a batch
        if cuda_default and torch.cuda.is_available():
            self.to("cuda")
        self.register_losses()
        self.register_callbacks()

    # --------------------------------------------------------------------------- what subclasses say

    @property
    @abstractmethod
    def batch_keys(self) -> list[str]:
        """The entries of a batch that the losses read; mini-batches hold these alone."""

    @abstractmethod
    def register_losses(self) -> None:
        """Call `register_loss` for each loss; the constructor calls this."""

    @staticmethod
    @abstractmethod
    def output_layer(input_shape: Shape, action_info: Mapping[str, Any]) -> nn.Module:
        """The last layer, which `from_config` puts behind the head.

        Args:
            input_shape: shape of what comes into it, without the batch.
            action_info: `space` and `shape` of the actions.
        """

    def register_callbacks(self) -> None:
        """Put functions of a batch into `callbacks`, by event; a subclass calls this one too."""
        self.callbacks["train_start"].append(self._prepare)
        self.callbacks["cleanup"] += [self._write_logs, self._clear_memory, self._forget_prepared]

    # ------------------------------------------------------------------------------------------- use

    @property
    def body(self) -> nn.Module:
        """The first part of the network."""
        return self._part("body")

    @property
    def head(self) -> nn.Module:
        """The second part of the network."""
        return self._part("head")

    def _part(self, name: str) -> nn.Module:
        if not isinstance(self.model, SequentialExtended) or name not in dict(
            self.model.layers.named_children()
        ):
            raise SettingError(f"{self.name} has a network without a {name}")
        return self.model.layers.get_submodule(name)

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    @property
    def num_steps(self) -> int:
        """Environment steps before the rollout that is learned from, for schedules.

        The first update has their first value.
        """
        return getattr(self.batcher, "steps_before_rollout", self.batcher.num_steps)

    def forward(self, x: Any) -> Tensor:
        """The network's output for states [N, ...], tensors or arrays."""
        network = self.model if self._network is None else self._network
        return network(self.to_tensor(x))

    def prepared(self) -> Callable[[Tensor], Tensor]:
        """The network as a function for many calls; itself where it cannot be prepared.

        See `fastrl.nn.sequence.prepare_layers`.
        """
        network = self.model
        if type(network) is SequentialExtended and not is_changed(network):
            return network.prepared()
        return network

    def _prepare(self, batch: Any) -> None:
        """Layers do not change while a batch is learned from, so they are looked through once for all its
        mini-batches."""
        prepared = self.prepared()
        if not isinstance(
            prepared, nn.Module
        ):  # as an attribute that would be another child, with names of its own in `state_dict`
            self._network = prepared

    def _forget_prepared(self, batch: Any) -> None:
        self._network = None

    def register_loss(self, loss: Callable[[Any], Tensor]) -> None:
        """Add a loss: a function of a mini-batch that returns a 0-d tensor; its name is the function's."""
        self.losses.append(loss)

    def calculate_loss(self, batch: Any) -> Tensor:
        """The sum of all losses on a mini-batch, 0-d; each is remembered, without its graph, for the logs."""
        total: Tensor | None = None
        for loss in self.losses:
            value = loss(batch)
            if value.dim() != 0:
                raise ValueError(
                    f"{loss.__name__} of {self.name} must return one number, got shape {list(value.shape)}"
                )
            self.memory[loss.__name__].append(value.detach())
            total = value if total is None else total + value
        if total is None:
            raise ValueError(f"{self.name} has no loss")
        return total

    # ------------------------------------------------------------------------------------------ logs

    def attach_logger(self, logger: Any) -> None:
        """Use this logger, or None, for everything the model has to say."""
        self.logger = logger

    def add_log(self, name: str, value: Any, precision: int = 2) -> None:
        """`Logger.add_log` under the model's name."""
        if self.logger is not None:
            self.logger.add_log(f"{self.name}/{name}", value, precision)

    def add_tf_only_log(self, name: str, value: Any, precision: int = 2) -> None:
        """`Logger.add_tf_only_log` under the model's name."""
        if self.logger is not None:
            self.logger.add_tf_only_log(f"{self.name}/{name}", value, precision)

    def add_histogram_log(self, name: str, values: Any) -> None:
        """`Logger.add_histogram` under the model's name."""
        if self.logger is not None:
            self.logger.add_histogram(f"{self.name}/{name}", values)

    def write_logs(self, batch: Any) -> None:
        """Mean over all mini-batches of each loss and of their sum."""
        means = {
            loss.__name__: torch.stack(self.memory[loss.__name__]).mean()
            for loss in self.losses
            if self.memory[loss.__name__]
        }
        for name, value in means.items():
            self.add_tf_only_log(f"Loss/{name}", value, precision=4)
        if means:
            self.add_tf_only_log("Loss/Total", torch.stack(list(means.values())).sum(), precision=4)

    def _write_logs(self, batch: Any) -> None:
        if self.logger is not None:
            with torch.no_grad():
                self.write_logs(batch)

    def _clear_memory(self, batch: Any) -> None:
        self.memory.clear()

    # -------------------------------------------------------------------------- from a configuration

    @classmethod
    def from_config(
        cls,
        config: Config,
        batcher: Any = None,
        body: nn.Module | None = None,
        head: nn.Module | None = None,
        **kwargs: Any,
    ) -> Self:
        """A model whose network a configuration describes.

        Args:
            config: `nn_config` with the lists of layers `body` and `head`, each optional; all other entries
                go to the constructor.
            batcher: as for the constructor.
            body: used instead of a new one: the module itself, so that models share it.
            head: used instead of a new one, with its output layer.
            kwargs: arguments of the constructor that override the configuration's.

        Raises:
            SettingError: a layer cannot be made or does not fit; it is named.
        """
        entries = dict(config.items())
        network = cls.network_from_config(entries.pop("nn_config", Config()), batcher, body=body, head=head)
        return cls(network, batcher, **{**entries, **kwargs})

    @classmethod
    def from_file(cls, file_path: str | Path, *args: Any, **kwargs: Any) -> Self:
        """A model from a file that holds the configuration.

        Further arguments as for `from_config`, errors also as for `Config.load`.
        """
        return cls.from_config(Config.load(file_path), *args, **kwargs)

    @classmethod
    def from_arch(cls, name: str, *args: Any, **kwargs: Any) -> Self:
        """A model with a network that comes with fastrl.

        Args:
            name: a3c or dqn, see `fastrl.utils.net_builder.packaged_arch`.
            args, kwargs: as for `from_config`, without the configuration.
        """
        return cls.from_config(Config(nn_config=packaged_arch(name)), *args, **kwargs)

    @classmethod
    def network_from_config(
        cls,
        nn_config: Config | Mapping[str, Any],
        batcher: Any,
        *,
        body: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> SequentialExtended:
        """The network of `from_config`: body and head as `nn_config` describes them.

        The model's output layer stands behind a new head.
        """
        state_info, action_info = batcher.get_state_info(), batcher.get_action_info()
        network = nn_from_config(nn_config, state_info, action_info, body=body, head=head)
        if head is None:
            new_head = network.layers.get_submodule("head")
            assert isinstance(new_head, SequentialExtended)
            new_head.append(
                cls.output_layer(output_shape(network, state_info["shape"]), action_info), "output"
            )
        return network
