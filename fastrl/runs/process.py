"""What a trainer changes of the process it lives in, and puts back: torch's threads, and what the C library
does with freed memory."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import torch

from fastrl.runs.allocator import Thresholds, keep_freed_memory, replace_thresholds


class ProcessSettings:
    """Settings of the process between `apply` and `restore`, or inside a `with`.

    Several may be open at once, as trainers are: the newest one's count, and when the last is gone the
    process is as the first one found it. A thread count that somebody else has set meanwhile stays.

    Args:
        torch_threads: threads of torch, ≥ 1; None leaves them.
    """

    _open: list[ProcessSettings] = []
    _lock = threading.RLock()
    _found_threads = 1
    _found_thresholds: Thresholds | None = None

    def __init__(self, torch_threads: int | None = None) -> None:
        self.torch_threads = torch_threads

    def apply(self) -> None:
        """Change the process; a second call does nothing."""
        with self._lock:
            if self in self._open:
                return
            if not self._open:
                ProcessSettings._found_threads = torch.get_num_threads()
                ProcessSettings._found_thresholds = keep_freed_memory()
            self._open.append(self)
            self._set_threads()

    def restore(self) -> None:
        """Put back what was found; a second call does nothing."""
        with self._lock:
            if self not in self._open:
                return
            newest = self._newest_count()
            self._open.remove(self)
            if torch.get_num_threads() == newest:
                torch.set_num_threads(self._newest_count())
            if not self._open and self._found_thresholds is not None:
                replace_thresholds(self._found_thresholds)

    def _set_threads(self) -> None:
        if self.torch_threads is not None:
            torch.set_num_threads(self.torch_threads)

    @classmethod
    def _newest_count(cls) -> int:
        """Threads of torch as the newest of the open settings has them, or as they were found."""
        counts = [settings.torch_threads for settings in cls._open if settings.torch_threads is not None]
        return counts[-1] if counts else cls._found_threads

    def __enter__(self) -> Self:
        self.apply()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
