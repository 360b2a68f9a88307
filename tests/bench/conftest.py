"""The scripts of bench/learning as modules, on their own paths."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

LEARNING = Path(__file__).parents[2] / "bench" / "learning"


@pytest.fixture
def scoreboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The scoreboard, writing its results and its page below `tmp_path`; the commit is "aaaa"."""
    if not LEARNING.exists():
        pytest.skip("the benches are not here")
    monkeypatch.setattr(sys, "path", [str(LEARNING), str(LEARNING.parent), *sys.path])
    module = importlib.import_module("scoreboard")
    monkeypatch.setattr(module.record, "commit", lambda: "aaaa")
    monkeypatch.setattr(module.record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "PAGE", tmp_path / "docs" / "scoreboard.md")
    return module
