"""`fastrl train`: folder, last words, resume and signals."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastrl.cli.main import main
from fastrl.runs.checkpoint import load_checkpoint
from fastrl.runs.run_lock import RunLock

TRAIN = ["train", "counting", "--env-id", "Known-v0"]


def test_a_run_from_flags_to_curve(counting, capsys):
    assert main([*TRAIN, "--out-dir", "run", "--total-steps", "50", "--eval-episodes", "3"]) == 0
    captured = capsys.readouterr()
    assert "counting on Known-v0 for 50 steps; run folder: run" in captured.out
    assert (
        "finished at 50 steps: 50 steps in" in captured.out
        and "evaluation return: 50.00 ± 0.00 over 3 episodes" in captured.out
    )
    assert "learning curve: run/curve.png" in captured.out and captured.err == ""
    assert {entry.name for entry in Path("run").iterdir()} == {
        "config.toml",
        "metrics.csv",
        "eval.csv",
        "curve.png",
        "checkpoints",
    }
    assert Path("run/config.toml").read_text().startswith('algorithm = "counting"\nenv_id = "Known-v0"\n')
    assert counting.made[0].closed


def test_without_a_folder_there_is_a_new_one_under_runs(counting):
    assert main(TRAIN) == 0
    [run] = Path("runs").iterdir()
    assert run.name.startswith("counting-Known-v0-1-")


def test_a_folder_with_a_run_is_refused(counting, capsys):
    main([*TRAIN, "--out-dir", "run"])
    before = Path("run/metrics.csv").read_bytes()
    assert main([*TRAIN, "--out-dir", "run"]) == 2
    assert "out_dir 'run' already holds a run" in capsys.readouterr().err
    assert Path("run/metrics.csv").read_bytes() == before


def test_an_unknown_environment_leaves_nothing_behind(counting, capsys):
    assert main(["train", "counting", "--env-id", "Unknown-v0"]) == 2
    assert (
        capsys.readouterr().err
        == "fastrl: env_id: there is no environment 'Unknown-v0'; did you mean 'Known-v0'?\n"
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_says_how_to_go_on(counting, monkeypatch, capsys, number, code):
    monkeypatch.setattr(
        counting,
        "hook",
        staticmethod(lambda trainer: trainer.env_steps == 30 and os.kill(os.getpid(), number)),
    )
    assert main([*TRAIN, "--out-dir", "run", "--total-steps", "60"]) == code
    words = (
        f"stopped by {number.name} at 30 steps, checkpoint saved; continue with: fastrl train counting "
        "--resume run\n"
    )
    assert capsys.readouterr().out.endswith(words) and counting.made[0].closed


def test_a_log_that_could_not_be_written_is_said_at_the_end(counting, monkeypatch, capsys):
    monkeypatch.setattr(
        counting, "hook", staticmethod(lambda trainer: setattr(trainer, "unwritten", ["metrics.csv"]))
    )
    assert main([*TRAIN, "--out-dir", "run"]) == 1
    assert capsys.readouterr().err == (
        "fastrl: the checkpoint is saved, but there is not everything in metrics.csv of run; notes.txt says "
        "why\n"
    )


def test_a_damaged_log_does_not_keep_a_run_from_going_on(counting, capsys):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "30"])
    Path("run/metrics.csv").write_bytes(Path("run/metrics.csv").read_bytes().replace(b"\n20,", b"\n\xff,"))
    capsys.readouterr()
    assert main(["train", "counting", "--resume", "run", "--total-steps", "50"]) == 0
    assert (
        "run/metrics.csv was damaged: 1 of 3 lines could not be read; it is kept as metrics.damaged-"
        in capsys.readouterr().err
    )
    assert [line.split(",")[0] for line in Path("run/metrics.csv").read_text().splitlines()[1:]] == [
        "10",
        "30",
        "40",
        "50",
    ]


def test_a_reader_that_leaves_ends_a_run_with_a_checkpoint(tmp_path):
    flags = (
        "--env-id Identity-v0 --total-steps 10_000_000 --eval-interval 100 --eval-episodes 2 "
        "--policy-layer-sizes 8 --value-layer-sizes 8"
    )
    command = (
        f"{sys.executable} -m fastrl train vmpo {flags} --out-dir {tmp_path / 'run'} | head -3; exit "
        f"${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert result.returncode == 128 + signal.SIGPIPE and "Exception ignored" not in result.stderr
    assert (
        result.stderr.count("\n") == 1
        and "nobody reads it any more, so the run is saved and ends; --resume continues it" in result.stderr
    )
    assert (
        load_checkpoint(tmp_path / "run" / "checkpoints")["env_steps"] >= 0
    )  # 0 where the reader leaves before the first step


def test_a_stopped_run_goes_on_and_ends_like_an_uninterrupted_one(counting, monkeypatch, capsys):
    assert main([*TRAIN, "--out-dir", "whole", "--total-steps", "60"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(
            counting,
            "hook",
            staticmethod(lambda trainer: trainer.env_steps == 30 and os.kill(os.getpid(), signal.SIGINT)),
        )
        assert main([*TRAIN, "--out-dir", "run", "--total-steps", "60"]) == 130
    assert main(["train", "counting", "--resume", "run"]) == 0
    assert "continuing at 30 of 60 steps" in capsys.readouterr().out
    for name in ("metrics.csv", "eval.csv"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_finished_run_may_go_further(counting):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "20"])
    assert main(["train", "counting", "--resume", "run", "--total-steps", "40"]) == 0
    assert counting.made[-1].env_steps == 40
    assert "total_steps = 40" in Path("run/config.toml").read_text()


def test_a_run_without_a_checkpoint_is_not_started_afresh(counting, capsys):
    main([*TRAIN, "--out-dir", "run"])
    Path("run/checkpoints").rename("elsewhere")
    assert main(["train", "counting", "--resume", "run"]) == 1
    assert capsys.readouterr().err == "fastrl: there is no checkpoint in run/checkpoints\n"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(counting, capsys):
    main([*TRAIN, "--out-dir", "whole", "--total-steps", "30"])
    Path("run").mkdir()
    Path("run/config.toml").write_bytes(Path("whole/config.toml").read_bytes())
    assert main(["train", "counting", "--resume", "run"]) == 0
    assert (
        "run was ended before its first checkpoint and has no rows: it begins anew" in capsys.readouterr().out
    )
    assert Path("run/metrics.csv").read_bytes() == Path("whole/metrics.csv").read_bytes()


def test_a_run_that_another_process_writes_into_is_left_alone(counting, capsys):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "20"])
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    capsys.readouterr()
    codes = []
    with RunLock(Path("run")):
        second = threading.Thread(
            target=lambda: codes.append(main(["train", "counting", "--resume", "run", "--total-steps", "40"]))
        )
        second.start()
        second.join()
    who = "another thread of this process; one process at a time may write into a run"
    assert codes == [1] and capsys.readouterr().err == f"fastrl: run folder 'run' is in use by {who}\n"
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before


def test_a_run_folder_that_cannot_be_written_is_one_sentence(counting, capsys, monkeypatch):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "20"])
    before = Path("run/config.toml").read_text()
    monkeypatch.setattr(
        "os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert main(["train", "counting", "--resume", "run", "--total-steps", "40"]) == 1
    assert capsys.readouterr().err == "fastrl: run/config.toml cannot be written: No space left on device\n"
    assert Path("run/config.toml").read_text() == before


def test_a_damaged_checkpoint_is_named_and_the_earlier_one_used(counting, capsys):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "20"])
    main(["train", "counting", "--resume", "run", "--total-steps", "40"])
    newest = Path("run/checkpoints/step-000000000040-0002/state.json")
    newest.write_text("{}")
    assert main(["train", "counting", "--resume", "run", "--total-steps", "60"]) == 0
    captured = capsys.readouterr()
    assert (
        f"fastrl: warning: {newest} is damaged" in captured.err and "continuing at 20 of 60" in captured.out
    )


def test_the_trainer_is_closed_when_training_fails(counting, monkeypatch):
    monkeypatch.setattr(counting, "hook", staticmethod(lambda trainer: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        main([*TRAIN, "--out-dir", "run"])
    assert counting.made[0].closed


def fail_at(steps):
    return staticmethod(lambda trainer: 1 / 0 if trainer.env_steps == steps else None)


def test_a_failure_before_the_first_row_does_not_block_the_folder(counting, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(counting, "train", lambda self, **arguments: 1 / 0)
        main([*TRAIN, "--out-dir", "run"])
    assert not Path("run").exists()
    assert main([*TRAIN, "--out-dir", "run"]) == 0


def test_a_failure_keeps_what_else_is_in_the_folder(counting, monkeypatch):
    Path("run").mkdir()
    monkeypatch.setattr(counting, "train", lambda self, **arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*TRAIN, "--out-dir", "run"])
    assert list(Path("run").iterdir()) == []


def test_a_failure_after_a_row_keeps_the_run(counting, monkeypatch):
    monkeypatch.setattr(counting, "hook", fail_at(20))
    with pytest.raises(ZeroDivisionError):
        main([*TRAIN, "--out-dir", "run"])
    assert {"config.toml", "metrics.csv"} <= {entry.name for entry in Path("run").iterdir()}


def test_a_tracking_service_that_is_not_installed_changes_nothing(counting, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    sentence = "fastrl: track is 'wandb', but the package wandb is not installed; run `pip install wandb`\n"
    assert main([*TRAIN, "--out-dir", "run", "--track", "wandb"]) == 2
    assert capsys.readouterr().err == sentence and not Path("run").exists() and counting.made == []
    assert main([*TRAIN, "--out-dir", "run", "--total-steps", "20"]) == 0
    before = Path("run/config.toml").read_bytes()
    assert main(["train", "counting", "--resume", "run", "--track", "wandb"]) == 2
    assert Path("run/config.toml").read_bytes() == before


def test_a_resumed_run_that_fails_keeps_everything(counting, monkeypatch):
    main([*TRAIN, "--out-dir", "run", "--total-steps", "20"])
    names = {entry.name for entry in Path("run").iterdir()}
    monkeypatch.setattr(counting, "train", lambda self, **arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", "counting", "--resume", "run", "--total-steps", "40"])
    assert {entry.name for entry in Path("run").iterdir()} == names


def test_the_list_of_algorithms(counting, capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "vmpo" in text and "counting" in text


def test_a_run_that_has_its_steps_says_that_nothing_is_left(counting, capsys):
    assert main(["train", "counting", "--env-id", "Known-v0", "--total-steps", "20", "--out-dir", "run"]) == 0
    before = Path("run/config.toml").read_text()
    assert main(["train", "counting", "--resume", "run"]) == 2
    assert "total_steps must be above the 20 steps" in capsys.readouterr().err
    assert main(["train", "counting", "--resume", "run", "--total-steps", "10"]) == 2
    assert Path("run/config.toml").read_text() == before


def test_a_config_file_of_another_algorithm_is_refused(counting, capsys):
    Path("other.toml").write_text('algorithm = "ppo"\nenv_id = "Known-v0"\n')
    assert main(["train", "counting", "--config", "other.toml"]) == 2
    assert "other.toml holds settings of 'ppo', not of 'counting'" in capsys.readouterr().err


def test_an_empty_out_dir_is_refused(counting, capsys):
    assert main(["train", "counting", "--env-id", "Known-v0", "--out-dir", ""]) == 2
    assert "out_dir must name a folder" in capsys.readouterr().err
