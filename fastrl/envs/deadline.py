"""A limit on the time that a call may take, for environments that hang."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class NoAnswer(BaseException):
    """The time is up.

    No `Exception`, so that `except Exception` within an environment does not take it for one of its own.
    """


def within(seconds: float, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `call` returns, or `NoAnswer` after that many seconds.

    An alarm signal raises it in the main thread, at the next step of the interpreter: Python code,
    `time.sleep` and waiting for another process are interrupted; native code that does not return is not. In
    other threads, where Python delivers no signals, there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return call(*args, **kwargs)
    returned = False

    def ring(number: int, frame: FrameType | None) -> None:
        if not returned:
            raise NoAnswer(f"no answer within {seconds:g} s (env_timeout)")

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(
        signal.ITIMER_REAL, seconds, seconds
    )  # again and again: a bare `except` may have swallowed the first
    try:
        try:
            return call(*args, **kwargs)
        finally:
            returned = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        # None: the handler was not set from Python and cannot be put back; the default is the nearest thing
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
