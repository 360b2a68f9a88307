"""The scoreboard repeats no run of the same settings, takes none of other settings for it, and names the
commits that were run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastrl.errors import NonFiniteError, SettingError
from fastrl.runs.config import RunConfig


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
            if self.config.env_id == "Broken-v0":
                raise NonFiniteError("the loss is not finite")
            Path(out_dir, "eval.csv").write_text(
                f"env_steps,eval/return_mean,eval/return_min\n1,0,0\n{total_steps},{self.config.seed},0\n"
            )

    class Algorithm:
        def config_class(self) -> type[RunConfig]:
            return RunConfig

        def trainer_class(self) -> Any:
            return type("Maker", (), {"from_config": staticmethod(Trainer)})

    for module in (scoreboard.runs, scoreboard.results):
        monkeypatch.setattr(module, "find_algorithm", lambda name: Algorithm())
    monkeypatch.setattr(scoreboard, "ROWS", ())  # none of them is of this algorithm
    return runs


def test_a_finished_run_of_the_same_settings_is_not_repeated(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    folders = [
        scoreboard.runs.run_seed("vmpo", scoreboard.runs.settings("vmpo", "Toy-v0", 1, 400), tmp_path)
        for _ in range(2)
    ]
    assert folders == [tmp_path / "vmpo-Toy-v0-1"] * 2 and len(trained) == 1


def test_a_finished_run_of_other_settings_stays_and_is_not_taken(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    old = scoreboard.runs.run_seed("vmpo", scoreboard.runs.settings("vmpo", "Toy-v0", 1, 400), tmp_path)
    before = {file.name: file.read_text() for file in old.iterdir()}
    new = scoreboard.runs.run_seed("vmpo", scoreboard.runs.settings("vmpo", "Toy-v0", 1, 800), tmp_path)
    assert new == tmp_path / "vmpo-Toy-v0-1-2" and [config.total_steps for config in trained] == [400, 800]
    assert {file.name: file.read_text() for file in old.iterdir()} == before
    assert (
        scoreboard.runs.run_seed("vmpo", scoreboard.runs.settings("vmpo", "Toy-v0", 1, 400), tmp_path) == old
    )


def test_a_folder_that_does_not_tell_its_settings_is_not_taken(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    (tmp_path / "vmpo-ALE_Toy-v0-1").mkdir()
    (tmp_path / "vmpo-ALE_Toy-v0-1" / "done").write_text("1.0\n")
    assert (
        scoreboard.runs.run_seed(
            "vmpo", scoreboard.runs.settings("vmpo", "ALE/Toy-v0", 1, 400), tmp_path
        ).name
        == "vmpo-ALE_Toy-v0-1-2"
    )


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    settings = scoreboard.runs.settings("vmpo", "Toy-v0", 1, 400)
    folder = scoreboard.runs.folder_for("vmpo", settings, tmp_path)
    scoreboard.runs.ensure_config(folder, "vmpo", settings)
    (folder / "metrics.csv").write_text("env_steps\n100\n")
    assert scoreboard.runs.run_seed("vmpo", settings, tmp_path) == folder
    assert len(trained) == 1 and not (folder / "metrics.csv").exists()


def test_a_run_that_another_process_is_at_is_left_alone(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    """Before its first checkpoint it looks like one that was left."""
    settings = scoreboard.runs.settings("vmpo", "Toy-v0", 1, 400)
    folder = scoreboard.runs.folder_for("vmpo", settings, tmp_path)
    scoreboard.runs.ensure_config(folder, "vmpo", settings)
    with (
        scoreboard.runs.alone(folder),
        pytest.raises(SettingError, match="another process is training in .*vmpo-Toy-v0-1;"),
    ):
        scoreboard.runs.run_seed("vmpo", settings, tmp_path)
    assert folder.exists() and trained == []
    assert scoreboard.runs.run_seed("vmpo", settings, tmp_path) == folder and len(trained) == 1


def run(
    scoreboard: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *words: str,
    env_id: str = "Toy-v0",
) -> dict[str, Any]:
    """The result of a row of one's own."""
    command = [
        "scoreboard.py",
        "vmpo",
        env_id,
        "--total-steps",
        "400",
        "--jobs",
        "1",
        "--work-dir",
        str(tmp_path / "runs"),
        *words,
    ]
    monkeypatch.setattr(sys, "argv", command)
    scoreboard.main()
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.with_suffix(".png").exists() and (tmp_path / "docs" / "scoreboard.md").exists()
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_the_result_names_the_commits_that_were_run(
    scoreboard: ModuleType, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(scoreboard, monkeypatch, tmp_path, "--seeds", "2")["commit"] == "aaaa"
    monkeypatch.setattr(scoreboard.record, "commit", lambda: "bbbb")
    again = run(scoreboard, monkeypatch, tmp_path, "--seeds", "2")
    assert again["commit"] == "aaaa", "nothing ran at the new commit"
    assert (again["final_return_mean"], again["final_returns"]) == (1.5, [1.0, 2.0])
    assert run(scoreboard, monkeypatch, tmp_path, "--seeds", "3")["commit"] == ["aaaa", "bbbb"]
    (tmp_path / "runs" / "vmpo-Toy-v0-2" / "commits").unlink()
    assert run(scoreboard, monkeypatch, tmp_path, "--seeds", "2")["commit"] == ["aaaa", "unknown"]


def test_a_row_that_has_a_result_of_the_same_settings_is_not_run(
    scoreboard: ModuleType, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [scoreboard.Row("vmpo", name, 2, total_steps=400) for name in ("One-v0", "Two-v0")]
    assert scoreboard.run_rows(rows[:1], tmp_path / "runs", 1) == [] and len(trained) == 2
    assert [scoreboard.state(row) for row in rows] == ["done at aaaa", "not yet run"]
    assert scoreboard.run_rows(rows, tmp_path / "elsewhere", 1) == []
    assert [config.env_id for config in trained[2:]] == ["Two-v0"] * 2
    for changed in (
        rows[0]._replace(seeds=3),
        rows[0]._replace(first_seed=5),
        rows[0]._replace(changes=("num_envs=3",)),
    ):
        assert scoreboard.state(changed) == "not yet run with its present settings (others at aaaa)"


def test_a_row_that_fails_does_not_keep_others_from_running(
    scoreboard: ModuleType, trained: list[RunConfig], tmp_path: Path
) -> None:
    rows = [scoreboard.Row("vmpo", name, 2, total_steps=400) for name in ("Broken-v0", "Toy-v0")]
    (complaint,) = scoreboard.run_rows(rows, tmp_path / "runs", 1)
    assert (
        complaint.startswith("vmpo/Broken-v0: ")
        and "1: the loss is not finite; 2: the loss is not finite" in complaint
    )
    assert [scoreboard.state(row) for row in rows] == ["not yet run", "done at aaaa"]


def test_seeds_one_behind_the_other_all_run_though_one_fails(
    scoreboard: ModuleType, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As several at once do, and whatever the error is."""
    run_seed = scoreboard.runs.run_seed

    def fails(algorithm: str, config: RunConfig, work_dir: Path) -> Any:
        if config.seed == 1:
            raise RuntimeError("out of memory")
        return run_seed(algorithm, config, work_dir)

    monkeypatch.setattr(scoreboard.runs, "run_seed", fails)
    rows = [
        scoreboard.Row("vmpo", "Toy-v0", 3, total_steps=400),
        scoreboard.Row("vmpo", "Other-v0", 1, total_steps=400, first_seed=2),
    ]
    (complaint,) = scoreboard.run_rows(rows, tmp_path / "runs", 1)
    assert "seeds [1] ended with an error (1: out of memory)" in complaint
    assert [(config.env_id, config.seed) for config in trained] == [
        ("Toy-v0", 2),
        ("Toy-v0", 3),
        ("Other-v0", 2),
    ]


def test_a_row_that_wants_a_gpu_is_not_run_without(
    scoreboard: ModuleType, trained: list[RunConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scoreboard, "has_gpu", lambda: False)
    row = scoreboard.Row("vmpo", "Toy-v0", 2, needs_gpu=True)
    assert scoreboard.run_rows([row], tmp_path / "runs", 1) == [] and trained == []
    assert scoreboard.state(row) == "not run: wants a GPU"


def test_the_seconds_of_a_run_are_those_of_all_its_stretches(scoreboard: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "commits").write_text("aaaa\nbbbb\n")
    (tmp_path / "seconds").write_text("1.5\n2.0\n")
    assert scoreboard.runs.seconds_of(tmp_path) == 3.5
    (tmp_path / "commits").write_text("aaaa\nbbbb\ncccc\n")  # one of the three was killed
    (tmp_path / "done").write_text(f"{scoreboard.runs.seconds_of(tmp_path):.1f}\n")
    assert scoreboard.runs.read_seconds(tmp_path) is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("vmpo", "an algorithm needs an environment"),
        ("vmpo Toy-v0 --rows *", "for the rows of the table"),
        ("vmpo Toy-v0 --list", "for the rows of the table"),
        ("vmpo Toy-v0 --page", "for the rows of the table"),
        ("--rows vmpo/Nowhere-v0", "no row matches 'vmpo/Nowhere-v0'"),
        ("--rows vmpo/* --page", "--page is of all rows"),
        ("--rows vmpo/* --seeds 3", "--seeds is for a row of one's own"),
        ("--set num_envs=3 --label few", "--set is for a row of one's own"),
        ("--total-steps 400", "--total-steps is for a row of one's own"),
        ("vmpo Toy-v0 --set num_envs=3", "--set needs a --label"),
        ("vmpo Toy-v0 --seeds 0", "--seeds: must be at least 1, got 0"),
        ("vmpo Toy-v0 --total-steps 0", "--total-steps: must be at least 1, got 0"),
        ("--jobs 0", "--jobs: must be at least 1, got 0"),
    ],
)
def test_a_command_that_says_two_things_or_nonsense_is_refused(
    scoreboard: ModuleType,
    trained: list[RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    complaint: str,
) -> None:
    for name in ("run_rows", "run_row"):
        monkeypatch.setattr(scoreboard, name, lambda *_: pytest.fail("something was run"))
    monkeypatch.setattr(sys, "argv", ["scoreboard.py", *words.split()])
    with pytest.raises(SystemExit) as refused:
        scoreboard.main()
    assert refused.value.code == 2 and complaint in capsys.readouterr().err and trained == []


@pytest.mark.parametrize(
    "change", ["seed=7", 'env_id="Other-v0"', "eval_interval=7", "save_interval=7", "log_interval=7"]
)
def test_what_the_row_says_itself_cannot_be_set(scoreboard: ModuleType, change: str) -> None:
    """With `seed` all seeds of the row would be one; the others would be passed over."""
    with pytest.raises(SettingError, match=f"--set cannot change {change.split('=')[0]}"):
        scoreboard.runs.settings("ppo", "Toy-v0", 1, 400, (change,))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("Broken-v0", "^failed: .*the loss is not finite"),
        ("Toy-v0 --set nums=3 --label x", "^failed: --set sets 'nums', which is no setting"),
        ("Toy-v0 --set seed=3 --label x", "^failed: --set cannot change seed"),
    ],
)
def test_a_row_of_ones_own_that_cannot_be_run_says_why(
    scoreboard: ModuleType,
    trained: list[RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    complaint: str,
) -> None:
    env_id, *others = words.split()
    with pytest.raises(SystemExit, match=complaint):
        run(scoreboard, monkeypatch, tmp_path, *others, env_id=env_id)
