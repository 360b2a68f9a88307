"""What the person at the screen sees, on a terminal and in a file."""

import errno
import io
import sys

import pytest

from fastrl.runs.console import Console

ROW = {
    "rollout/ep_return_mean": 12.5,
    "rollout/ep_length_mean": 30.0,
    "time/env_steps_per_s": 2345.6,
    "loss/policy": 0.25,
}
EVALUATION = {"eval/return_mean": 100.0, "eval/return_std": 2.5, "eval/length_mean": 99.0}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make_console(live, total=1000, start=0):
    stream, clock = io.StringIO(), Clock()
    return Console(total, start_steps=start, stream=stream, live=live, clock=clock), stream, clock


def test_plain_lines_come_at_most_every_five_seconds():
    console, stream, clock = make_console(live=False)
    for second in range(12):
        clock.now = float(second)
        console.update(ROW, env_steps=(second + 1) * 10)
    assert len(stream.getvalue().splitlines()) == 3  # at 0, 5 and 10 seconds


def test_a_plain_line_has_the_numbers_that_matter():
    console, stream, clock = make_console(live=False)
    clock.now = 10.0
    console.update(ROW, env_steps=250)
    line = stream.getvalue()
    for part in (
        "250 steps",
        "25%",
        "episode return 12.5",
        "policy loss 0.25",
        "2,346 steps/s",
        "left 0:00:30",
    ):
        assert part in line
    assert "\x1b" not in line


def test_an_evaluation_always_has_its_line():
    console, stream, _ = make_console(live=False)
    console.update(ROW, env_steps=10)
    for step in (20, 30):
        console.evaluation(EVALUATION, env_steps=step)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and "30 steps  evaluation: return 100.00 ± 2.50, length 99.0" in lines[-1]


def test_closing_shows_the_last_row_once():
    console, stream, clock = make_console(live=False)
    console.update(ROW, env_steps=10)
    clock.now = 1.0
    console.update(ROW, env_steps=1000)
    console.close()
    console.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 and "100%" in lines[-1]


def test_remaining_time_counts_this_process_only():
    console, _, clock = make_console(live=False, total=1000, start=600)
    assert console.seconds_left() is None
    clock.now = 10.0
    console.update({}, env_steps=800)
    assert console.seconds_left() == 10.0
    console.update({}, env_steps=1200)  # the last rollout may go over the end
    assert console.seconds_left() == 0.0


def test_a_terminal_gets_a_table_with_a_bar_and_lines_above_it():
    console, stream, clock = make_console(live=True)
    console.message("before the table")
    console.update(ROW, env_steps=500)
    clock.now = 0.1
    console.update(ROW | {"loss/value": 7.0}, env_steps=501)  # too soon for another frame
    assert "value loss" not in stream.getvalue()
    console.evaluation(EVALUATION, env_steps=600)
    console.close()
    text = stream.getvalue()
    for part in (
        "before the table",
        "500 of 1,000",
        "episode return",
        "12.5",
        "evaluation: return 100.00 ± 2.50",
        "600 of 1,000",
        "━",
    ):
        assert part in text
    assert "\x1b[" in text
    assert text.rstrip("\n").endswith("\x1b[?25h")  # the cursor is back


def test_a_pipe_gets_lines_by_itself():
    assert Console(10, stream=io.StringIO()).live is False


class Closed(io.StringIO):
    """Takes a few texts, then fails."""

    encoding = "ascii"

    def __init__(self, texts, error):
        super().__init__()
        self.texts, self.error = texts, error

    def write(self, text):
        self.texts -= 1
        if self.texts < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.ENOSPC, "No space left"),
        ValueError("closed"),
    ],
)
@pytest.mark.parametrize("texts", [0, 3])
def test_output_that_fails_is_told_once_and_raises_nothing(live, error, texts):
    told = []
    before = sys.stdout
    console = Console(
        1000, stream=Closed(texts, error), live=live, on_lost=lambda steps, why: told.append((steps, why))
    )
    for step in range(10, 60, 10):
        console.message("a line")
        console.update(ROW, env_steps=step)
        console.evaluation(EVALUATION, env_steps=step)
    console.close()
    assert len(told) == 1 and told[0][1] is error and sys.stdout is before


def test_a_process_without_standard_output_shows_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    console = Console(1000)
    console.message("a line")
    console.update(ROW, env_steps=10)
    console.close()
    assert console.live is False


def test_characters_that_the_terminal_lacks_become_question_marks():
    stream = Closed(100, None)
    Console(1000, stream=stream, live=False).evaluation(EVALUATION, env_steps=10)
    assert "return 100.00 ? 2.50" in stream.getvalue()
