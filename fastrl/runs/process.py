"""What a trainer changes of its process while it works, and puts back.

Torch's threads, what the C library does with freed memory, and the process's random generators.

How many threads: `fastrl.runs.threads`; freed memory: `fastrl.runs.allocator`; generators:
`fastrl.runs.seeding`. Nothing else of fastrl sets any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch

from fastrl.runs.allocator import Thresholds, keep_freed_memory, replace_thresholds
from fastrl.runs.seeding import put_rng_state, require_rng_state, rng_state, seeded_rng_state, set_rng_state


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


class Session:
    """While it is entered, the process works for one trainer, with its threads and random generators.

    Afterwards the process is as it was, and the next time the generators go on where they stopped.

    It can be entered inside itself, which changes nothing, and inside another trainer's. The generators are
    those of the whole process: other threads that draw meanwhile draw from them too. Where sessions of two
    threads overlap, the process is as the first one found it when the last has ended.

    Args:
        settings: what is applied meanwhile.
        seed: of the generators, in [0, 2^32).
        device: where the trainer draws.
    """

    _open: list[Session] = []  # of all trainers, as they were entered
    _lock = threading.RLock()

    def __init__(self, settings: ProcessSettings, seed: int, device: torch.device) -> None:
        self._settings = settings
        self._own: Mapping[str, Any] = seeded_rng_state(seed, device)  # while it is not entered
        self._outside: Mapping[str, Any] = {}  # while it is
        self._depth = 0

    @property
    def generators(self) -> Mapping[str, Any]:
        """The state of the trainer's generators (see `fastrl.runs.seeding.rng_state`)."""
        return rng_state() if self._depth else self._own

    @generators.setter
    def generators(self, state: Mapping[str, Any]) -> None:
        if self._depth:
            set_rng_state(state)
        else:
            require_rng_state(state)
            self._own = state

    def __enter__(self) -> Self:
        with self._lock:
            if self._depth == 0:
                self._outside = rng_state()
                self._settings.apply()
                put_rng_state(self._own)
                self._open.append(self)
            self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._leave()

    def _leave(self) -> None:
        place = self._open.index(self)
        del self._open[place]
        if place == len(self._open):
            self._own = rng_state()
            put_rng_state(self._outside)
        else:  # one of another thread was entered later and goes on: it found this one's generators
            later = self._open[place]
            self._own, later._outside = later._outside, self._outside
        self._settings.restore()
