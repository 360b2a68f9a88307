"""No run is lost for what it says: output and logs that fail are dropped and noted, and there is a
checkpoint."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrl.errors import RunFolderError
from fastrl.runs.checkpoint import load_checkpoint


class Failing(io.StringIO):
    """A stream that takes one line."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        if self.getvalue().count("\n") > 1:
            raise self.error


def test_a_reader_that_goes_away_ends_the_run_with_a_checkpoint(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    trainer = trainer_of(algorithm, log_interval=0)
    with pytest.warns(UserWarning, match="nobody reads it any more, so the run is saved and ends"):
        trainer.train(total_steps=2_000, out_dir=str(tmp_path))
    assert trainer.interrupted == "SIGPIPE"
    assert load_checkpoint(tmp_path / "checkpoints")["env_steps"] == trainer.env_steps > 0
    assert "nobody reads it any more" in (tmp_path / "notes.txt").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_disk_without_room_for_logs_and_output_ends_nothing(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise RunFolderError("it cannot be written: No space left on device")

    monkeypatch.setattr(sys, "stdout", Failing(OSError(errno.ENOSPC, "No space left on device")))
    for module in ("csv_table", "event_file", "curve"):
        monkeypatch.setattr(f"fastrl.runs.{module}.replace_file", full)
    trainer = trainer_of(algorithm)
    trainer.train(total_steps=64, out_dir=str(tmp_path))
    assert trainer.interrupted is None
    assert load_checkpoint(tmp_path / "checkpoints")["env_steps"] == trainer.env_steps >= 64
    assert {"metrics.csv", "eval.csv", "events.out.tfevents.*"} <= set(trainer.unwritten)
    notes = (tmp_path / "notes.txt").read_text()
    assert "it cannot be written" in notes and "the run goes on without it" in notes
