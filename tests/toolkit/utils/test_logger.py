"""The logger: averages, the table, files, and the edges where it once failed."""

import csv
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastrl.errors import SettingError
from fastrl.toolkit.utils.logger import Logger


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


RULE = "-" * 64


def test_the_table(capsys, clock):
    logger = Logger(clock=clock)
    logger.add_log("VanillaPGModel/Entropy", 0.6)
    logger.add_log("VanillaPGModel/Entropy", torch.tensor(0.76))
    logger.add_log("Policy/KL", 0.01234, precision=4)
    clock.now += 10
    logger.timeit(8120, 1_002_620)
    logger.log("Iter 10 | Episode 93 | Step 5120")
    assert capsys.readouterr().out.splitlines() == [
        "Iter 10 | Episode 93 | Step 5120 | Steps/Second: 812 | ETA: 0:20:25",
        RULE,
        f"{'VanillaPGModel/Entropy':56}|   0.68",
        f"{'Policy/KL':56}| 0.0123",
        RULE,
    ]


def test_rows_of_a_group_stand_together_and_where_they_first_stood(capsys):
    logger = Logger()
    for names in (["A/x", "B/x", "A/y"], ["B/y", "A/y", "B/x", "A/x"], ["B/x", "A/y"]):
        for name in names:
            logger.add_log(name, 1)
        logger.log()
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line != RULE]
    assert rows == ["A/x", "A/y", "B/x", "A/x", "A/y", "B/x", "B/y", "A/y", "B/x"]


def test_the_last_value_counts_where_that_is_asked_for(capsys):
    logger = Logger()
    for value in (1.0, torch.tensor(5.0)):
        logger.add_log("mean", value)
        logger.add_log("latest", value, latest=True)
    logger.log()
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["3.00", "5.00"]


def test_what_is_left_at_the_end_is_shown_once(capsys, tmp_path):
    logger = Logger(tmp_path, log_freq=10)
    capsys.readouterr()
    logger.add_log("x", 3)
    logger.timeit(64)
    logger.log("h")
    logger.log_rest("end")
    logger.log_rest("end")
    logger.close()
    assert capsys.readouterr().out.count("end") == 1 and rows(tmp_path) == [{"env_steps": "64", "x": "3"}]


def test_long_names_and_numbers_widen_it(capsys):
    logger = Logger()
    logger.add_log("n" * 70, 123456789.0)
    logger.add_log("nan", math.nan)
    logger.log()
    lines = capsys.readouterr().out.splitlines()
    assert (
        len({len(line) for line in lines}) == 1
        and lines[1] == "n" * 70 + " | 123456789.00"
        and lines[2].endswith("nan")
    )


def test_an_empty_log_is_no_failure(capsys, tmp_path):
    logger = Logger(tmp_path / "run")
    capsys.readouterr()
    logger.log()
    assert capsys.readouterr().out == ""
    logger.log("header")
    logger.add_tf_only_log("a", 1.0)
    logger.log()
    assert capsys.readouterr().out == "header\n"
    logger.close()


def test_values_are_averaged_between_tables_and_forgotten(capsys):
    logger = Logger(log_freq=3)
    for i in range(6):
        logger.add_log("x", float(i))
        logger.log(f"h{i}")
    out = capsys.readouterr().out
    assert (
        [line.split()[-1] for line in out.splitlines() if line.startswith("x")] == ["1.00", "4.00"]
        and "h2" in out
        and "h1" not in out
    )
    logger.set_log_freq(1)
    logger.log("end")
    assert capsys.readouterr().out == "end\n"
    for wrong in (0, 1.5, True, None):
        with pytest.raises(SettingError, match="log_freq must be a whole number of at least 1"):
            logger.set_log_freq(wrong)


