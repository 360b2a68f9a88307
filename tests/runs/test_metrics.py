"""Logged numbers: files that grow, files that are cut back on resume, and nothing overwritten."""

import math
import sys
import types

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastrl.errors import RunFolderError, SettingError
from fastrl.runs.csv_table import CsvTable, read_columns
from fastrl.runs.metrics import MetricsLogger, _format_metrics, to_floats


def lines(path):
    return path.read_text().splitlines()


def test_format_metrics():
    assert (
        _format_metrics({"b": 2, "a/c": 0.123456, "A": torch.tensor(-1.0)})
        == "A=-1.0000, a/c=0.1235, b=2.0000"
    )
    assert _format_metrics({}) == ""
    assert _format_metrics({"x": math.nan}) == "x=nan"


def test_tensors_become_floats_in_the_order_they_came():
    numbers = to_floats(
        {
            "b": torch.tensor(0.1, dtype=torch.float64),
            "a": 3,
            "c": torch.tensor([True]),
            "d": torch.tensor(2**40),
        }
    )
    assert numbers == {"b": 0.1, "a": 3.0, "c": 1.0, "d": float(2**40)} and list(numbers) == [
        "b",
        "a",
        "c",
        "d",
    ]
    with pytest.raises(ValueError, match="metrics: x has 2 elements"):
        to_floats({"x": torch.zeros(2)})


