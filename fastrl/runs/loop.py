"""The loop every trainer runs in: collect → estimate → learn → log → evaluate → save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from fastrl.envs import EnvironmentFailure
from fastrl.errors import CheckpointError, NonFiniteError, RunFolderError, SettingError
from fastrl.runs.checkpoint import holds_checkpoint
from fastrl.runs.console import Console
from fastrl.runs.metrics import MetricsLogger
from fastrl.runs.plain_values import plain, written
from fastrl.runs.run_folder import CHECKPOINTS, ensure_config, saying_what_is_kept, writing_into
from fastrl.runs.signals import StopOnSignal, comes_true
from fastrl.runs.trainer_state import LOGGED, begin_new_episodes

if TYPE_CHECKING:
    from fastrl.runs.trainer import Trainer

Result = TypeVar("Result")
INTERVALS = {"log": "log_interval", "evaluate": "eval_interval", "save": "save_interval"}


class Loop:
    """One run of a trainer in a run folder.

    What the trainer counts and has learned stays with it; what a run needs beside that is here.

    Args:
        trainer: whose rounds are run.
        total_steps: environment steps of the whole run, those of earlier sessions included.
        folder: absolute path of the run folder.

    Attributes:
        stop: the request to stop.
        unwritten: logs that found no room, by name, once the run has ended.

    Raises:
        SettingError: `exact_resume` with environments that cannot be made again.
    """

    def __init__(self, trainer: Trainer, total_steps: int, folder: Path) -> None:
        self._trainer, self._total_steps, self._folder = trainer, total_steps, folder
        self._checkpoints = folder / CHECKPOINTS
        self.stop = StopOnSignal()
        self.unwritten: list[str] = []
        self._logger: MetricsLogger
        self._last_round: tuple[float | None, Mapping[str, Tensor]] = (
            None,
            {},
        )  # steps per second, metrics of the learner
        self._saved_steps: int | None = None  # `env_steps` at the newest checkpoint of this run
        if self._exact_resume and not trainer.can_make_envs:
            raise SettingError(
                "exact_resume needs environments that can be made again: env_id must be an id or a factory, "
                "no object"
            )

    def run(self) -> None:
        """All rounds, with logs, evaluations and checkpoints; see `Trainer.run`."""
        trainer, folder = self._trainer, self._folder
        console = Console(self._total_steps, start_steps=trainer.env_steps, on_lost=self._output_lost)
        known = trainer.config.to_dict()
        settings = {name: None if value is None else written(plain(value)) for name, value in known.items()}
        about: dict[str, Any] = {
            "track": trainer.config.track,
            "config": settings,
            "reference_returns": trainer.env.reference_returns,
        }
        with (
            self.stop,
            writing_into(folder),
            saying_what_is_kept(folder),
            MetricsLogger(folder, console=console, **about) as logger,
        ):
            self._logger = logger
            try:
                if trainer.env_steps > 0 or trainer.loaded:
                    logger.resume_from(trainer.env_steps, last_row=trainer.marks.get(LOGGED))
                self._write_config(console)
                console.message(trainer.describe())
                self._rounds()
            except (
                RunFolderError
            ):  # what has been learned since the last checkpoint may be written all the same
                with suppress(CheckpointError, RunFolderError):
                    self._save()
                raise
            finally:
                trainer.env.end_first_look()  # of a run that is shorter than it
        self.unwritten = logger.failed

    def _write_config(self, console: Console) -> None:
        self._ensure_config()
        for lost in self._trainer.config.unwritten():
            console.message(
                f"config.toml cannot hold {lost}: evaluating or continuing this run needs it given again"
            )

    def _ensure_config(self) -> None:
        """Without its settings a checkpoint cannot be loaded from the command line."""
        config = self._trainer.config
        ensure_config(self._folder, self._trainer.algorithm, replace(config, total_steps=self._total_steps))

    def _output_lost(self, env_steps: int, error: Exception) -> None:
        """Output that fails ends no run, but for a pipe that nobody reads any more: that is a wish to end, as
        everywhere."""
        where = f"standard output failed at {env_steps:,} steps ({getattr(error, 'strerror', None) or error})"
        if isinstance(error, BrokenPipeError):
            self.stop.request("SIGPIPE")
            self._logger.notes.add(
                f"{where}: nobody reads it any more, so the run is saved and ends; --resume continues it"
            )
        else:
            self._logger.notes.add(f"{where}; the run goes on without it")

    def _rounds(self) -> None:
        trainer = self._trainer
        self._set_marks()
        if not trainer.can_make_envs and self._logger.console is not None:
            self._logger.console.message(
                "no evaluation: an environment object cannot be made again; give an id or a factory"
            )
        self._logger.begin()
        if not holds_checkpoint(self._checkpoints):
            self._save_and_go_on()  # so that a run can be continued whenever it is killed
        content = self._attend()  # an evaluation that a signal cut off is made up for before anything else
        while trainer.env_steps < self._total_steps and not (content or trainer.stop_requested()):
            if self._round():
                content = self._attend()
        try:
            if not self._is_saved():
                self._save()  # before the last evaluation, which may fail or be cut off
        finally:
            self._log_rest()
        if not trainer.stop_requested() and trainer.evaluated_at != trainer.env_steps:
            self._evaluate_and_log()

    def _round(self) -> bool:
        """Collect, estimate, learn, log; False when a signal asked to stop while collecting."""
        trainer = self._trainer
        started, steps_before = time.perf_counter(), trainer.env_steps
        if not self._guarded(trainer.collect):
            return False
        with trainer.stopwatch("estimation"):
            trainer.estimate()
        with trainer.stopwatch("learning"):
            metrics = trainer.learn()
        rate = (trainer.env_steps - steps_before) / (time.perf_counter() - started)
        self._last_round = rate, metrics
        if self._due("log"):
            self._move_mark("log")
            trainer.marks[LOGGED] = trainer.env_steps
            self._logger.log({**trainer.progress(rate), **metrics}, env_steps=trainer.env_steps)
        return True

    def _log_rest(self) -> None:
        """A row of what came after the last one. A continued run drops it, so that its rows are those of an
        uninterrupted one."""
        trainer = self._trainer
        if trainer.env_steps > (self._logger.last_step or 0):
            rate, metrics = self._last_round
            self._logger.log({**trainer.progress(rate), **metrics}, env_steps=trainer.env_steps)

    def _attend(self) -> bool:
        """Evaluate and save where it is time to; whether an evaluation says that the run may end."""
        trainer = self._trainer
        content = False
        if trainer.config.eval_interval and self._due("evaluate"):
            content = self._evaluate_and_log()
            if not trainer.stop_requested():
                self._move_mark("evaluate")
        if trainer.config.save_interval and self._due("save"):
            self._move_mark("save")
            self._save_and_go_on()
        return content

    def _is_saved(self) -> bool:
        """Whether this run's newest checkpoint holds all there is. With `exact_resume` new episodes have
        begun behind it by then."""
        return (self._saved_steps, self._trainer.saved_updates) == (
            self._trainer.env_steps,
            self._trainer.updates,
        )

    def _save(self) -> Path:
        saved = self._trainer.save(self._checkpoints)
        self._saved_steps = self._trainer.env_steps
        self._ensure_config()  # someone may have removed the folder meanwhile
        return saved

    def _save_and_go_on(self) -> None:
        """Save; with `exact_resume` go on as a process would that loads the checkpoint."""
        self._save()
        if self._exact_resume and self._trainer.env_steps:
            begin_new_episodes(self._trainer)

    @property
    def _exact_resume(self) -> bool:
        return bool(self._trainer.config.exact_resume)

    def _set_marks(self) -> None:
        """Where the next log, evaluation and checkpoint are due; a mark that a checkpoint brought along may
        lie behind."""
        trainer = self._trainer
        trainer.marks.setdefault(LOGGED, trainer.env_steps)
        for name in ("log", "evaluate", "save"):
            following = self._following_mark(name)
            trainer.marks[name] = min(trainer.marks.get(name, following), following)

    def _following_mark(self, name: str) -> int:
        trainer = self._trainer
        interval = getattr(trainer.config, INTERVALS[name])
        return (trainer.env_steps // interval + 1) * interval if interval else trainer.env_steps

    def _due(self, name: str) -> bool:
        return self._trainer.env_steps >= self._trainer.marks[name]

    def _move_mark(self, name: str) -> None:
        self._trainer.marks[name] = self._following_mark(name)

    def _evaluate_and_log(self) -> bool:
        """Whether the evaluation reached the return at which the run may end."""
        trainer = self._trainer
        if not trainer.can_make_envs:
            return False
        metrics = self._guarded(lambda: trainer.evaluate(trainer.config.eval_episodes, seed=None))
        if not metrics:
            return False
        trainer.evaluated_at = trainer.env_steps
        self._logger.log_eval(metrics, env_steps=trainer.env_steps)
        wanted = trainer.config.stop_at_return
        content = wanted is not None and metrics["eval/return_mean"] >= wanted
        if content and self._logger.console is not None:
            self._logger.console.message(f"the evaluation reached stop_at_return = {wanted:g}: done")
        return content

    # ------------------------------------------------------------------------ environments that fail

    def _guarded(self, action: Callable[[], Result]) -> Result | None:
        """What `action` returns; None where an environment failed of the same request to stop, as processes
        get a Ctrl-C with the trainer.

        Any other failure is raised again with what is kept: nothing of the step is counted, and what was
        learned before is saved.
        """
        trainer = self._trainer
        try:
            return action()
        except (EnvironmentFailure, NonFiniteError) as error:
            if isinstance(error, EnvironmentFailure) and comes_true(trainer.stop_requested):
                return None
            raise type(error)(f"{error}; in update {trainer.updates}; {self._keep()}") from error

    def _keep(self) -> str:
        """Save what no checkpoint holds yet; says what is kept, for the end of an error's message."""
        if self._trainer.updates > self._trainer.saved_updates:
            try:
                return f"what was learned before is kept in {self._save()}"
            except Exception as error:  # the first error is the one to raise
                return f"saving what was learned before failed, too: {error}"
        kept = (self._checkpoints / "LATEST").exists()
        return (
            f"the checkpoints in {self._checkpoints} are as they were"
            if kept
            else "nothing had been learned yet"
        )
