"""Files of a run folder: nothing outside it is reached, nothing is waited for, and old content stays when new
content cannot be written."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastrl.errors import RunFolderError
from fastrl.runs.safe_files import append_to_file, read_file, remove_leftovers, replace_file, require_folder


def _link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"mine")
    path.symlink_to(path.parent / "target")


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (_link, "it is a link, and links inside a run are not followed"),
    "dangling link": (_dangling_link, "it is a link, and links inside a run are not followed"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "folder": (Path.mkdir, "it is a folder"),
    "socket": (_socket, "it is a socket"),
}


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow beyond 1,000 bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_regular_file_is_neither_read_nor_added_to(kind: str, tmp_path: Path) -> None:
    make, reason = STRANGE[kind]
    path = tmp_path / "file"
    make(path)
    for use in (lambda: read_file(path, max_bytes=100), lambda: append_to_file(path, b"more")):
        with pytest.raises(RunFolderError, match=f"{path} cannot be (read|written): {reason}"):
            use()
    if kind == "link":
        assert (tmp_path / "target").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_device_is_not_read() -> None:
    with pytest.raises(RunFolderError, match="/dev/zero cannot be read: it is a device"):
        read_file(Path("/dev/zero"), max_bytes=100)


def test_what_is_missing(tmp_path: Path) -> None:
    for use in (
        lambda: read_file(tmp_path / "file", max_bytes=1),
        lambda: append_to_file(tmp_path / "file", b"x"),
    ):
        with pytest.raises(FileNotFoundError):
            use()
    with pytest.raises(RunFolderError, match="gone/file cannot be written: No such file or directory"):
        replace_file(tmp_path / "gone" / "file", lambda file: file.write(b"x"))
    with pytest.raises(
        RunFolderError, match="gone/folder cannot be used as a folder: No such file or directory"
    ):
        require_folder(tmp_path / "gone" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_size_is_bounded_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, max_bytes=5) == b"12345"
    os.truncate(path, 10**12)  # takes no room on the disk, and all memory if it were read
    with pytest.raises(RunFolderError, match="it has 1,000,000,000,000 bytes, and more than 5 are not read"):
        read_file(path, max_bytes=5)


def test_replacing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    _link(path)
    replace_file(path, lambda file: file.write(b"new"))
    assert not path.is_symlink() and path.read_bytes() == b"new"
    assert (tmp_path / "target").read_bytes() == b"mine"


def test_new_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "file", lambda file: file.write(b"new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_without_room_the_old_content_stays(tmp_path: Path, no_room: None) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 900)
    with pytest.raises(RunFolderError, match=f"{path} cannot be written: File too large"):
        replace_file(path, lambda file: file.write(b"y" * 5000))
    with pytest.raises(RunFolderError, match=f"{path} cannot be written: File too large"):
        append_to_file(path, b"y" * 500)
    assert path.read_bytes() == b"x" * 900
    assert list(tmp_path.iterdir()) == [path]
    append_to_file(path, b"y" * 50)
    assert path.read_bytes() == b"x" * 900 + b"y" * 50


def test_folders_are_no_links(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    require_folder(tmp_path / "new")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="link cannot be used as a folder: it is a link"):
        require_folder(tmp_path / "link")
    with pytest.raises(RunFolderError, match="file cannot be used as a folder: it is a file"):
        require_folder(tmp_path / "file")


def test_leftovers_of_killed_writes_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".metrics.csv.0123456789abcdef.tmp"
    leftover.symlink_to(tmp_path / "others")
    for name in ("others", "metrics.csv", ".hidden.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden.tmp", "metrics.csv", "others"]
