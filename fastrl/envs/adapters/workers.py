"""The worker processes of Gymnasium's `AsyncVectorEnv`: which one failed, and how to end them all."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import signal
import time
from typing import Any

from gymnasium.vector import AsyncVectorEnv

PATIENCE = 10.0  # seconds that workers have for closing their environments


class WorkerEnded(RuntimeError):
    """A worker process is gone; the message says how it ended."""


class Workers:
    """The processes of an `AsyncVectorEnv`, one for each environment.

    Args:
        env: the `AsyncVectorEnv` itself, without wrappers.
    """

    def __init__(self, env: AsyncVectorEnv) -> None:
        self.env = env

    @classmethod
    def of(cls, env: Any) -> Workers | None:
        """Those of a vector environment, whatever is wrapped around it; None where it has none."""
        while env is not None and not isinstance(env, AsyncVectorEnv):
            env = getattr(env, "env", None)
        return None if env is None else cls(env)

    def blame(self, error: BaseException) -> tuple[int | None, BaseException]:
        """The environment that an error came from, None where it cannot be told, and the cause."""
        shut = [index for index, pipe in enumerate(self.env.parent_pipes) if pipe is None]
        if shut:  # Gymnasium has closed the pipe of the worker whose exception it raises
            return shut[-1], error
        if isinstance(error, EOFError | OSError):
            ended = self._ended(patience=1.0)
            if ended is not None:
                return ended
        return None, error

    def silent(self) -> int | None:
        """The first environment that has not answered, while Gymnasium waits for all of them."""
        pipes = enumerate(self.env.parent_pipes)
        return next(
            (index for index, pipe in pipes if pipe is not None and not pipe.closed and not pipe.poll(0)),
            None,
        )

    def end(self, patience: float = PATIENCE) -> None:
        """End all of them, whatever state they are in, and close the vector environment.

        They are asked to close their environments first; those that are still there after `patience` seconds
        are killed. (Its own `close` waits for answers, for ever if a worker has died.)
        """
        if self.env.closed:
            return
        for pipe in self.env.parent_pipes:
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
        deadline = time.monotonic() + patience
        for process in self.env.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in self.env.processes:
            if process.is_alive():
                process.kill()  # not SIGTERM: workers that were forked while training have its handler
                process.join()
        for pipe in self.env.parent_pipes:
            if pipe is not None:
                pipe.close()
        self.env.closed = True

    def _ended(self, patience: float) -> tuple[int, WorkerEnded] | None:
        """A worker that has ended, and how.

        Its pipes are closed a moment before the system tells that, hence `patience` in seconds.
        """
        ending = multiprocessing.connection.wait(
            [process.sentinel for process in self.env.processes], patience
        )
        for index, process in enumerate(self.env.processes):
            if process.sentinel in ending:
                process.join(patience)
                if process.exitcode is not None:
                    return index, WorkerEnded(f"its worker process {_how(process.exitcode)}")
        return None


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
