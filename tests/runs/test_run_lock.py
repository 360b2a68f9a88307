"""One process at a time writes into a run folder, and one that is dead is in nobody's way."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrl.errors import RunFolderError
from fastrl.runs.run_lock import LOCK_FILE, RunLock

HOLD = """
import os, sys, threading
from pathlib import Path
from fastrl.runs.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    if "with-a-worker" in sys.argv and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock, and has a forked worker."""
    words = [sys.executable, "-c", HOLD, str(tmp_path), "with-a-worker"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_dead(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    message = (
        f"run folder '{tmp_path}' is in use by process {holder.pid} on .+; one process at a time may write "
        "into a run"
    )
    for _ in range(2):  # asking does no harm to the lock
        with pytest.raises(RunFolderError, match=message), RunLock(tmp_path):
            pass
    holder.kill()  # its worker lives on
    holder.wait()
    with RunLock(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_one_thread_may_enter_again_and_another_may_not(tmp_path: Path) -> None:
    refused = []

    def enter() -> None:
        try:
            with RunLock(tmp_path):
                pass
        except RunFolderError as error:
            refused.append(str(error))

    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"):
        with RunLock(tmp_path / "run"), RunLock(tmp_path):
            pass
        with RunLock(tmp_path / "run" / ".." / "run"):
            thread = threading.Thread(target=enter)
            thread.start()
            thread.join()
        assert (tmp_path / "run" / LOCK_FILE).exists()
    assert refused == []  # that was another folder
    with RunLock(tmp_path):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1 and "is in use by another thread of this process" in refused[0]
    enter()
    assert len(refused) == 1 and not (tmp_path / LOCK_FILE).exists()


def test_a_folder_that_goes_away_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "moved")
    with RunLock(tmp_path / "moved"):
        assert [entry.name for entry in (tmp_path / "moved").iterdir()] == [LOCK_FILE]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("mine")])
def test_a_lock_file_that_is_none(tmp_path: Path, make) -> None:
    (tmp_path / "mine").write_text("mine")
    make(tmp_path / LOCK_FILE)
    with pytest.raises(RunFolderError, match=f"{LOCK_FILE} cannot be written: it is a"), RunLock(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_a_stranger_wrote_into_the_lock_file_is_not_repeated(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    (tmp_path / LOCK_FILE).write_bytes(b"\x1b[2Jprocess 1 on \xff")
    with pytest.raises(RunFolderError, match="is in use by another process;"), RunLock(tmp_path):
        pass


def test_a_lock_on_a_file_that_its_last_holder_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, opened = fcntl.lockf, iter([True])

    def removed_before_it_is_locked(descriptor: int, flags: int) -> None:
        if next(opened, False):
            (tmp_path / LOCK_FILE).unlink()
        lock(descriptor, flags)

    monkeypatch.setattr(fcntl, "lockf", removed_before_it_is_locked)
    with RunLock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()  # where the next one will look
