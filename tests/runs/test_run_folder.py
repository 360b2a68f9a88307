"""Run folders: made once, never written over, found again."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fastrl.errors import SettingError
from fastrl.runs.checkpoint import save_checkpoint
from fastrl.runs.config import RunConfig
from fastrl.runs.run_folder import create_run, ensure_config, open_run, withdraw_run, write_config
from fastrl.runs.run_lock import RunLock

CONFIG = RunConfig(env_id="ALE/Pong-v5", seed=3)


def test_a_new_run_has_its_settings(tmp_path):
    run = create_run("vmpo", CONFIG, tmp_path / "deep" / "run")
    assert open_run(run.path) == run and run.algorithm == "vmpo"
    assert RunConfig.from_toml(run.config_file.read_text()) == CONFIG
    assert [entry.name for entry in run.path.iterdir()] == ["config.toml"]


def test_without_a_folder_a_new_one_is_made_under_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260102-030405")
    paths = [str(create_run("vmpo", CONFIG).path) for _ in range(3)]
    first = "runs/vmpo-ALE_Pong-v5-3-20260102-030405"
    assert paths == [first, f"{first}-2", f"{first}-3"]


def test_settings_that_could_not_be_read_back_are_refused(tmp_path):
    with pytest.raises(SettingError, match="env_kwargs hold too much for a config.toml: .* bytes, at most"):
        create_run("vmpo", RunConfig(env_id="x", env_kwargs={"map": list(range(300_000))}), tmp_path / "run")


@pytest.mark.parametrize("trace", ["config.toml", "metrics.csv", "eval.csv", "checkpoints"])
def test_a_folder_that_holds_a_run_is_left_alone(tmp_path, trace):
    (tmp_path / trace).write_text("precious")
    with pytest.raises(
        SettingError,
        match=f"already holds a run; choose another folder, or continue it with --resume {tmp_path}",
    ):
        create_run("vmpo", CONFIG, tmp_path)
    assert (tmp_path / trace).read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


def test_other_files_in_the_folder_do_no_harm(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    create_run("vmpo", CONFIG, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="out_dir .* cannot be made"):
        create_run("vmpo", CONFIG, tmp_path / "file" / "run")


def test_a_run_that_is_not_there_is_an_error_with_the_nearest(tmp_path):
    create_run("vmpo", CONFIG, tmp_path / "pong-1")
    with pytest.raises(SettingError, match="there is no run in .*; did you mean 'pong-1'?"):
        open_run(tmp_path / "pong-2")


@pytest.mark.parametrize("text", ['env_id = "x"', "algorithm = 3", "no toml"])
def test_a_folder_that_names_no_algorithm(tmp_path, text):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(SettingError, match="config.toml"):
        open_run(tmp_path)


def test_settings_are_replaced_in_one_step(tmp_path):
    run = create_run("vmpo", CONFIG, tmp_path)
    write_config(run, RunConfig(env_id="ALE/Pong-v5", total_steps=9))
    assert "total_steps = 9" in run.config_file.read_text() and [
        entry.name for entry in tmp_path.iterdir()
    ] == ["config.toml"]


def test_a_folder_that_a_trainer_fills_by_itself_becomes_a_run(tmp_path):
    folder = tmp_path / "deep" / "run"
    ensure_config(folder, "vmpo", CONFIG)
    assert open_run(folder).algorithm == "vmpo"
    assert RunConfig.from_toml((folder / "config.toml").read_text()) == CONFIG
    assert [entry.name for entry in folder.iterdir()] == ["config.toml"]


def test_settings_that_are_there_already_stay(tmp_path):
    run = create_run("vmpo", CONFIG, tmp_path)
    ensure_config(tmp_path, "other", RunConfig(env_id="CartPole-v1"))
    assert open_run(tmp_path) == run and RunConfig.from_toml(run.config_file.read_text()) == CONFIG


def test_a_folder_for_settings_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="out_dir .* cannot be written"):
        ensure_config(tmp_path / "file" / "run", "vmpo", CONFIG)


def test_a_run_that_came_to_nothing_leaves_nothing(tmp_path):
    withdraw_run(create_run("vmpo", CONFIG, tmp_path / "run"), keep_folder=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keep_folder", [True, False])
def test_what_was_in_the_folder_before_stays(tmp_path, keep_folder):
    (tmp_path / "notes.txt").write_text("mine")
    withdraw_run(create_run("vmpo", CONFIG, tmp_path), keep_folder=keep_folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_was_there_before_stays(tmp_path):
    withdraw_run(create_run("vmpo", CONFIG, tmp_path), keep_folder=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "trace",
    ["metrics.csv", "eval.csv", "checkpoints/step-000000000010-0002/state.json", "checkpoints/notes.txt"],
)
def test_a_run_that_has_written_something_stays(tmp_path, trace):
    run = create_run("vmpo", CONFIG, tmp_path / "run")
    (run.path / trace).parent.mkdir(parents=True, exist_ok=True)
    (run.path / trace).write_text("precious")
    withdraw_run(run, keep_folder=False)
    assert open_run(run.path) == run and (run.path / trace).read_text() == "precious"


def test_a_run_with_nothing_but_its_first_checkpoint_came_to_nothing(tmp_path):
    run = create_run("vmpo", CONFIG, tmp_path / "run")
    save_checkpoint(run.checkpoints, {"env_steps": 0}, step=0)
    assert run.has_begun()
    withdraw_run(run, keep_folder=False)
    assert not run.path.exists()


def test_a_run_that_another_goes_on_with_is_not_withdrawn(tmp_path):
    run = create_run("vmpo", CONFIG, tmp_path / "run")
    with ThreadPoolExecutor(1) as other, RunLock(run.path):
        other.submit(withdraw_run, run, keep_folder=False).result()
    assert open_run(run.path) == run


@pytest.mark.parametrize("trace", ["config.toml", "checkpoints"])
def test_links_in_a_run_are_refused(tmp_path, trace):
    run, elsewhere = create_run("vmpo", CONFIG, tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run.path / trace).unlink(missing_ok=True)
    (run.path / trace).symlink_to(elsewhere)
    with pytest.raises(
        SettingError,
        match=f"there is no run in .*{trace} cannot be .*: it is a link, and links inside a run are not "
        "followed",
    ):
        open_run(run.path)
    with pytest.raises(SettingError, match="already holds a run"):
        create_run("vmpo", CONFIG, run.path)
    assert list(elsewhere.iterdir()) == []


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    create_run("vmpo", CONFIG, tmp_path / "link")
    assert open_run(tmp_path / "link").config_file.exists() and not (tmp_path / "real" / ".lock").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "it is no text"),
        (b"x" * 1_000_001, "it has 1,000,001 bytes, and more than 1,000,000 are not read"),
    ],
)
def test_settings_that_are_no_settings(tmp_path, content, reason):
    (tmp_path / "config.toml").write_bytes(content)
    with pytest.raises(SettingError, match=f"config.toml cannot be read: {reason}"):
        open_run(tmp_path)
