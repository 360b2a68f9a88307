"""Result files of the benches: one form, and a commit that owns up to a tree that differs from it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the benches are not here", allow_module_level=True)


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_record", BENCH / "record.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if not shutil.which("git"):
        pytest.skip("a commit needs git")
    for name in ("csrc/op.h", "fastrl/code.py", "bench/bench.py", "setup.py", "CMakeLists.txt", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("first\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit(record: ModuleType, checkout: Path) -> None:
    assert record.commit(checkout) == git(checkout, "rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("csrc/op.h", True),
        ("fastrl/new.py", True),
        ("setup.py", True),
        ("CMakeLists.txt", True),
        ("bench/bench.py", False),
        ("README.md", False),
    ],
)
def test_only_what_is_measured_marks_the_commit(
    record: ModuleType, checkout: Path, name: str, marked: bool
) -> None:
    (checkout / name).write_text("second\n")
    assert record.commit(checkout).endswith("+") is marked


def test_outside_a_checkout_the_commit_is_unknown(record: ModuleType, tmp_path: Path) -> None:
    assert record.commit(tmp_path) == "unknown"


def test_a_result_says_when_where_and_with_what(
    record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    path = record.write_result("speed", {"rows": [1, 2]})
    written = json.loads(path.read_text())
    assert path.name == f"{written['date']}-speed.json"
    assert list(written) == ["date", "machine", "torch", "commit", "rows"]
    assert list(written["machine"]) == ["processor", "cores", "gpu", "python", "load_average"]
    assert (
        written["torch"] == torch.__version__
        and written["machine"]["processor"]
        and written["rows"] == [1, 2]
    )
    own = json.loads(record.write_result("learning", {"commit": ["a", "b"]}).read_text())
    assert own["commit"] == ["a", "b"]
