"""What went wrong beside the training, for whoever opens the run folder later: notes.txt."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from pathlib import Path

from fastrl.errors import RunFolderError
from fastrl.runs.safe_files import append_to_file, replace_file

NOTES_FILE = "notes.txt"


class RunNotes:
    """Lines of notes.txt in a run folder, each also a warning.

    One that finds no room is tried again with the next; nothing is raised.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NOTES_FILE
        self.taken: list[str] = []
        self._unwritten = b""

    def add(self, text: str) -> None:
        """Write a line, with the date, and warn; what was said once is not said again."""
        if text in self.taken:
            return
        self.taken.append(text)
        self._unwritten += f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n".encode()
        self.write()
        warnings.warn(text, stacklevel=3)

    def write(self) -> None:
        """Write what found no room before, if it does now."""
        lines = self._unwritten
        if not lines:
            return
        with contextlib.suppress(RunFolderError):
            if os.path.lexists(self.path):
                append_to_file(self.path, lines)
            else:
                replace_file(self.path, lambda file: file.write(lines))
            self._unwritten = b""
