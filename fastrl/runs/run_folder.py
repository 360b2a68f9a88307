"""A run is a folder: config.toml, metrics.csv, eval.csv, TensorBoard events, checkpoints/, curve.png."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastrl.errors import CheckpointError, RunFolderError, SettingError, nearest
from fastrl.runs.checkpoint import holds_checkpoint, holds_steps, name_of_newest
from fastrl.runs.config import ALGORITHM_KEY, RunConfig, parse_toml
from fastrl.runs.csv_table import has_rows
from fastrl.runs.run_lock import RunLock
from fastrl.runs.safe_files import MEGABYTE, read_file, remove_leftovers, replace_file, require_folder

CONFIG_FILE, METRICS_FILE, EVALUATION_FILE = "config.toml", "metrics.csv", "eval.csv"
CURVE_FILE, CHECKPOINTS = "curve.png", "checkpoints"
TRACES = (
    CONFIG_FILE,
    METRICS_FILE,
    EVALUATION_FILE,
    CHECKPOINTS,
)  # any of these means that a run has been here
RUNS = Path("runs")
LARGEST_CONFIG = MEGABYTE


@dataclass(frozen=True)
class RunFolder:
    """An existing run: its folder and the algorithm that config.toml names."""

    path: Path
    algorithm: str

    @property
    def checkpoints(self) -> Path:
        """Directory of the run's checkpoints."""
        return self.path / CHECKPOINTS

    def has_begun(self) -> bool:
        """Whether there is anything to go on from: a checkpoint, which comes before any row."""
        return _holds_rows(self.path) or holds_checkpoint(self.checkpoints)

    @property
    def config_file(self) -> Path:
        """The run's settings."""
        return self.path / CONFIG_FILE

    def config_text(self) -> str:
        """What config.toml holds; SettingError saying why if it cannot be read."""
        return _config_text(self.path)


