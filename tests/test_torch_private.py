"""Names that torch does not document: the installed torch has them, and the stand-ins say the same."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from fastrl import torch_private

PACKAGE = Path(__file__).parents[1] / "fastrl"
PRIVATE = re.compile(r"\btorch(\.\w+)*\._(?!_)\w|\bfrom torch[\w.]* import .*\b_\w|\bforward_ad\._\w")


@pytest.mark.parametrize(("module", "name"), torch_private.NAMES)
def test_the_installed_torch_has_the_name(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_no_other_file_uses_such_names() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "torch_private.py"]
    found = [
        f"{path}: {line}" for path in others for line in path.read_text().splitlines() if PRIVATE.search(line)
    ]
    assert found == []
    assert PRIVATE.search((PACKAGE / "torch_private.py").read_text())


def test_modules_hold_what_is_asked_of_them() -> None:
    """Attributes of `nn.Module` that containers and optimisers look into."""
    module = nn.Linear(2, 2)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert all(isinstance(getattr(module, name), dict) for name in (*hooks, "_modules", "_parameters"))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is loaded beside a torch that has none of the names."""
    spec = importlib.util.spec_from_file_location("torch_private_without", PACKAGE / "torch_private.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        for module, name in torch_private.NAMES:
            patch.delattr(f"{module}.{name}")
        spec.loader.exec_module(loaded)
    return loaded


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        yield
    finally:
        handle.remove()


def answers(private: ModuleType) -> list[bool]:
    return [private.in_dual_level(), private.functorch_active(), private.transformed(), private.autocasting()]


def test_stand_ins_are_used_where_the_names_are_missing(without: ModuleType) -> None:
    for name in ("in_dual_level", "functorch_active", "autocasting", "is_fake", "has_global_hook"):
        assert getattr(without, name).__module__ == "torch_private_without", name
        assert getattr(without, name) is not getattr(torch_private, name)
    assert not hasattr(without, "FakeTensor")


def test_stand_ins_say_the_same(without: ModuleType) -> None:
    for private in (torch_private, without):
        assert answers(private) == [False, False, False, False]
        with forward_ad.dual_level():
            assert answers(private) == [True, False, True, False]
        with torch.autocast("cpu", torch.bfloat16):
            assert answers(private) == [False, False, False, True]
        assert answers(private) == [False, False, False, False]


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_stand_ins_know_torch_func(without: ModuleType, transform: object) -> None:
    seen = {}

    def function(x: Tensor) -> Tensor:
        for private in (torch_private, without):
            seen[private.__name__] = answers(private)
        return x.square().sum()

    argument = torch.ones(()) if transform is torch.func.grad else torch.ones(3)
    transform(function)(argument)  # type: ignore[operator]
    assert list(seen.values()) == [[False, True, True, False]] * 2


def test_stand_ins_know_fake_tensors(without: ModuleType) -> None:
    with FakeTensorMode():
        fake = torch.zeros(3)
    for private in (torch_private, without):
        assert private.is_fake(fake) and not private.is_fake(torch.zeros(3)) and not private.is_fake(3.0)


def test_hooks_on_all_modules_are_seen_or_expected(without: ModuleType) -> None:
    assert not torch_private.has_global_hook()
    with hooked():
        assert torch_private.has_global_hook() and without.has_global_hook()
    assert without.has_global_hook()  # slower than needed, and right
