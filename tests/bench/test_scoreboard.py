"""The scoreboard repeats no run of the same settings, takes none of other settings for it, and names the commits that were run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastrl.training.config import RunConfig

BENCH = Path(__file__).parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the benches are not here", allow_module_level=True)


@pytest.fixture
def scoreboard(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("bench_scoreboard", BENCH / "learning" / "scoreboard.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.record, "commit", lambda: "aaaa")
    return module


@pytest.fixture
def trained(scoreboard: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Settings of the runs that were trained; a stand-in for the trainer notes them and leaves a curve."""
    runs: list[RunConfig] = []

    class Trainer:
        interrupted = None

        def __init__(self, config: RunConfig) -> None:
            self.config = config

        def __enter__(self) -> Trainer:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def train(self, total_steps: int, out_dir: str, **_: Any) -> None:
            runs.append(self.config)
            Path(out_dir, "eval.csv").write_text(f"env_steps,eval/return_mean,eval/return_min\n1,0,0\n{total_steps},{self.config.seed},0\n")

    class Algorithm:
        def config_class(self) -> type[RunConfig]:
            return RunConfig

        def trainer_class(self) -> Any:
            return type("Maker", (), {"from_config": staticmethod(Trainer)})

    monkeypatch.setattr(scoreboard, "find_algorithm", lambda name: Algorithm())
    return runs


def test_a_finished_run_of_the_same_settings_is_not_repeated(scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path) -> None:
    folders = [scoreboard.run_seed("vmpo", scoreboard.settings("vmpo", "Toy-v0", 1, 400), tmp_path) for _ in range(2)]
    assert folders == [tmp_path / "vmpo-Toy-v0-1"] * 2 and len(trained) == 1


def test_a_finished_run_of_other_settings_stays_and_is_not_taken(scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path) -> None:
    old = scoreboard.run_seed("vmpo", scoreboard.settings("vmpo", "Toy-v0", 1, 400), tmp_path)
    before = {file.name: file.read_text() for file in old.iterdir()}
    new = scoreboard.run_seed("vmpo", scoreboard.settings("vmpo", "Toy-v0", 1, 800), tmp_path)
    assert new == tmp_path / "vmpo-Toy-v0-1-2" and [config.total_steps for config in trained] == [400, 800]
    assert {file.name: file.read_text() for file in old.iterdir()} == before
    assert scoreboard.run_seed("vmpo", scoreboard.settings("vmpo", "Toy-v0", 1, 400), tmp_path) == old


def test_a_folder_that_does_not_tell_its_settings_is_not_taken(scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path) -> None:
    (tmp_path / "vmpo-ALE_Toy-v0-1").mkdir()
    (tmp_path / "vmpo-ALE_Toy-v0-1" / "done").write_text("1.0\n")
    assert scoreboard.run_seed("vmpo", scoreboard.settings("vmpo", "ALE/Toy-v0", 1, 400), tmp_path).name == "vmpo-ALE_Toy-v0-1-2"


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path) -> None:
    settings = scoreboard.settings("vmpo", "Toy-v0", 1, 400)
    folder = scoreboard.folder_for("vmpo", settings, tmp_path)
    scoreboard.ensure_config(folder, "vmpo", settings)
    (folder / "metrics.csv").write_text("env_steps\n100\n")
    assert scoreboard.run_seed("vmpo", settings, tmp_path) == folder
    assert len(trained) == 1 and not (folder / "metrics.csv").exists()


def run(scoreboard: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seeds: int) -> dict[str, Any]:
    monkeypatch.setattr(scoreboard.record, "RESULTS", tmp_path / "results")
    command = ["scoreboard.py", "vmpo", "Toy-v0", "--seeds", str(seeds), "--total-steps", "400", "--work-dir", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", command)
    scoreboard.main()
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.with_suffix(".png").exists()
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_the_result_names_the_commits_that_were_run(
    scoreboard: ModuleType, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(scoreboard, monkeypatch, tmp_path, seeds=2)["commit"] == "aaaa"
    monkeypatch.setattr(scoreboard.record, "commit", lambda: "bbbb")
    again = run(scoreboard, monkeypatch, tmp_path, seeds=2)
    assert again["commit"] == "aaaa", "nothing ran at the new commit"
    assert (again["final_return_mean"], again["final_returns"]) == (1.5, [1.0, 2.0])
    assert run(scoreboard, monkeypatch, tmp_path, seeds=3)["commit"] == ["aaaa", "bbbb"]
    (tmp_path / "runs" / "vmpo-Toy-v0-2" / "commits").unlink()
    assert run(scoreboard, monkeypatch, tmp_path, seeds=2)["commit"] == ["aaaa", "unknown"]
