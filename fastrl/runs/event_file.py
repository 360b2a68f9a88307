"""TensorBoard's event file, written row by row in the thread that logs, so that errors appear there."""

from __future__ import annotations

import io
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fastrl.runs.safe_files import append_to_file, replace_file

VERSION = "brain.Event:2"  # TensorBoard's name of the format


class EventFile:
    """Scalars and histograms of a run. Every row is in the file as soon as a call returns, or not at all.

    Args:
        folder: run folder. The file gets a name of its own beside those of earlier sessions.
        purge_step: TensorBoard hides what those sessions wrote at this step and later; None hides nothing.

    Raises:
        RunFolderError: the file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        self.folder = folder
        self._begin()
        if purge_step is not None:
            from tensorboard.compat.proto.event_pb2 import SessionLog

            # the second is read only after one of its step that names the format
            marks: list[dict[str, Any]] = [
                {"file_version": VERSION},
                {"session_log": SessionLog(status=SessionLog.START)},
            ]
            self._append([_record(mark, purge_step) for mark in marks])

    def add_scalars(self, numbers: Mapping[str, float], env_steps: int) -> None:
        """A row of numbers by name."""
        from torch.utils.tensorboard.summary import scalar  # takes a while to import

        self._append(
            [_record({"summary": scalar(name, value)}, env_steps) for name, value in numbers.items()]
        )

    def add_histograms(self, samples: Mapping[str, Tensor], env_steps: int) -> None:
        """Any number of values by name, of any shape."""
        from torch.utils.tensorboard.summary import histogram

        self._append(
            [
                _record({"summary": histogram(name, values.detach(), _edges())}, env_steps)
                for name, values in samples.items()
            ]
        )

    def _begin(self) -> None:
        """A new file: TensorBoard reads those of a folder in the order of their names, so the time comes
        first."""
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        origin = f"{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}"
        name = f"events.out.tfevents.{origin}.{secrets.token_hex(8)}"
        self.path = self.folder / name
        replace_file(self.path, lambda file: file.write(_record({"file_version": VERSION}, 0)))

    def _append(self, records: list[bytes]) -> None:
        data = b"".join(records)
        try:
            append_to_file(self.path, data)
        except FileNotFoundError:  # someone has removed it
            self._begin()
            append_to_file(self.path, data)


def _record(content: Mapping[str, Any], env_steps: int) -> bytes:
    """An event in the file's frame of lengths and checksums."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(
        Event(wall_time=time.time(), step=int(env_steps), **content).SerializeToString()
    )
    return buffer.getvalue()


def _edges() -> np.ndarray:
    """Of a histogram's bins: each a tenth wider than the one before it, from 1e-12 to 1e20 on both sides of
    0."""
    positive = 1e-12 * 1.1 ** np.arange(774)
    return np.concatenate([-positive[::-1], [0.0], positive])
