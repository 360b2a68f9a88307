"""SIGINT, SIGTERM and SIGHUP as requests."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from fastrl.runs.signals import REPEAT_WINDOW, STOP_SIGNALS, StopOnSignal


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_a_request(number):
    with StopOnSignal() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number.name


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(ZeroDivisionError):
        with StopOnSignal():
            raise ZeroDivisionError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_repeats_within_a_moment_are_the_same_request():
    with StopOnSignal() as stop:
        for number in (
            signal.SIGTERM,
            signal.SIGTERM,
            signal.SIGINT,
        ):  # as `timeout` and a terminal send them
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


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` leaves it
    try:
        with StopOnSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_asks_without_a_signal_is_no_first_signal():
    with StopOnSignal() as outer, StopOnSignal() as inner:
        inner.request("SIGPIPE")
        os.kill(os.getpid(), signal.SIGTERM)  # the first one, which ends nothing at once
        assert outer.requested == inner.requested == "SIGPIPE"


def test_the_watcher_leaves_no_thread_and_no_descriptor():
    threads, reading, writing = threading.active_count(), *os.pipe()
    os.set_blocking(writing, False)
    found = signal.set_wakeup_fd(writing)
    try:
        with StopOnSignal(), StopOnSignal():
            assert threading.active_count() == threads + 1
            previous = signal.signal(signal.SIGUSR1, lambda number, frame: None)
            signal.raise_signal(signal.SIGUSR1)  # not ours: whoever listened before hears of it all the same
            assert os.read(reading, 1)[0] == signal.SIGUSR1
            signal.signal(signal.SIGUSR1, previous)
        assert threading.active_count() == threads
    finally:
        assert signal.set_wakeup_fd(found) == writing
        os.close(reading), os.close(writing)


def test_a_forked_child_does_not_end_its_parent():
    with StopOnSignal() as stop:
        child = os.fork()
        if child == 0:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
            os._exit(signal.set_wakeup_fd(-1) == -1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert stop.requested is None


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
    from fastrl.runs.signals import REPEAT_WINDOW, StopOnSignal
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


@pytest.mark.parametrize(
    ("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")]
)
def test_a_later_signal_ends_the_process_at_once(first, second):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SECOND_SIGNAL)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.Signals[first])
    assert process.stdout.readline() == f"{first}\n"
    process.send_signal(signal.Signals[second])
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.Signals[second] and rest == ""


# the mutex is locked already: pthread_mutex_lock never returns, whatever signal comes
IN_NATIVE_CODE = """
    import ctypes
    from fastrl.runs.signals import StopOnSignal
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    with StopOnSignal():
        libc.pthread_mutex_lock(mutex)
        print("ready", flush=True)
        libc.pthread_mutex_lock(mutex)
"""


def test_a_later_signal_ends_the_process_inside_a_native_call_too():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(IN_NATIVE_CODE)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=REPEAT_WINDOW * 2)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGHUP
