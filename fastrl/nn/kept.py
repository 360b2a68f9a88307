"""The parameters that an optimiser holds, kept those of their modules whatever is done to these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastrl.errors import SettingError


class Place(NamedTuple):
    """Where a parameter is: the module that owns it, and its name there."""

    owner: nn.Module
    name: str

    @property
    def parameter(self) -> nn.Parameter:
        """What is there now."""
        return self.owner._parameters[self.name]  # type: ignore[return-value]  # places are those of parameters


class KeptParameters:
    """Parameters of modules, of which an optimiser has averages.

    An optimiser knows parameters as objects. `load_state_dict(assign=True)` gives a module others in their
    place, and so does whoever replaces a layer; the optimiser would then move what nobody computes with.
    `follow` gives the modules these parameters back, with the new values. Parameters that only have another
    name, as in a layer that `torch.compile` wraps, stay what they are.

    Args:
        modules: what is trained; a parameter that several of them have is there once.
        trained_only: leave out parameters that do not require a gradient now.

    Attributes:
        parameters: in the order of the modules.
    """

    def __init__(self, modules: Iterable[nn.Module], *, trained_only: bool = False) -> None:
        self.modules = list(modules)
        paths: dict[nn.Parameter, list[str]] = {}
        for path, place in self._places(self.modules).items():
            if place.parameter.requires_grad or not trained_only:
                paths.setdefault(place.parameter, []).append(path)
        self.parameters = list(paths)
        self._paths = list(paths.values())  # of each parameter; several where modules share it
        self._kinds = [_kind(parameter) for parameter in self.parameters]
        self._remember(self._places(self.modules))

    def follow(self, modules: Iterable[nn.Module] | None = None) -> None:
        """Make sure that the modules compute with these parameters; call it before an update looks at them.

        Args:
            modules: as they are now, in the order of the constructor, where their owner may have got others
                in their place; None: the same.

        Raises:
            SettingError: a parameter has another shape, dtype or device now, is gone, or one requires a
                gradient that nothing would move.
        """
        if modules is not None:
            now = list(modules)
            if len(now) != len(self.modules) or not all(map(is_, now, self.modules)):
                self._find_again(now)
                return
        if not self._stands() or any(parameter.requires_grad for parameter in self._left_out):
            self._find_again(self.modules)

    # --------------------------------------------------------------------------------------- looking

    def _places(self, modules: Iterable[nn.Module]) -> dict[str, Place]:
        """Where parameters are, by `number of the module:name from there`."""
        return {
            f"{number}:{path}.{name}" if path else f"{number}:{name}": Place(module, name)
            for number, root in enumerate(modules)
            for path, module in root.named_modules()
            for name, parameter in module._parameters.items()
            if parameter is not None
        }

    def _stands(self) -> bool:
        """Whether all modules have the children, parameters and memory that they had; a few microseconds."""
        now = list(chain.from_iterable(map(dict.values, self._holders)))
        if len(now) != len(self._held) or not all(map(is_, now, self._held)):
            return False
        return self._pointers == list(map(Tensor.data_ptr, self.parameters))

    def _remember(self, places: Mapping[str, Place]) -> None:
        """How things are, to find out quickly whether they have changed."""
        modules = dict.fromkeys(module for root in self.modules for module in root.modules())
        self._holders: list[dict[str, Any]] = [
            holder for module in modules for holder in (module._modules, module._parameters)
        ]
        self._held = list(chain.from_iterable(map(dict.values, self._holders)))
        self._pointers = list(map(Tensor.data_ptr, self.parameters))
        kept = {path for paths in self._paths for path in paths}
        self._left_out = [place.parameter for path, place in places.items() if path not in kept]

    # -------------------------------------------------------------------------------- after a change

    def _find_again(self, modules: list[nn.Module]) -> None:
        places = self._places(modules)
        self._rename(places)
        self._check(places)
        self.modules = modules
        for paths, kept in zip(self._paths, self.parameters, strict=True):
            given = next(
                (places[path].parameter for path in paths if places[path].parameter is not kept), None
            )
            if given is None:
                continue
            kept.data = given.data.clone()
            kept.requires_grad_(given.requires_grad)
            for path in paths:
                places[path].owner._parameters[places[path].name] = kept
        self._remember(places)

    def _rename(self, places: Mapping[str, Place]) -> None:
        """Take the present names of parameters that are still there, under names that they did not have."""
        present: dict[nn.Parameter, list[str]] = {}
        for path, place in places.items():
            present.setdefault(place.parameter, []).append(path)
        for number, (paths, kept) in enumerate(zip(self._paths, self.parameters, strict=True)):
            if kept in present and not all(path in places for path in paths):
                self._paths[number] = present[kept]

    def _check(self, places: Mapping[str, Place]) -> None:
        """Refuse what cannot be followed, before anything is changed."""
        known = set()
        for paths, kind in zip(self._paths, self._kinds, strict=True):
            for path in paths:
                if path not in places:
                    raise SettingError(
                        f"{self._called(path)} is gone, which the optimiser moves; make a new one for the "
                        "changed network"
                    )
                now = _kind(places[path].parameter)
                if now != kind:
                    raise SettingError(
                        f"{self._called(path)} is {_words(now)} now and was {_words(kind)} when its "
                        "optimiser was made, whose averages "
                        "cannot follow; change it back, or make a new trainer or optimiser for the changed "
                        "network"
                    )
            known.update(paths)
        for path, place in places.items():
            if path not in known and place.parameter.requires_grad:
                raise SettingError(
                    f"{self._called(path)} requires a gradient, which it did not when the optimiser was "
                    "made, or is new; the optimiser "
                    "would not move it: make a new one, or freeze the parameter"
                )

    def _called(self, path: str) -> str:
        number, _, name = path.partition(":")
        return f"parameter {name} of {type(self.modules[int(number)]).__name__}"


Kind = tuple[torch.Size, torch.dtype, torch.device]


def _kind(parameter: nn.Parameter) -> Kind:
    return parameter.shape, parameter.dtype, parameter.device


def _words(kind: Kind) -> str:
    shape, dtype, device = kind
    return f"{str(dtype).removeprefix('torch.')} {list(shape)} on {device}"
