"""A run is a folder: config.toml, metrics.csv, eval.csv, TensorBoard events, checkpoints/, curve.png."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from fastrl.errors import RunFolderError, SettingError, nearest
from fastrl.training.config import ALGORITHM_KEY, RunConfig, parse_toml
from fastrl.training.safe_files import MEGABYTE, read_file, replace_file

CONFIG_FILE, METRICS_FILE, EVALUATION_FILE = "config.toml", "metrics.csv", "eval.csv"
CURVE_FILE, CHECKPOINTS = "curve.png", "checkpoints"
TRACES = (CONFIG_FILE, METRICS_FILE, EVALUATION_FILE, CHECKPOINTS)  # any of these means that a run has been here
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

    @property
    def config_file(self) -> Path:
        """The run's settings."""
        return self.path / CONFIG_FILE

    def config_text(self) -> str:
        """What config.toml holds; SettingError saying why if it cannot be read."""
        return _config_text(self.path)


def create_run(algorithm: str, config: RunConfig, out_dir: Path | None = None) -> RunFolder:
    """Make the folder of a new run and write its config.toml.

    Args:
        algorithm: name that the command line knows.
        config: settings of the run, all of which are written.
        out_dir: the folder itself; None makes `runs/<algorithm>-<environment>-<seed>-<time>`.

    Raises:
        SettingError: the folder holds a run already, or cannot be made. Nothing was changed in it.
    """
    path = out_dir or RUNS / f"{algorithm}-{_plain(config.env_id)}-{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    if out_dir is None:
        path = _unused(path)
    elif _traces(path):
        raise SettingError(f"out_dir {str(path)!r} already holds a run; choose another folder, or continue it with --resume {path}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out_dir {str(path)!r} cannot be made: {error.strerror}") from None
    run = RunFolder(path, algorithm)
    write_config(run, config)
    return run


def withdraw_run(run: RunFolder, *, keep_folder: bool) -> None:
    """Undo `create_run` after a failure: the folder is free for a next attempt, unless a row or a checkpoint has been written.

    Args:
        run: what `create_run` returned.
        keep_folder: leave the folder itself, which was there before.
    """
    if set(_traces(run.path)) - {CONFIG_FILE}:
        return
    run.config_file.unlink(missing_ok=True)
    if not keep_folder:
        with contextlib.suppress(OSError):  # something else is in it
            run.path.rmdir()


def open_run(path: Path) -> RunFolder:
    """The run in a folder.

    Raises: SettingError if there is none, naming the nearest folder beside it.
    """
    algorithm = parse_toml(_config_text(path), str(path / CONFIG_FILE)).get(ALGORITHM_KEY)
    if not isinstance(algorithm, str):
        raise SettingError(f"{path / CONFIG_FILE} does not name its algorithm")
    return RunFolder(path, algorithm)


def write_config(run: RunFolder, config: RunConfig) -> None:
    """Write config.toml, replacing an older one in one step."""
    text = config.to_toml(run.algorithm)
    replace_file(run.config_file, lambda file: file.write(text.encode()))


def ensure_config(path: Path, algorithm: str, config: RunConfig) -> None:
    """Make a folder that `open_run` accepts: write config.toml, in one step, if the folder has none; an existing one stays as it is.

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
        beside = [entry.name for entry in path.parent.iterdir() if os.path.exists(entry / CONFIG_FILE)] if path.parent.is_dir() else []
        raise SettingError(f"there is no run in {str(path)!r}: it has no readable {CONFIG_FILE}{nearest(path.name, beside)}") from None
    except RunFolderError as error:
        raise SettingError(f"there is no run in {str(path)!r}: {error}") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path / CONFIG_FILE} cannot be read: it is no text") from None


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
