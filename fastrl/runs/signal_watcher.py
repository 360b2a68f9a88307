"""A second signal ends the process also inside a long native call, where no Python handler runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
import weakref
from collections.abc import Sequence

END = b"\0"  # no signal has this number


class SignalWatcher:
    """A thread that hears of signals at once, by the descriptor to which Python writes their numbers.

    The first of `signals` is left to the handlers in Python. A later one, more than `window` seconds after
    it, ends the process by that signal's own default. Numbers of other signals are passed on to whoever had
    the descriptor before (an event loop). For the main thread only; a forked child does not write to its
    parent's descriptor.

    Args:
        signals: numbers of the signals to end on.
        window: seconds within which signals are one and the same request.
    """

    def __init__(self, signals: Sequence[int], window: float) -> None:
        self.signals = frozenset(int(number) for number in signals)
        self.window = window
        self._reading = self._writing = self._before = -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen; without a free descriptor or thread, signals are left to Python's handlers."""
        try:
            self._reading, self._writing = os.pipe()
        except OSError:
            return
        os.set_blocking(self._writing, False)
        thread = threading.Thread(target=self._watch, name="fastrl-signals", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._close()
            return
        self._thread = thread
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        _listening.add(self)

    def stop(self) -> None:
        """Put back the descriptor that was there before, and end the thread."""
        if self._thread is None:
            return
        _listening.discard(self)
        with contextlib.suppress(ValueError, OSError):  # whoever had it before may have closed it
            signal.set_wakeup_fd(self._before)
        os.set_blocking(self._writing, True)
        os.write(self._writing, END)
        self._thread.join()
        self._thread = None
        self._close()

    def forget(self) -> None:
        """In a forked child: the thread is not there, and the descriptor is the parent's."""
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(-1)
        self._thread = None
        self._close()

    def _close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)

    def _watch(self) -> None:
        first: float | None = None
        while True:
            for number in os.read(self._reading, 512):
                if number == END[0]:
                    return
                if number not in self.signals:
                    self._pass_on(number)
                elif first is None:
                    first = time.monotonic()
                elif time.monotonic() - first > self.window:
                    end_by(number)

    def _pass_on(self, number: int) -> None:
        if self._before >= 0:
            with contextlib.suppress(OSError):
                os.write(self._before, bytes([number]))


def end_by(number: int) -> None:
    """End this process by a signal's default action, from any thread.

    Python lets the main thread alone set handlers.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(int(number), None)  # SIG_DFL
    os.kill(os.getpid(), number)


_listening: weakref.WeakSet[SignalWatcher] = weakref.WeakSet()


def _forget_all() -> None:
    for watcher in list(_listening):
        watcher.forget()
    _listening.clear()


os.register_at_fork(after_in_child=_forget_all)