def test_rows_are_in_the_file_at_once_and_read_back_exactly(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    values = [0.1, 1 / 3, 1e-300, -2.5e17, math.nan, math.inf, 3.0]
    for step, value in enumerate(values):
        logger.log({"x": value}, env_steps=step)
        assert len(lines(tmp_path / "metrics.csv")) == step + 2
    read = [value for _, value in read_columns(tmp_path / "metrics.csv", "x")]
    assert repr(read) == repr(values)


def test_columns_may_come_later_and_stay_where_they_are(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    logger.log({"b": 1, "a": 2}, env_steps=1)
    logger.log({"a": 3, "z": 4, "c": 5}, env_steps=2)
    logger.log({"b": 6}, env_steps=3)
    assert lines(tmp_path / "metrics.csv") == ["env_steps,a,b,c,z", "1,2,1,,", "2,3,,5,4", "3,,6,,"]
    assert read_columns(tmp_path / "metrics.csv", "a", "z") == [(2.0, 3.0, 4.0)]
    assert (
        read_columns(tmp_path / "metrics.csv", "nothing") == [] == read_columns(tmp_path / "missing.csv", "a")
    )


def run(folder, steps, *, start=0):
    """Log as a run does: a row per 10 steps, a new column at 40, an evaluation per 30."""
    with MetricsLogger(folder, tensorboard=False) as logger:
        if start:
            logger.resume_from(start)
        for step in range(start + 10, steps + 1, 10):
            logger.log({"loss": step / 7} | ({"late": step} if step >= 40 else {}), env_steps=step)
            if step % 30 == 0:
                logger.log_eval({"eval/return_mean": step / 3, "eval/return_std": 0.0}, env_steps=step)


@pytest.mark.parametrize("checkpoint", [10, 30, 40, 60])
def test_logs_of_a_resumed_run_equal_those_of_an_uninterrupted_one(tmp_path, checkpoint):
    run(tmp_path / "whole", 100)
    run(tmp_path / "resumed", 70)  # killed here; its last checkpoint is older
    run(tmp_path / "resumed", 100, start=checkpoint)
    for name in ("metrics.csv", "eval.csv"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_half_a_row_that_a_kill_left_is_dropped(tmp_path):
    for text in ("env_steps,a\n1,2\n2,", "env_steps,a\n1,2\n2,3", "env_steps,a\n1,2\n2,3.1"):
        path = tmp_path / "metrics.csv"
        path.write_text(text)
        table = CsvTable(path)
        table.append({"a": 9}, 5)
        assert lines(path) == ["env_steps,a", "1,2", "5,9"]


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    run(tmp_path, 30)
    before = (tmp_path / "metrics.csv").read_bytes()
    logger = MetricsLogger(tmp_path, tensorboard=False)
    with pytest.raises(SettingError, match="already holds a run"):
        logger.log({"loss": 0}, env_steps=1)
    with pytest.raises(SettingError, match="already holds a run"):
        logger.log_eval({"eval/return_mean": 0}, env_steps=1)
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_the_same_evaluation_is_written_once(tmp_path):
    logger = MetricsLogger(tmp_path, tensorboard=False)
    for _ in range(2):
        logger.log_eval({"eval/return_mean": 1.5}, env_steps=10)
    assert lines(tmp_path / "eval.csv") == ["env_steps,eval/return_mean", "10,1.5"]


def read_events(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_holds_the_same_numbers_also_after_a_resume(tmp_path):
    with MetricsLogger(tmp_path) as logger:
        for step in (10, 20, 30):
            logger.log({"loss/x": step / 2}, env_steps=step)
        logger.log_eval({"eval/return_mean": 4.0}, env_steps=30)
    with MetricsLogger(tmp_path) as logger:
        logger.resume_from(20)
        logger.log({"loss/x": 99.0}, env_steps=25)
    assert read_events(tmp_path)["loss/x"] == [(10, 5.0), (20, 10.0), (25, 99.0)]


def test_closing_draws_the_curve_and_may_be_done_twice(tmp_path):
    logger = MetricsLogger(tmp_path)
    logger.log({"rollout/ep_return_mean": 1.0}, env_steps=10)
    logger.close()
    logger.close()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_or_missing_tracker_is_a_setting_error(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="track must be wandb, got 'tensorbord'"):
        MetricsLogger(tmp_path, track="tensorbord")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if not installed
    with pytest.raises(
        SettingError,
        match="track is 'wandb', but the package wandb is not installed; run `pip install wandb`",
    ):
        MetricsLogger(tmp_path, track="wandb")


def test_tracking_sends_every_row_and_keeps_its_identity_over_a_resume(tmp_path, monkeypatch):
    sent, started = [], []

    class FakeRun:
        def log(self, row):
            sent.append(row)

        def finish(self):
            sent.append("finished")

    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: started.append(settings) or FakeRun()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for start in (0, 10):
        with MetricsLogger(tmp_path, track="wandb", config={"seed": 3}, tensorboard=False) as logger:
            logger.resume_from(start)
            logger.log({"loss": 1.0}, env_steps=start + 10)
    assert sent == [{"loss": 1.0, "env_steps": 10}, "finished", {"loss": 1.0, "env_steps": 20}, "finished"]
    assert (
        started[0]["id"] == started[1]["id"]
        and started[0]["config"] == {"seed": 3}
        and started[0]["name"] == tmp_path.name
    )


def test_the_console_sees_what_the_files_get(tmp_path):
    seen = []

    class Screen:
        def update(self, metrics, env_steps):
            seen.append(("update", metrics, env_steps))

        def evaluation(self, metrics, env_steps):
            seen.append(("evaluation", metrics, env_steps))

        def close(self):
            seen.append("close")

    with MetricsLogger(tmp_path, console=Screen(), tensorboard=False) as logger:
        logger.log({"loss": torch.tensor(0.5)}, env_steps=1)
        logger.log_eval({"eval/return_mean": 2}, env_steps=1)
    assert seen == [("update", {"loss": 0.5}, 1), ("evaluation", {"eval/return_mean": 2.0}, 1), "close"]


def test_logs_that_find_no_room_are_left_out_and_noted_once(tmp_path, monkeypatch):
    def full(*_):
        raise RunFolderError("x.csv cannot be written: No space left on device")

    logger = MetricsLogger(tmp_path)
    logger.log({"rollout/ep_return_mean": 1.0}, env_steps=10)
    with monkeypatch.context() as patch, pytest.warns(UserWarning) as warned:
        for module in ("csv_table", "event_file", "curve"):
            patch.setattr(f"fastrl.runs.{module}.replace_file", full)
            if module != "curve":
                patch.setattr(f"fastrl.runs.{module}.append_to_file", full)
        for step in (20, 30):
            logger.log({"rollout/ep_return_mean": 2.0}, env_steps=step)
            logger.log_eval({"eval/return_mean": 2.0}, env_steps=step)
    logger.log({"rollout/ep_return_mean": 4.0}, env_steps=40)  # there is room again
    logger.close()
    assert logger.failed == ["eval.csv", "events.out.tfevents.*", "metrics.csv"] and len(warned) == 1
    assert lines(tmp_path / "metrics.csv") == ["env_steps,rollout/ep_return_mean", "10,1", "40,4"]
    [note] = lines(tmp_path / "notes.txt")
    assert note.endswith(
        "x.csv cannot be written: No space left on device; what finds no room there is left out, and the "
        "run goes on"
    )


def test_a_tracking_service_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    class FakeRun:
        def log(self, row):
            raise ConnectionError("no network")

        finish = log

    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: FakeRun()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with (
        pytest.warns(UserWarning, match="no network"),
        MetricsLogger(tmp_path, track="wandb", tensorboard=False) as logger,
    ):
        logger.log({"loss": 1.0}, env_steps=10)
    assert logger.failed == ["wandb"]


def test_a_damaged_file_does_not_block_a_resume(tmp_path):
    run(tmp_path, 70)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").write_bytes(whole.replace(b"\n20,", b"\n\xff,"))
    with pytest.warns(UserWarning, match="metrics.csv was damaged: 1 of 7 lines could not be read"):
        run(tmp_path, 100, start=50)
    assert [int(line.split(",")[0]) for line in lines(tmp_path / "metrics.csv")[1:]] == [
        10,
        30,
        40,
        50,
        60,
        70,
        80,
        90,
        100,
    ]
