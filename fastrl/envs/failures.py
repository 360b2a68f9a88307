"""Failures of environments: one sentence with the environment, the step, the seed and the cause."""

from __future__ import annotations

import re
import signal
import threading

from fastrl.envs.deadline import NoAnswer

FIVE_VALUES = "step must return five values (observation, reward, terminated, truncated, info)"
TWO_VALUES = "reset must return two values, (observation, info)"


class EnvironmentFailure(RuntimeError):
    """An environment raised, did not return in time, or returned what it must not.

    The message names environment, step and seed.
    """


class WrongReturn(ValueError):
    """What an environment returned cannot be used; the message says what it must return.

    The cause of an `EnvironmentFailure`.
    """


class ObservationFault(WrongReturn):
    """An observation is not what its space declares; the message names the entry.

    It reaches the user inside an `EnvironmentFailure`.

    Args:
        message: what came and what is declared.
        env_index: which environment's it is; None where it is that of all.
    """

    def __init__(self, message: str, env_index: int | None = None) -> None:
        super().__init__(message)
        self.env_index = env_index


def cause_of(error: BaseException) -> str:
    """An error's own words, after its class where it is not one of fastrl's."""
    if type(error).__module__.startswith("fastrl."):
        return str(error)
    cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{cause} ({hint})" if (hint := _hint(error)) else cause


def _hint(error: BaseException) -> str | None:
    """Wrong returns, old Gym's too: errors of unpacking inside Gymnasium's wrappers, which say little."""
    if isinstance(error, TypeError) and str(error).startswith("cannot unpack non-iterable"):
        return f"{FIVE_VALUES}, and {TWO_VALUES}"
    unpacked = (
        re.match(r"(?:not enough|too many) values to unpack \(expected (\d)", str(error))
        if isinstance(error, ValueError)
        else None
    )
    return None if unpacked is None else {"5": FIVE_VALUES, "2": TWO_VALUES}.get(unpacked[1])


def is_of_the_process(error: BaseException) -> bool:
    """Whether the error was for the process, not the environment: Ctrl-C, or a signal handler's.

    Where a handler has taken SIGINT over, as training does, a `KeyboardInterrupt` out of an environment is
    the environment's: that of a worker process which got the same Ctrl-C, for example.
    """
    if isinstance(error, Exception | NoAnswer) or threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    if isinstance(error, KeyboardInterrupt) and signal.default_int_handler in handlers:
        return True
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False
