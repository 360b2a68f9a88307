"""One process at a time writes into a run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fastrl.errors import RunFolderError
from fastrl.runs.safe_files import open_to_lock

LOCK_FILE = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what file systems that have none say
ATTEMPTS = 20  # each of them fails only if a holder let go between two system calls
HOLDER = re.compile(rb"process \d{1,10} on [\w.-]{1,80}")


@dataclass
class _Hold:
    """A folder that this process has locked."""

    thread: int
    file: Path
    descriptor: int
    times: int = 1


Identity = tuple[int, int]  # device and number of a folder
_held: dict[Identity, _Hold] = {}
_guard = threading.Lock()
os.register_at_fork(after_in_child=_held.clear)  # a child holds nothing


class RunLock:
    """While entered, no other process, and no other thread of this one, may enter it for the same run folder.

    The system holds the lock for the process and lets go of it when the process ends, however it ends: a
    killed run can be continued at once. Children do not hold it, so that workers which outlive their parent
    are in nobody's way. A thread that holds it may enter it again. What stands in the lock file, process and
    host, only serves the message.

    Args:
        folder: a run folder; it must exist when this is entered.

    Raises:
        RunFolderError: on entry; someone else writes into the folder, and the message says who, or the lock
            file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._identity: Identity = (0, 0)

    def __enter__(self) -> Self:
        status = self.folder.stat()
        self._identity = (status.st_dev, status.st_ino)
        with _guard:
            hold = _held.get(self._identity)
            if hold is None:
                _held[self._identity] = _Hold(threading.get_ident(), *_lock(self.folder))
            elif hold.thread == threading.get_ident():
                hold.times += 1
            else:
                raise _refusal(self.folder, "another thread of this process")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _guard:
            hold = _held.get(self._identity)
            if hold is None:  # in a child of the process that entered
                return
            hold.times -= 1
            if hold.times == 0:
                del _held[self._identity]
                with contextlib.suppress(OSError):  # the folder may be gone
                    hold.file.unlink()
                os.close(hold.descriptor)


def _lock(folder: Path) -> tuple[Path, int]:
    """(lock file, its open descriptor), locked for this process; RunFolderError if someone else has it."""
    file = folder.resolve() / LOCK_FILE
    for _ in range(ATTEMPTS):
        descriptor = open_to_lock(file)
        try:
            # of the process, not of the open file: `flock`'s would pass to forked workers
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                warnings.warn(
                    f"{folder} cannot be locked: {error.strerror}; let one process at a time write into it",
                    stacklevel=3,
                )
                return file, descriptor
            holder = HOLDER.match(os.pread(descriptor, 200, 0))
            os.close(descriptor)
            raise _refusal(folder, holder[0].decode() if holder else "another process") from None
        if _is_still(file, descriptor):
            with contextlib.suppress(OSError):  # a full disk
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return file, descriptor
        os.close(descriptor)  # its last holder removed it after we had opened it
    raise _refusal(folder, "other processes, in turns")


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the open file has not been removed meanwhile."""
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refusal(folder: Path, holder: str) -> RunFolderError:
    return RunFolderError(
        f"run folder {str(folder)!r} is in use by {holder}; one process at a time may write into a run"
    )
