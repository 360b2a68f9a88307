"""SIGINT and SIGTERM as requests."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from fastrl.training.signals import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(number):
    with StopOnSignal() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number.name


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError):
        with StopOnSignal():
            raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_repeats_within_a_moment_are_the_same_request():
    with StopOnSignal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # as `timeout` and a terminal send them
            os.kill(os.getpid(), number)
        assert stop.requested == "SIGTERM"


def test_nested_contexts_see_the_same_request():
    with StopOnSignal() as outer:
        with StopOnSignal() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.requested == "SIGTERM"
        assert outer.requested == "SIGTERM"
        with StopOnSignal() as late:  # entered after the signal came
            assert late.requested == "SIGTERM"
    with StopOnSignal() as fresh:
        assert fresh.requested is None


def test_other_threads_install_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopOnSignal() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


SECOND_SIGNAL = """
    import time
    from fastrl.training.signals import REPEAT_WINDOW, StopOnSignal
    with StopOnSignal() as stop:
        print("ready", flush=True)
        while not stop.requested:
            time.sleep(0.001)
        time.sleep(REPEAT_WINDOW * 1.1)
        print(stop.requested, flush=True)
        try:
            time.sleep(60)  # stopping takes too long
        finally:
            print("clean-up that must not run", flush=True)
"""


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_a_later_signal_ends_the_process_at_once(first, second):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SECOND_SIGNAL)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[first])
    assert process.stdout.readline() == f"{first}\n"
    process.send_signal(signal.Signals[second])
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.Signals[second] and rest == ""
