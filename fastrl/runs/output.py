"""Standard output that may go away during a run: a closed pipe or terminal, a full disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, TextIO, cast


class LastingStream:
    """A text stream that remembers its failure instead of raising it; later output is dropped.

    A character that the stream's encoding lacks becomes a question mark. Everything but writing is the
    stream's own.

    Args:
        stream: where the text goes; None (a process that was started without one) drops everything.

    Attributes:
        lost: the error that ended the writing, None while there was none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: Exception | None = None

    @property
    def reader_gone(self) -> bool:
        """Whether the other end of the pipe is closed, so that nobody will read what is written."""
        return isinstance(self.lost, BrokenPipeError)

    def write(self, text: str) -> int:
        """Write or drop; returns the number of characters."""
        self._attempt(lambda stream: stream.write(_encodable(text, stream)))
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor; ValueError where there is none."""
        if self._stream is None:
            raise ValueError("there is no stream")
        return self._stream.fileno()

    def release(self) -> None:
        """Let what a lost stream still holds go nowhere, instead of failing once more when Python exits."""
        self.flush()
        if self.lost is None or self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError):  # no file of the system's, or closed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        if self._stream is None or self.lost is not None:
            return
        try:
            action(self._stream)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.lost = error.with_traceback(None)  # the frames hold a trainer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lasting(stream: TextIO | None) -> LastingStream:
    """The stream as one that lasts; one that does already is itself."""
    return stream if isinstance(stream, LastingStream) else LastingStream(stream)


def as_text(stream: LastingStream) -> TextIO:
    """For those who ask for a text stream by its type."""
    return cast(TextIO, stream)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None)
    if not encoding or text.isascii():
        return text
    try:
        return text.encode(encoding, errors="replace").decode(encoding)
    except LookupError:
        return text
