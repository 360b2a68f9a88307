"""Docstrings begin with a one-line sentence; lines have at most 110 characters (addresses apart)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastrl"
LONGEST = 110  # pyproject.toml says the same to ruff
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({path.relative_to(PACKAGE).parts[0] for path in FILES})

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """Name and docstring of the module and of each public class, function and method in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[tuple[str, Documented]] = [("module", tree)]
    while nodes:
        name, node = nodes.pop()
        text = ast.get_docstring(node)
        if text:
            yield name, text
        if isinstance(node, ast.Module | ast.ClassDef):
            nodes += [
                (child.name, child)
                for child in node.body
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and not child.name.startswith("_")
            ]


def ends_on_its_line(text: str) -> bool:
    """Whether the first line is a sentence, or what is called `name:`, and not cut off by wrapping."""
    return text.splitlines()[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_one_line(room: str) -> None:
    files = [path for path in FILES if path.relative_to(PACKAGE).parts[0] == room]
    wrapped = [
        f"{path.relative_to(ROOT)}: {name}: {text.splitlines()[0]}"
        for path in files
        for name, text in documented(path)
        if not ends_on_its_line(text)
    ]
    assert wrapped == []


def test_no_line_is_too_long() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split()] or FILES  # without git, the package alone
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        if path.exists()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(re.split(r"  # (?:noqa|type: ignore)", line)[0]) > LONGEST and "https://" not in line
    ]
    assert long == []


def test_a_summary_that_was_wrapped_is_found(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text('"""One line."""\nclass A:\n    """A sentence that goes\n    on."""\n', encoding="utf-8")
    assert [name for name, text in documented(file) if not ends_on_its_line(text)] == ["A"]
