"""Files of a run folder, opened so that whoever made the folder cannot reach beyond it.

A run folder may come from a stranger or an archive that keeps links. Every file that the package reads or
writes below one goes through
here: links are never followed, a pipe or a device is refused instead of waited for, and a size is looked at
before memory is taken. New content is written under a random name, opened exclusively, and swapped in, so
that a reader sees the old file or the new one. The folder
itself may be a link: the user named it.

    read_file(path, max_bytes=...)   the bytes of a regular file
    replace_file(path, write)        `write(file)` fills a new binary file, which then takes the place of
    `path` append_to_file(path, data)       adds bytes to a file that is there, all of them or none
    open_to_lock(path)               a descriptor for `run_lock`
    require_folder(path)             an error if it is something else than a folder
    remove_leftovers(folder)         what killed calls of `replace_file` left

A file to read or add to that is missing is a FileNotFoundError, which callers usually expect. Everything else
that goes wrong (a full disk, no permission, a link) is a RunFolderError whose sentence names the file and
says why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fastrl.errors import RunFolderError

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
# without O_NONBLOCK opening a pipe waits for its other end
CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

KILOBYTE, MEGABYTE, GIGABYTE = 10**3, 10**6, 10**9


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """The bytes of a regular file.

    Args:
        path: the file; its last part must not be a link.
        max_bytes: a larger file is refused unread.

    Raises:
        FileNotFoundError: there is none.
        RunFolderError: it is a link, a pipe, a device or a folder, is too large, or cannot be read.
    """
    with _named(path, "read", may_be_missing=True), _opened(path, os.O_RDONLY) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, and more than {max_bytes:,} are not read")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(size)


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Fill a new file and let it take the place of `path`, which a reader sees as it was or as it becomes.

    Args:
        path: the file; a link of that name is replaced and not followed.
        write: gets the new file, open for binary writing.

    Raises:
        RunFolderError: it could not be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with _named(path, "written"):
        # mode: what the user's umask leaves of it
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CAREFULLY, 0o666)
        try:
            with open(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def append_to_file(path: Path, data: bytes) -> None:
    """Add `data` to the end of an existing regular file, or nothing if there is no room for all of it.

    Raises:
        FileNotFoundError: there is none.
        RunFolderError: it is no regular file, or it could not be written.
    """
    with _named(path, "written", may_be_missing=True), _opened(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        size, rest = os.fstat(descriptor).st_size, memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise


def open_to_lock(path: Path) -> int:
    """Descriptor of a regular file, made if missing, for reading and writing; the caller closes it.

    Raises:
        RunFolderError: it is no regular file, or cannot be opened or made.
    """
    with _named(path, "written"):
        return _open(path, os.O_RDWR | os.O_CREAT)


def require_folder(path: Path) -> None:
    """Raises RunFolderError if `path` is a link, no folder or not there."""
    with _named(path, "used as a folder"):
        kind = path.lstat().st_mode
        if not stat.S_ISDIR(kind):
            raise OSError(errno.ENOTDIR, _what_it_is(kind))


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed calls of `replace_file` left.

    Only who may write into the folder may call this.
    """
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if TEMPORARY.fullmatch(entry.name):
                entry.unlink()


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Descriptor of a regular file, closed afterwards."""
    descriptor = _open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    """Descriptor of a regular file; an OSError says what else it is."""
    try:
        descriptor = os.open(path, flags | CAREFULLY, 0o666)
    except OSError as error:
        if error.errno in (
            errno.ELOOP,
            errno.ENXIO,
            errno.EISDIR,
        ):  # a link; a pipe that nobody reads; a folder
            raise OSError(error.errno, _what_it_is(path.lstat().st_mode)) from None
        raise
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _what_it_is(kind))
    return descriptor


def _what_it_is(mode: int) -> str:
    """What stands where another kind of file should, as a reason."""
    if stat.S_ISLNK(mode):
        return "it is a link, and links inside a run are not followed"
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFREG: "a file and no folder",
    }
    return f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}"


@contextlib.contextmanager
def _named(path: Path, what: str, *, may_be_missing: bool = False) -> Iterator[None]:
    """An OSError of the body as a sentence about `path`; the FileNotFoundError of a file that may be missing
    stays one."""
    try:
        yield
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        raise RunFolderError(f"{path} cannot be {what}: {error.strerror or error}") from error
