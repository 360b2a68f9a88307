"""What went wrong beside the training, for whoever opens the run folder later: notes.txt."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from pathlib import Path

from fastrl.errors import RunFolderError
from fastrl.training.safe_files import append_to_file, replace_file

NOTES_FILE = "notes.txt"


class RunNotes:
    """Lines of notes.txt in a run folder, each also a warning. A folder that takes no notes loses them; nothing is raised.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NOTES_FILE
        self.taken: list[str] = []

    def add(self, text: str) -> None:
        """Write a line, with the date, and warn; what was said once is not said again."""
        if text in self.taken:
            return
        self.taken.append(text)
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n".encode()
        with contextlib.suppress(RunFolderError):
            if not os.path.lexists(self.path):
                replace_file(self.path, lambda file: file.write(line))
            else:
                append_to_file(self.path, line)
        warnings.warn(text, stacklevel=3)
