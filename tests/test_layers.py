"""Imports point downwards: cli, front, trainers and toolkit, runs, data, nn, envs, losses, ops, native."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastrl"
DOORS = {"agents", "models", "optimizers", "batchers", "utils", "training"}  # names of what lies elsewhere
LAYERS = [
    {"_native"},
    {"native"},
    {"ops"},
    {"nn", "envs", "losses"},
    {"data"},
    {"runs"},
    {"memory"},
    {"toolkit", "trainers"},
    DOORS,
    {"front"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# import nothing of fastrl, may be imported by all
FREE = {"autograd", "errors", "machine", "observation_spec", "torch_private", "__init__"}
LAZY = {
    "front",
    "envs",
    "ops",
}  # what fastrl/__init__.py gives out, for type checkers and when it is asked for
BESIDE = {"testing": 2.5}  # above the ops, below everything else
FILES = sorted(PACKAGE.rglob("*.py"))
NEAR_TORCH = {"ops", "native.py", "testing", "torch_private.py"}
LOW = [path for path in FILES if path.relative_to(PACKAGE).parts[0] in NEAR_TORCH]


def imports(source: str, package: str) -> Iterator[str]:
    """The full names of the modules that a file of `package` imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            # `from fastrl import ops` imports fastrl.ops
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "fastrl" else [module]


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def complaint(module: str, name: str) -> str | None:
    """What is wrong with `module` importing `name`, both of fastrl; None if nothing is."""
    room, other = room_of(module), room_of(name)
    ranks = {**RANK, **BESIDE}
    if other in FREE or other.startswith("__version"):
        return None
    if module == "fastrl.__init__" and other in LAZY:
        return None
    if room in FREE:
        return f"{module} may import nothing of fastrl, imports {name}"
    for unknown in {room, other} - set(ranks):
        return f"fastrl.{unknown} has no place in the layers; give it one in tests/test_layers.py"
    if ranks[other] > ranks[room] or (ranks[other] == ranks[room] and other != room):
        return f"{module} imports {name}, which is not below it"
    if room == other == "trainers" and algorithm_of(module) != algorithm_of(name) and algorithm_of(name):
        return f"{module} imports {name}: trainers do not import each other"
    return None


def algorithm_of(module: str) -> str:
    return ".".join(module.split(".")[2:3])


def complaints(path: Path, source: str) -> list[str]:
    relative = path.relative_to(PACKAGE.parent)
    module, package = ".".join(relative.with_suffix("").parts), ".".join(relative.parent.parts)
    names = [name for name in imports(source, package) if name.split(".")[0] == "fastrl"]
    return [found for name in names if (found := complaint(module, name))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_imports_point_downwards(path: Path) -> None:
    assert complaints(path, path.read_text()) == []


@pytest.mark.parametrize("path", LOW, ids=lambda path: path.name)
def test_ops_need_torch_alone(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path.read_text(), "fastrl.ops")}
    assert roots - set(sys.stdlib_module_names) <= {"torch", "fastrl"}


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("ops/_gae.py", "from fastrl.nn import layers", True),
        ("ops/_gae.py", "from ..nn import layers", True),
        (
            "ops/_gae.py",
            "from fastrl.native import load_ops\nfrom . import _checks\nfrom fastrl import errors, "
            "__version__",
            False,
        ),
        ("nn/layers.py", "def f():\n    from fastrl.losses import policy", True),
        ("nn/layers.py", "from fastrl import envs", True),
        ("errors.py", "import fastrl.ops", True),
        ("machine.py", "from fastrl.runs import threads", True),
        ("envs/envpool.py", "from fastrl.machine import available_cores", False),
        ("trainers/vmpo/agent.py", "from fastrl.trainers.mpo import agent", True),
        (
            "trainers/vmpo/agent.py",
            "from fastrl.trainers.vmpo import config\nfrom fastrl.runs import checkpoint",
            False,
        ),
        ("runs/loop.py", "from fastrl.cli import main", True),
        (
            "utils/logger.py",
            "from fastrl.runs import metrics\nfrom fastrl.nn import containers\nfrom fastrl import envs",
            False,
        ),
        ("nn/containers.py", "from fastrl.toolkit.utils import config", True),
        ("attic/old.py", "from fastrl import ops", True),
    ],
)
def test_the_walk_finds_what_it_looks_for(file: str, source: str, wrong: bool) -> None:
    assert bool(complaints(PACKAGE / file, source)) is wrong


# ------------------------------------------------------------------- the page that describes the house

NO_MODULES = {"check_env"}  # a function that the page speaks of
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = PAGE.split("## Rooms")[1].split("\nImports go down only")[0]
BULLETS = [" ".join(bullet.split()) for bullet in re.split(r"^- ", ROOMS, flags=re.MULTILINE)[1:]]


def test_the_line_of_layers_is_that_of_the_page() -> None:
    """Doors, the native module and `__main__` are not in it."""
    [line] = re.findall(r"^cli → .*$", PAGE, flags=re.MULTILINE)
    described = [set(re.split(r" \| |, ", rooms)) for rooms in line.split(" → ")]
    assert described[::-1] == [rooms for rooms in LAYERS if rooms not in ({"_native"}, DOORS, {"__main__"})]


def test_the_page_names_every_room_and_none_that_is_gone() -> None:
    named = set(re.findall(r"`((?:fastrl|csrc|tests|bench|docs|examples)/[\w./]*)`", PAGE))
    assert {path for path in named if not (ROOT / path).exists()} == set()
    rooms = {
        f"fastrl/{path.name}" + "/" * path.is_dir()
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and not path.name.startswith("__")) or (path / "__init__.py").exists()
    }
    rooms |= {f"csrc/{path.name}/" for path in (ROOT / "csrc").iterdir() if path.is_dir()}
    in_list = set(re.findall(r"`((?:fastrl|csrc)/[\w./]*)`", ROOMS))
    assert {room for room in rooms if room not in in_list} == set()


@pytest.mark.parametrize(
    "bullet",
    [bullet for bullet in BULLETS if re.match(r"`fastrl/\w+/`: ", bullet)],
    ids=lambda b: b.split("`")[1],
)
def test_the_modules_that_a_room_is_said_to_have_exist(bullet: str) -> None:
    room, _, text = bullet.partition(": ")
    folder = ROOT / room.strip("`")
    names = re.findall(r"`([a-z]\w*)`", text)
    assert [
        name for name in names if not (folder / name).is_dir() and not (folder / f"{name}.py").exists()
    ] == [name for name in names if name in NO_MODULES]