def create_run(
    algorithm: str, config: RunConfig, out_dir: Path | None = None, *, env_name: str | None = None
) -> RunFolder:
    """Make the folder of a new run and write its config.toml.

    Args:
        algorithm: name that the command line knows.
        config: settings of the run, all of which are written.
        out_dir: the folder itself; None makes `runs/<algorithm>-<environment>-<seed>-<time>`.
        env_name: the environment's name there; None: its id.

    Raises:
        SettingError: the folder holds a run already, or cannot be made. Nothing was changed in it.
    """
    path = (
        out_dir
        or RUNS
        / f"{algorithm}-{_plain(env_name or config.env_id)}-{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    if out_dir is None:
        path = _unused(path)
    _require_no_run(path)
    run = RunFolder(path, algorithm)
    with writing_into(path):
        _require_no_run(path)  # another process may have been quicker
        write_config(run, config)
    return run


@contextlib.contextmanager
def writing_into(path: Path) -> Iterator[None]:
    """A run folder, made if it is missing, that nobody else writes into meanwhile (see `RunLock`).

    Raises:
        SettingError: the folder cannot be made.
        RunFolderError: someone else is writing into it, or its `checkpoints` are a link.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out_dir {str(path)!r} cannot be made: {error.strerror}") from None
    with RunLock(path):
        remove_leftovers(path)
        if os.path.lexists(path / CHECKPOINTS):
            require_folder(path / CHECKPOINTS)
        yield


@contextlib.contextmanager
def saying_what_is_kept(path: Path) -> Iterator[None]:
    """Adds to a RunFolderError of the body what can be gone on from."""
    try:
        yield
    except RunFolderError as error:
        newest = name_of_newest(path / CHECKPOINTS)
        kept = (
            f"the checkpoint {newest} is complete; continue with --resume {path}"
            if newest
            else "there is no checkpoint yet"
        )
        raise RunFolderError(f"{error}; {kept}") from error


@contextlib.contextmanager
def new_run(
    algorithm: str, config: RunConfig, out_dir: Path | None = None, *, env_name: str | None = None
) -> Iterator[RunFolder]:
    """A new run, as of `create_run`, which a failure before its first row or checkpoint takes away again."""
    was_there = out_dir is not None and os.path.exists(out_dir)
    run = create_run(algorithm, config, out_dir, env_name=env_name)
    try:
        yield run
    except BaseException:
        withdraw_run(run, keep_folder=was_there)
        raise


def withdraw_run(run: RunFolder, *, keep_folder: bool) -> None:
    """Undo `create_run` after a failure, so that the folder is free for a next attempt.

    Not where a row or a later checkpoint than the first is there.

    A folder that someone else writes into by now stays as it is.

    Args:
        run: what `create_run` returned.
        keep_folder: leave the folder itself, which was there before.
    """
    try:
        with writing_into(run.path):  # another process may go on with it already
            if _holds_rows(run.path) or holds_steps(run.checkpoints):
                return
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            (run.path / METRICS_FILE).unlink(missing_ok=True)
            run.config_file.unlink(missing_ok=True)
    except (RunFolderError, SettingError):
        return
    if not keep_folder:
        with contextlib.suppress(OSError):  # something else is in it
            run.path.rmdir()


def checkpoints_in(path: Path) -> Path:
    """What to load a checkpoint from: a run folder's directory of checkpoints, or else the path itself.

    Raises:
        CheckpointError: the run folder's `checkpoints` are a link.
    """
    inside = path / CHECKPOINTS
    if not os.path.lexists(inside):
        return path
    try:
        require_folder(inside)
    except RunFolderError as error:
        raise CheckpointError(str(error)) from None
    return inside


def open_run(path: Path) -> RunFolder:
    """The run in a folder.

    Raises: SettingError if there is none, naming the nearest folder beside it, or if it is no run that fastrl
        has written.
    """
    algorithm = parse_toml(_config_text(path), str(path / CONFIG_FILE)).get(ALGORITHM_KEY)
    if not isinstance(algorithm, str):
        raise SettingError(f"{path / CONFIG_FILE} does not name its algorithm")
    if os.path.lexists(path / CHECKPOINTS):
        try:
            require_folder(path / CHECKPOINTS)
        except RunFolderError as error:
            raise SettingError(f"there is no run in {str(path)!r}: {error}") from None
    return RunFolder(path, algorithm)


def write_config(run: RunFolder, config: RunConfig) -> None:
    """Write config.toml, replacing an older one in one step.

    Raises: SettingError if it would be larger than what is read back.
    """
    text = config.to_toml(run.algorithm).encode()
    if len(text) > LARGEST_CONFIG:
        raise SettingError(
            f"env_kwargs hold too much for a config.toml: {len(text):,} bytes, at most {LARGEST_CONFIG:,} "
            "are read back"
        )
    replace_file(run.config_file, lambda file: file.write(text))


def ensure_config(path: Path, algorithm: str, config: RunConfig) -> None:
    """Write config.toml, in one step, if the folder has none; then `open_run` accepts it.

    Args:
        path: run folder; made if it is missing.
        algorithm: name that the command line knows.
        config: settings of the run.

    Raises:
        SettingError: the folder or the file cannot be written.
    """
    run = RunFolder(path, algorithm)
    if os.path.lexists(run.config_file):
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_config(run, config)
    except OSError as error:
        raise SettingError(f"out_dir {str(path)!r} cannot be written: {error.strerror}") from None


def _config_text(path: Path) -> str:
    """What a run folder's config.toml holds; SettingError if it has none, or why it cannot be read."""
    try:
        return read_file(path / CONFIG_FILE, max_bytes=LARGEST_CONFIG).decode()
    except FileNotFoundError:
        beside = (
            [entry.name for entry in path.parent.iterdir() if os.path.exists(entry / CONFIG_FILE)]
            if path.parent.is_dir()
            else []
        )
        raise SettingError(
            f"there is no run in {str(path)!r}: it has no readable {CONFIG_FILE}{nearest(path.name, beside)}"
        ) from None
    except RunFolderError as error:
        raise SettingError(f"there is no run in {str(path)!r}: {error}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path / CONFIG_FILE} cannot be read: it is no text") from None


def _holds_rows(path: Path) -> bool:
    """Whether a run has logged anything."""
    return has_rows(path / METRICS_FILE) or has_rows(path / EVALUATION_FILE)


def _require_no_run(path: Path) -> None:
    if _traces(path):
        raise SettingError(
            f"out_dir {str(path)!r} already holds a run; choose another folder, or continue it with "
            f"--resume {path}"
        )


def _traces(path: Path) -> list[str]:
    """What a run has left in a folder; links count, wherever they lead."""
    return [trace for trace in TRACES if os.path.lexists(path / trace)]


def _plain(env_id: str) -> str:
    """An id as part of a folder's name: `ALE/Pong-v5` has a slash."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", env_id)


def _unused(path: Path) -> Path:
    """`path`, or `path-2`, ... if two runs start within a second."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
