"""`fastrl train <algorithm>`: a run from its flags to its checkpoint, curve and last words."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastrl.cli.train_flags import HELP_FLAGS, TrainOrder, read_train_flags
from fastrl.cli.trust import imports_as_trusted
from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig
from fastrl.runs.csv_table import read_columns
from fastrl.runs.notes import NOTES_FILE
from fastrl.runs.run_folder import (
    CURVE_FILE,
    EVALUATION_FILE,
    RunFolder,
    new_run,
    write_config,
    writing_into,
)
from fastrl.runs.signals import StopOnSignal
from fastrl.trainers.registry import ALGORITHMS, find_algorithm


def run(arguments: Sequence[str]) -> int:
    """Train, and return the exit code.

    Returns: 0; 1 if a log could not be written; 128 + the signal's number if one stopped the run, with a
    checkpoint.
    """
    if not arguments or arguments[0] in HELP_FLAGS:
        print(_help())
        return 0 if arguments else 2
    if arguments[0].startswith("-"):
        raise SettingError(
            f"the algorithm comes first: fastrl train <algorithm> ...; known: {', '.join(ALGORITHMS)}"
        )
    algorithm = find_algorithm(arguments[0])
    order = read_train_flags(algorithm, arguments[1:])

    with StopOnSignal() as stop, _imports(order):
        unwritten = _train(algorithm.trainer_class(), order)
        if stop.requested is not None:
            return 128 + signal.Signals[stop.requested]
    return 1 if unwritten else 0


def _train(trainer_class: Any, order: TrainOrder) -> list[str]:
    """Build the trainer, run it in its folder, say how it ended; returns the logs that were not written."""
    config = order.config
    _require_tracker(config.track)
    # environments and networks come first: settings that do not fit them must not leave an empty run folder
    trainer = trainer_class.from_config(config)
    try:
        with _folder_of(trainer, order) as folder:
            start, evaluations = (
                trainer.env_steps,
                folder.path.absolute() / EVALUATION_FILE,
            )  # an environment may change the directory
            print(_opening(config, folder, None if order.resume is None else start), flush=True)
            began = time.monotonic()
            trainer.train(total_steps=config.total_steps, out_dir=str(folder.path))
            seconds = time.monotonic() - began
            print(
                _closing(trainer, config, folder, evaluations, trainer.env_steps - start, seconds), flush=True
            )
            unwritten: list[str] = trainer.unwritten
            if unwritten:
                print(f"fastrl: {_complaint(unwritten, folder)}", file=sys.stderr)
            return unwritten
    finally:
        trainer.close()


def _imports(order: TrainOrder) -> contextlib.AbstractContextManager[None]:
    """A new run may import what its user names; a continued one not what its folder alone names."""
    if order.resume is None:
        return contextlib.nullcontext()
    return imports_as_trusted(order.resume, order.config, named=order.named, trust=order.trust)


@contextlib.contextmanager
def _folder_of(trainer: Any, order: TrainOrder) -> Iterator[RunFolder]:
    """The run to continue, loaded; or a new one, removed if it fails before its first row or checkpoint."""
    if order.resume is not None:
        with writing_into(
            order.resume.path
        ):  # from before it is read: another process must not go on meanwhile
            _continue(trainer, order.resume, order.config)
            yield order.resume
        return
    with new_run(trainer.algorithm, order.config, order.out_dir) as folder:
        yield folder


def _continue(trainer: Any, run: RunFolder, config: RunConfig) -> None:
    """Load the newest checkpoint, and write down the settings that may have changed."""
    if run.has_begun():
        trainer.load(run.checkpoints)
    else:
        print(f"{run.path} was ended before its first checkpoint and has no rows: it begins anew", flush=True)
    if trainer.env_steps >= config.total_steps:
        have, wanted = f"{trainer.env_steps:,}", f"{config.total_steps:,}"
        raise SettingError(
            f"total_steps must be above the {have} steps that {run.path} has made already, got {wanted}"
        )
    write_config(run, config)


def _require_tracker(track: str | None) -> None:
    """Raises SettingError if the package of a tracking service is missing: said before anything has begun."""
    if track is None:
        return
    try:
        importlib.import_module(track)
    except ImportError:
        raise SettingError(
            f"track is {track!r}, but the package {track} is not installed; run `pip install {track}`"
        ) from None


def _opening(config: RunConfig, folder: RunFolder, start: int | None) -> str:
    begin = "for" if start is None else f"continuing at {start:,} of"
    return (
        f"{folder.algorithm} on {config.env_id} {begin} {config.total_steps:,} steps; run folder: "
        f"{folder.path}"
    )


def _closing(
    trainer: Any, config: RunConfig, folder: RunFolder, evaluation_file: Path, steps: int, seconds: float
) -> str:
    if trainer.interrupted is not None:
        resume = f"fastrl train {folder.algorithm} --resume {folder.path}"
        return (
            f"stopped by {trainer.interrupted} at {trainer.env_steps:,} steps, checkpoint saved; continue "
            f"with: {resume}"
        )
    lines = [
        f"finished at {trainer.env_steps:,} steps: {steps:,} steps in {seconds:.1f} s "
        f"({steps / max(seconds, 1e-9):,.0f} steps/s)"
    ]
    evaluations = read_columns(evaluation_file, "eval/return_mean", "eval/return_std")
    if evaluations and evaluations[-1][0] == trainer.env_steps:
        _, mean, deviation = evaluations[-1]
        lines.append(f"evaluation return: {mean:.2f} ± {deviation:.2f} over {config.eval_episodes} episodes")
    lines.append(f"learning curve: {folder.path / CURVE_FILE}")
    return "\n".join(lines)


def _complaint(unwritten: Sequence[str], folder: RunFolder) -> str:
    return (
        f"the checkpoint is saved, but there is not everything in {', '.join(unwritten)} of {folder.path}; "
        f"{NOTES_FILE} says why"
    )


def _help() -> str:
    width = max(map(len, ALGORITHMS))
    lines = [f"  {name:<{width}}  {algorithm.summary}" for name, algorithm in ALGORITHMS.items()]
    closing = "`fastrl train <algorithm> --help` lists its flags."
    return "\n".join(["usage: fastrl train <algorithm> --env-id <id> ...", "", *lines, "", closing])
