"""SIGINT, SIGTERM and SIGHUP as a request that a loop can honour where it is safe."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from fastrl.runs.signal_watcher import SignalWatcher

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEAT_WINDOW = 0.3  # seconds; `timeout`, `make` and terminals deliver one wish to end as several signals


class _Request:
    """What has been asked of the process; shared by nested contexts."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.time: float | None = None  # of the first signal


class StopOnSignal:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `requested`; the next ends the process.

    SIGHUP is what a terminal sends that is closed; where it is ignored (`nohup`) it stays ignored. Ending at
    once is the signal's own default (no clean-up runs), which checkpoints survive by their protocol; it also
    works inside a long native call that has let go of Python's lock. Signals within 0.3 s of the first are
    the same request. Contexts may be nested: all of them see the request, also one that came before they were
    entered. The handlers found on entry are put back on exit. Outside the main thread, where Python delivers
    no signals, nothing is installed.

    Example:
        with StopOnSignal() as stop:
            while not stop.requested:
                work()
    """

    _current: _Request | None = None

    def __init__(self) -> None:
        self._request = _Request()
        self._outer: _Request | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._watcher: SignalWatcher | None = None

    @property
    def requested(self) -> str | None:
        """Name of the signal that asked to stop ("SIGINT", "SIGTERM", "SIGHUP"), or None."""
        return self._request.name

    def request(self, name: str) -> None:
        """Ask as a signal would; one that has asked already stays the one that is named."""
        self._request.name = self._request.name or name

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._outer = StopOnSignal._current
        self._request = self._outer or _Request()
        StopOnSignal._current = self._request
        for number in STOP_SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._handle)
        if self._outer is None:
            self._watcher = SignalWatcher(tuple(self._previous), REPEAT_WINDOW)
            self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._previous:
            return
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        for number, handler in self._previous.items():
            # None: the handler was not set from Python and cannot be put back; the default is the nearest
            # thing
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}
        StopOnSignal._current = self._outer

    def _handle(self, number: int, frame: FrameType | None) -> None:
        request, now = self._request, time.monotonic()
        self.request(signal.Signals(number).name)
        if request.time is None:
            request.time = now
        elif now - request.time > REPEAT_WINDOW:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def comes_true(asked: Callable[[], bool], seconds: float = 0.5) -> bool:
    """Whether `asked` says yes now or within that time.

    A signal may reach a process a moment after its children have died of it.
    """
    deadline = time.monotonic() + seconds
    while not asked():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