def test_speed_is_of_the_last_interval_and_the_time_left_of_the_whole_run(capsys, clock):
    logger = Logger(clock=clock)
    clock.now += 10
    logger.timeit(1000, 4000)
    clock.now += 30
    logger.timeit(2000, 4000)  # 33 a second now, 50 on the whole
    logger.log("h")
    assert capsys.readouterr().out == "h | Steps/Second: 33 | ETA: 0:00:40\n"
    clock.now += 1
    for unlimited in (-1, None):
        logger.timeit(3000, unlimited)
        logger.log("h")
    assert "ETA" not in capsys.readouterr().out
    clock.now += 1
    logger.timeit(5000, 4000)
    logger.log("h")
    assert capsys.readouterr().out.endswith("ETA: 0:00:00\n")


def test_no_time_gone_by_is_no_failure(capsys, clock):
    logger = Logger(clock=clock)
    logger.timeit(100, 1000)
    logger.log("h")
    logger.timeit(100, 1000)
    clock.now += 1
    logger.timeit(100, 1000)
    logger.log("i")
    assert capsys.readouterr().out == "h\ni | ETA: 0:00:09\n"


def test_files_hold_what_was_logged(tmp_path, capsys):
    with Logger(tmp_path / "run") as logger:
        assert capsys.readouterr().out == f"Writing logs to: {tmp_path / 'run'}\n"
        logger.add_log("a/shown", 1.0)
        logger.add_log("a/shown", 2.0)
        logger.add_tf_only_log("hidden", torch.tensor([3.0], requires_grad=True))
        logger.add_histogram("weights", torch.randn(10, requires_grad=True))
        logger.timeit(512)
        logger.log("h")
        logger.add_log("a/shown", 5)
        logger.timeit(1024)
        logger.log("h")
    logger.close()  # once more does nothing
    assert rows(tmp_path / "run") == [
        {"env_steps": "512", "a/shown": "1.5", "hidden": "3"},
        {"env_steps": "1024", "a/shown": "5", "hidden": ""},
    ]
    assert "hidden" not in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("a/shown")] == [(512, 1.5), (1024, 5.0)]
    assert (
        events.Histograms("weights")[0].histogram_value.num == 10
        and events.Histograms("weights")[0].step == 512
    )


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    logger = Logger()
    logger.add_log("a", 1)
    logger.add_histogram("b", [1, 2])
    logger.log()
    logger.close()
    assert (
        not list(tmp_path.iterdir()) and logger.log_dir is None and "Writing" not in capsys.readouterr().out
    )


def test_every_run_has_a_folder_of_its_own_unless_it_is_continued(tmp_path, capsys):
    for _ in range(3):
        with Logger(tmp_path / "runs") as logger:
            for step in (10, 20):
                logger.add_log("a", step)
                logger.timeit(step)
                logger.log()
    assert (
        logger.log_dir == tmp_path / "runs" / "3"
        and len(rows(tmp_path / "runs")) == len(rows(tmp_path / "runs" / "2")) == 2
    )
    with Logger(tmp_path / "runs", resume_from=10) as logger:
        logger.add_log("a", 5)
        logger.timeit(30)
        logger.log()
    assert [row["env_steps"] for row in rows(tmp_path / "runs")] == ["10", "30"]


def test_a_resumed_run_is_timed_from_where_it_went_on(capsys, clock):
    logger = Logger(resume_from=10_000, clock=clock)
    clock.now += 10
    logger.timeit(10_100, 11_100)
    logger.log("h")
    assert capsys.readouterr().out == "h | Steps/Second: 10 | ETA: 0:01:40\n"


def test_debug_values_show_in_a_debugging_logger_alone(capsys):
    for debug in (False, True):
        logger = Logger(debug=debug)
        logger.add_debug("d", 1)
        logger.log()
    assert capsys.readouterr().out.count("d  ") == 1


def test_a_logged_value_is_one_number_and_keeps_no_graph():
    logger = Logger()
    with pytest.raises(ValueError, match="value of 'x' must be one number, got a tensor of 2"):
        logger.add_log("x", torch.zeros(2))
    value = (torch.ones(1, requires_grad=True) * 2).squeeze()
    logger.add_log("x", value)
    assert not any(entry.requires_grad for entry in logger._series["x"].values)
