"""The loop every trainer runs in: collect → estimate → learn → log → evaluate → save."""

from __future__ import annotations

import inspect
import os
import time
import warnings
import weakref
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from fastrl.envs import EnvironmentFailure, Episode, VectorEnv, make_vector_env
from fastrl.envs.action_scale import RawActionsWarning
from fastrl.envs.modules import names_factory
from fastrl.envs.own import is_factory
from fastrl.errors import CheckpointError, NonFiniteError, RunFolderError, SettingError
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.training.checkpoint import holds_checkpoint, load_checkpoint, save_checkpoint
from fastrl.training.config import RunConfig, convert
from fastrl.training.console import Console
from fastrl.training.evaluation import Evaluation, Player, evaluate_policy
from fastrl.training.memory import require_needs
from fastrl.training.metrics import MetricsLogger
from fastrl.training.notes import RunNotes
from fastrl.training.observation_kinds import require_vectors
from fastrl.training.plain_values import plain, written
from fastrl.training.process import ProcessSettings
from fastrl.training.run_folder import CHECKPOINTS, ensure_config, saying_what_is_kept, writing_into
from fastrl.training.safe_files import require_folder
from fastrl.training.seeding import derived_seed, seed_everything
from fastrl.training.signals import StopOnSignal, comes_true
from fastrl.training.threads import ThreadChoice
from fastrl.training.trainer_state import LOGGED, begin_new_episodes, load_state, state_of

MAX_EVALUATION_ENVS = 64
Result = TypeVar("Result")
RECENT_EPISODES = 100  # `rollout/ep_return_mean` is over this many finished episodes


@dataclass(frozen=True, slots=True)
class Intervals:
    """When the loop does what, in environment steps (valid transitions over all environments); 0 means only at the end.

    Args:
        evaluate: steps between evaluations.
        save: steps between checkpoints.
        log: steps between logged rows; 0 logs every update.
        eval_episodes: episodes of one evaluation.
        stop_at_return: end the run at the first evaluation whose mean return reaches this; None never does.
        eval_max_steps: steps after which an evaluation leaves an episode; None: see `evaluate_policy`.
    """

    evaluate: int = 0
    save: int = 0
    log: int = 0
    eval_episodes: int = 20
    stop_at_return: float | None = None
    eval_max_steps: int | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Those of a configuration."""
        intervals = (config.eval_interval, config.save_interval, config.log_interval)
        return cls(*intervals, config.eval_episodes, config.stop_at_return, config.eval_max_steps)

    def settings(self) -> dict[str, Any]:
        """By the names that configurations have for them."""
        return {
            "eval_interval": self.evaluate,
            "save_interval": self.save,
            "log_interval": self.log,
            "eval_episodes": self.eval_episodes,
            "stop_at_return": self.stop_at_return,
            "eval_max_steps": self.eval_max_steps,
        }

    def __post_init__(self) -> None:
        for field in fields(self):  # numpy's numbers among them
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name, value in (("eval_interval", self.evaluate), ("save_interval", self.save), ("log_interval", self.log)):
            if value < 0:
                raise SettingError(f"{name} must be at least 0 environment steps, got {value}")
        if self.eval_episodes < 1:
            raise SettingError(f"eval_episodes must be at least 1, got {self.eval_episodes}")


class Stopwatch:
    """Seconds spent per phase since the last reading."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def drain(self) -> dict[str, float]:
        read, self.seconds = dict(self.seconds), defaultdict(float)
        return read


class Trainer(ABC):
    """Environments, data and the order of events; networks and formulas are the agent's.

    A subclass calls `open_environments` and makes `agent` when it is constructed, and gives `collect`, `estimate`, `learn`, `player` and
    its own state. What is counted: `env_steps` valid transitions over all environments, `updates` calls of the learner, `episodes` finished
    episodes.

    Args:
        seed: seed of the run; evaluation derives others from it.
        intervals: when the loop logs, evaluates and saves, and when it is content.
    """

    algorithm: str
    takes_images: ClassVar[bool] = False  # whether its networks convolve; the others refuse cameras when they are constructed
    env_id: Any
    device: torch.device
    threads: ThreadChoice
    env_options: dict[str, Any]
    env_timeout: float | None = None
    env: VectorEnv
    agent: Any

    def __init__(self, *, seed: int, intervals: Intervals) -> None:
        self.seed = seed
        self.intervals = intervals
        self.env_steps = 0
        self.updates = 0
        self.episodes = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)  # (return, length)
        self.stopwatch = Stopwatch()
        self.track: str | None = None  # "wandb" sends metrics there too
        self.config: RunConfig | None = None  # written into the run folder where there is none
        self.can_make_envs = True  # an environment object cannot be made a second time
        self.fixed_num_envs: int | None = None  # a factory of vector environments always gives this many
        self.marks: dict[str, int] = {}  # environment steps at which to log, evaluate and save next, and of the last row in its turn
        self._evaluated_at: int | None = None
        self._last_round: tuple[float | None, Mapping[str, Tensor]] = (None, {})  # steps per second, metrics of the learner
        self.unwritten: list[str] = []  # logs of the last run that found no room, by name
        self._notes: RunNotes | None = None  # while a run is going on
        self._loaded = False  # whether a checkpoint has been loaded, which may have been one at step 0
        self._saved_updates = 0  # `updates` at the newest checkpoint
        self._saved_steps: int | None = None  # `env_steps` at the newest checkpoint of the present run
        self.interrupted: str | None = None  # name of the signal that ended the last run early
        self._stop: StopOnSignal | None = None  # while a run is going on

    @abstractmethod
    def train(self, total_steps: int, out_dir: str) -> None:
        """Train until `env_steps` reaches `total_steps` and write the run folder `out_dir`; an algorithm may add arguments."""

    @abstractmethod
    def collect(self) -> bool:
        """Step the environments until there is enough to learn from; False when a signal asked to stop first."""

    @abstractmethod
    def estimate(self) -> None:
        """Turn what was collected into learning targets."""

    @abstractmethod
    def learn(self) -> Mapping[str, Tensor]:
        """Update the agent; returns metrics as tensors."""

    @abstractmethod
    def player(self, num_envs: int) -> Player:
        """The deterministic policy, about to play in that many fresh environments."""

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """A trainer with the settings of a configuration: those fields that the constructor has, by the same names."""
        config.check()
        taken = inspect.signature(cls).parameters
        settings = {field.name: getattr(config, field.name) for field in fields(config) if field.name in taken}
        trainer = cls(**settings | {"device": torch.device(config.device), "intervals": Intervals.of(config)})
        there = trainer.env.num_envs  # an object that is already made has its own number
        trainer.track, trainer.config = config.track, config if config.num_envs == there else replace(config, num_envs=there)
        return trainer

    def open_environments(self, config: RunConfig, threads: ThreadChoice) -> None:
        """Set threads and seeds, and make the training environments; a constructor calls this before it makes networks.

        Until `close` the process has the trainer's number of torch threads, and keeps freed memory.

        Args:
            config: the run's settings, checked; kept for the run folder.
            threads: of torch and of the environments.
        """
        require_float32_default()
        env_id = config.env_id
        self.env_id, self.device, self.threads = env_id, torch.device(config.device), threads
        self.env_timeout = config.env_timeout
        self.env_options = {"obs_keys": config.obs_keys, "max_episode_steps": config.max_episode_steps, "env_kwargs": config.env_kwargs}
        self.can_make_envs = isinstance(env_id, str) or is_factory(env_id)
        settings = ProcessSettings(threads.torch)
        # a trainer that is dropped without `close`, or whose constructor fails, leaves nothing behind either
        self._restore_process = weakref.finalize(self, settings.restore)
        settings.apply()
        seed_everything(self.seed)
        self.env = self.make_env(config.num_envs, self.seed)
        try:
            if self.env.device.type != self.device.type:
                raise SettingError(f"device is {self.device}, but {self.env.name} is already made, for {self.env.device}")
            self.config = replace(config, num_envs=self.env.num_envs)  # an object that is already made has its own number
            self.config.check()
            require_needs(self.config.needs(self.env), str(self.device))
            if not self.takes_images:
                require_vectors(self.env, self.algorithm)
        except SettingError:
            self.env.close()
            raise
        scales = {f"scales_{what}s": bool(getattr(config, f"normalize_{what}", False)) for what in ("observation", "reward")}
        self.env.look_at_first_steps(**scales)
        self.fixed_num_envs = self.env.num_envs if is_factory(env_id) or names_factory(env_id) else None

    def make_env(self, num_envs: int, seed: int) -> VectorEnv:
        """Fresh environments of the kind the trainer was built for."""
        threads = min(self.threads.env, num_envs)
        with warnings.catch_warnings():
            if hasattr(self, "env"):  # said of the training environments
                warnings.simplefilter("ignore", RawActionsWarning)
            env = make_vector_env(self.env_id, num_envs, seed=seed, device=self.device, num_threads=threads, **self.env_options)
        env.timeout = env.timeout if self.env_timeout is None else self.env_timeout
        return env

    def follow_parameters(self) -> None:
        """Let the learner's optimisers follow what was done to the networks since the last update; SettingError where they cannot.

        Each update does so itself; `run` does it before the first step, since networks that were moved or cast cannot act either.
        """
        self.agent.follow()

    def anneal_over(self, total_steps: int) -> None:  # noqa: B027  # most trainers have no schedule of the whole run
        """Let what is annealed over the whole run go over this many environment steps; `run` calls it with those that it was given."""

    @abstractmethod
    def describe(self) -> str:
        """What is about to run, in a line or two: environments, threads, memory that will be taken."""

    @abstractmethod
    def trainer_state(self) -> dict[str, Any]:
        """What the subclass must keep besides agent, environments, counters and random generators."""

    @abstractmethod
    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`; when the environments could not be saved they have just been made anew."""

    def state_outline(self) -> dict[str, Any]:
        """What `trainer_state` of a checkpoint must look like (see `fastrl.training.state_check`); by default like the present one.

        A subclass says here what can be absent, or must lie in a range: a place in a ring, a half-collected rollout.
        """
        return self.trainer_state()

    def stop_requested(self) -> bool:
        """Whether a signal asked the present run to end; loops over environment steps ask this at every step."""
        return self._stop is not None and self._stop.requested is not None

    # ------------------------------------------------------------------------------------------------ the loop

    @without_autocast
    def run(self, total_steps: int, out_dir: str | Path) -> None:
        """Train until `env_steps` reaches `total_steps`, then evaluate and save; progress is printed.

        SIGINT, SIGTERM and SIGHUP end it early with a checkpoint; `interrupted` then names the signal. So does a pipe whose reader has
        gone, as "SIGPIPE". Logs and output that cannot be written do not end it: notes.txt and `unwritten` name them.

        Args:
            total_steps: environment steps of the whole run, those of earlier sessions included.
            out_dir: run folder; a trainer that has loaded a checkpoint goes on with the logs it finds there.

        Raises:
            SettingError: total_steps is below 1, or the folder cannot be made or holds another run.
            RunFolderError: another process writes into the folder, or it cannot be written; the message says what is kept.
            CheckpointError: a checkpoint cannot be written; earlier ones are as they were.
        """
        total_steps = convert("total_steps", int, total_steps)
        if total_steps < 1:
            raise SettingError(f"total_steps must be at least 1 environment step, got {total_steps}")
        if self._exact_resume and not self.can_make_envs:
            raise SettingError("exact_resume needs environments that can be made again: env_id must be an id or a factory, no object")
        self._saved_steps = None
        require_float32_default()
        self.follow_parameters()
        self.anneal_over(total_steps)
        folder = Path(out_dir).absolute()  # an environment may change the working directory
        console = Console(total_steps, start_steps=self.env_steps, on_lost=self._output_lost)
        known = {} if self.config is None else self.config.to_dict()
        settings = {name: None if value is None else written(plain(value)) for name, value in known.items()}
        with (
            StopOnSignal() as stop,
            writing_into(folder),
            saying_what_is_kept(folder),
            MetricsLogger(
                folder, console=console, track=self.track, config=settings, reference_returns=self.env.reference_returns
            ) as logger,
        ):
            self._stop, self._notes = stop, logger.notes
            try:
                if self.env_steps > 0 or self._loaded:
                    logger.resume_from(self.env_steps, last_row=self.marks.get(LOGGED))
                if self.config is not None:
                    ensure_config(folder, self.algorithm, replace(self.config, total_steps=total_steps))
                    for lost in self.config.unwritten():
                        console.message(f"config.toml cannot hold {lost}: evaluating or continuing this run needs it given again")
                console.message(self.describe())
                self._loop(total_steps, logger, folder / CHECKPOINTS)
            except RunFolderError:  # what has been learned since the last checkpoint may be written all the same
                with suppress(CheckpointError):
                    self.save(folder / CHECKPOINTS)
                raise
            finally:
                self.env.end_first_look()  # of a run that is shorter than it
                self.interrupted, self._stop, self._notes = stop.requested, None, None
        self.unwritten = logger.failed

    def _output_lost(self, env_steps: int, error: Exception) -> None:
        """Output that fails ends no run, but for a pipe that nobody reads any more: that is a wish to end, as everywhere."""
        assert self._stop is not None and self._notes is not None
        where = f"standard output failed at {env_steps:,} steps ({getattr(error, 'strerror', None) or error})"
        if isinstance(error, BrokenPipeError):
            self._stop.request("SIGPIPE")
            self._notes.add(f"{where}: nobody reads it any more, so the run is saved and ends; --resume continues it")
        else:
            self._notes.add(f"{where}; the run goes on without it")

    def _loop(self, total_steps: int, logger: MetricsLogger, checkpoints: Path) -> None:
        self._set_marks()
        if not self.can_make_envs and logger.console is not None:
            logger.console.message("no evaluation: an environment object cannot be made again; give an id or a factory")
        logger.begin()
        if not holds_checkpoint(checkpoints):
            self._save_and_go_on(checkpoints)  # so that a run can be continued whenever it is killed
        content = self._attend(logger, checkpoints)  # an evaluation that a signal cut off is made up for before anything else
        while self.env_steps < total_steps and not (content or self.stop_requested()):
            if self._round(logger, checkpoints):
                content = self._attend(logger, checkpoints)
        try:
            # once only with exact_resume: new episodes have begun behind the checkpoint that is there
            if not (self._exact_resume and self._saved_steps == self.env_steps):
                self.save(checkpoints)  # before the last evaluation, which may fail or be cut off
        finally:
            self._log_rest(logger)
        if not self.stop_requested() and self._evaluated_at != self.env_steps:
            self._evaluate_and_log(logger, checkpoints)

    def _round(self, logger: MetricsLogger, checkpoints: Path) -> bool:
        """Collect, estimate, learn, log; False when a signal asked to stop while collecting."""
        started, steps_before = time.perf_counter(), self.env_steps
        if not self._guarded(self.collect, checkpoints):
            return False
        with self.stopwatch("estimation"):
            self.estimate()
        with self.stopwatch("learning"):
            metrics = self.learn()
        rate = (self.env_steps - steps_before) / (time.perf_counter() - started)
        self._last_round = rate, metrics
        if self._due("log"):
            self._move_mark("log")
            self.marks[LOGGED] = self.env_steps
            logger.log({**self.progress(rate), **metrics}, env_steps=self.env_steps)
        return True

    def _log_rest(self, logger: MetricsLogger) -> None:
        """A row of what came after the last one. A continued run drops it, so that its rows are those of an uninterrupted one."""
        if self.env_steps > (logger.last_step or 0):
            rate, metrics = self._last_round
            logger.log({**self.progress(rate), **metrics}, env_steps=self.env_steps)

    def _attend(self, logger: MetricsLogger, checkpoints: Path) -> bool:
        """Evaluate and save where it is time to; whether an evaluation says that the run may end."""
        content = False
        if self.intervals.evaluate and self._due("evaluate"):
            content = self._evaluate_and_log(logger, checkpoints)
            if not self.stop_requested():
                self._move_mark("evaluate")
        if self.intervals.save and self._due("save"):
            self._move_mark("save")
            self._save_and_go_on(checkpoints)
        return content

    def _save_and_go_on(self, checkpoints: Path) -> None:
        """Save; with `exact_resume` go on as a process would that loads the checkpoint."""
        self.save(checkpoints)
        if self._exact_resume and self.env_steps:
            begin_new_episodes(self)

    @property
    def _exact_resume(self) -> bool:
        return self.config is not None and self.config.exact_resume

    def _set_marks(self) -> None:
        """Where the next log, evaluation and checkpoint are due; a mark that a checkpoint brought along may lie behind."""
        self.marks.setdefault(LOGGED, self.env_steps)
        for name in ("log", "evaluate", "save"):
            following = self._following_mark(name)
            self.marks[name] = min(self.marks.get(name, following), following)

    def _following_mark(self, name: str) -> int:
        interval = getattr(self.intervals, name)
        return (self.env_steps // interval + 1) * interval if interval else self.env_steps

    def _due(self, name: str) -> bool:
        return self.env_steps >= self.marks[name]

    def _move_mark(self, name: str) -> None:
        self.marks[name] = self._following_mark(name)

    def _evaluate_and_log(self, logger: MetricsLogger, checkpoints: Path) -> bool:
        """Whether the evaluation reached the return at which the run may end."""
        if not self.can_make_envs:
            return False
        metrics = self._guarded(lambda: self.evaluate(self.intervals.eval_episodes, seed=None), checkpoints)
        if not metrics:
            return False
        self._evaluated_at = self.env_steps
        logger.log_eval(metrics, env_steps=self.env_steps)
        wanted = self.intervals.stop_at_return
        content = wanted is not None and metrics["eval/return_mean"] >= wanted
        if content and logger.console is not None:
            logger.console.message(f"the evaluation reached stop_at_return = {wanted:g}: done")
        return content

    # ------------------------------------------------------------------------------------------------ environments that fail

    def _guarded(self, action: Callable[[], Result], checkpoints: Path) -> Result | None:
        """What `action` returns; None where an environment failed of the same request to stop, as processes get a Ctrl-C with the trainer.

        Any other failure is raised again with what is kept: nothing of the step is counted, and what was learned before is saved.
        """
        try:
            return action()
        except (EnvironmentFailure, NonFiniteError) as error:
            if isinstance(error, EnvironmentFailure) and comes_true(self.stop_requested):
                return None
            raise type(error)(f"{error}; in update {self.updates}; {self._keep(checkpoints)}") from error

    def _keep(self, checkpoints: Path) -> str:
        """Save what no checkpoint holds yet; says what is kept, for the end of an error's message."""
        if self.updates > self._saved_updates:
            try:
                return f"what was learned before is kept in {self.save(checkpoints)}"
            except Exception as error:  # the first error is the one to raise
                return f"saving what was learned before failed, too: {error}"
        kept = (checkpoints / "LATEST").exists()
        return f"the checkpoints in {checkpoints} are as they were" if kept else "nothing had been learned yet"

    # ------------------------------------------------------------------------------------------------ counting

    def count(self, transitions: int, finished: list[Episode]) -> None:
        """Add one step of the vector environment: its valid transitions and the episodes that ended in it."""
        self.env_steps += transitions
        for episode in finished:
            self.episodes += 1
            self.recent.append((episode.episode_return, episode.length))

    def progress(self, env_steps_per_s: float | None) -> dict[str, float]:
        """Episode statistics of the last 100 finished episodes, counters, the rate where known, seconds per phase since the last call."""
        metrics = {"rollout/episodes": float(self.episodes), "train/updates": float(self.updates)}
        if self.recent:
            returns, lengths = zip(*self.recent, strict=True)
            metrics |= {"rollout/ep_return_mean": float(np.mean(returns)), "rollout/ep_length_mean": float(np.mean(lengths))}
        seconds = self.stopwatch.drain()
        if env_steps_per_s is not None:
            metrics["time/env_steps_per_s"] = env_steps_per_s
        return metrics | {f"time/{phase}_s": spent for phase, spent in seconds.items()}

    # ------------------------------------------------------------------------------------------------ acting, evaluation

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """Choose actions for observations as the environments give them; what the trainer normalises is normalised here.

        A policy with a memory takes each observation for the first one of its episode; for whole episodes there is `player`.

        Args:
            obs: one observation [*obs_shape], or a batch [B, *obs_shape].
            deterministic: the most probable actions, those of an evaluation, instead of drawn ones.

        Returns:
            As the environments' `step` takes them, in policy units where they are continuous: a number or [A], or a batch of these.

        Raises:
            ValueError: obs has another shape or type.
        """
        who = f"{type(self).__name__}.act"
        rows, single = as_rows(who, obs, self.env.obs_shape, self.device)
        if self.env.obs_dtype == torch.uint8 and rows.dtype != torch.uint8:
            raise ValueError(
                f"{who}: obs must be bytes (uint8), as the environments give them, got {str(rows.dtype).removeprefix('torch.')}"
            )
        rows = rows.to(self.env.obs_dtype)
        actions = (self.player(len(rows)).choose(rows) if deterministic else self.draw(rows)).cpu().numpy()
        return actions[0] if single else actions

    def draw(self, obs: Tensor) -> Tensor:
        """Actions for observations [B, *obs_shape], drawn from the policy that acts in training."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it draws actions")

    @without_autocast
    def evaluate(self, n_episodes: int = 20, seed: int | None = None) -> Evaluation:
        """Play whole episodes with the deterministic policy in environments of their own.

        Args:
            n_episodes: episodes, ≥ 1; at most 64 environments play them side by side.
            seed: seed of those environments; None derives one from the run's seed. The same seed gives the same episodes. It has no effect
                where `env_id` is a factory of fastrl's own `VectorEnv`s, which come with the seeds that the factory gave them.

        Returns:
            `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean`, and `eval/cut_episodes` where
            episodes were left before their end (see `evaluate_policy`); empty when a signal asked to stop.
        """
        if n_episodes < 1:
            raise ValueError(f"evaluate: n_episodes must be at least 1, got {n_episodes}")
        if not self.can_make_envs:
            raise SettingError("env_id is an environment object, which cannot be made again for evaluation; give an id or a factory")
        chosen = derived_seed(self.seed, "evaluation") if seed is None else seed
        with self.make_env(self.fixed_num_envs or min(n_episodes, MAX_EVALUATION_ENVS), chosen) as env:
            bounds: dict[str, Any] = {"interrupted": self.stop_requested, "max_steps": self.intervals.eval_max_steps}
            return evaluate_policy(self.player(env.num_envs), env, n_episodes, **bounds) or {}

    # ------------------------------------------------------------------------------------------------ state

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint below the directory `path` and point its `LATEST` at it; returns the checkpoint's own directory."""
        saved = save_checkpoint(Path(path), self.state_dict(), step=self.env_steps)
        self._saved_updates, self._saved_steps = self.updates, self.env_steps
        return saved

    def load(self, path: str | Path) -> None:
        """Continue from a checkpoint: a run folder, a directory of checkpoints (its newest good one), or one checkpoint's directory.

        Everything of the learner comes back exactly. Environments that can save their state continue where they were; others (EnvPool)
        start new episodes under a new seed, and a half-collected rollout is dropped.

        Raises:
            CheckpointError: nothing loadable is there, or it is another algorithm's.
        """
        folder = Path(path)
        inside = folder / CHECKPOINTS
        if os.path.lexists(inside):
            try:
                require_folder(inside)
            except RunFolderError as error:
                raise CheckpointError(str(error)) from None
            folder = inside
        self.load_state_dict(load_checkpoint(folder))

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to continue, as plain values and tensors."""
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`.

        Raises:
            CheckpointError: it is of another algorithm or other settings, or is none; the message names the key, and the trainer is as it
                was.
        """
        load_state(self, state)
        self._loaded, self._saved_updates = True, self.updates

    def renew_environments(self) -> None:
        """Make environments anew, under a new seed once there are steps: the first one would replay the episodes of the first session."""
        num_envs = self.env.num_envs
        self.env.close()
        self.env = self.make_env(num_envs, derived_seed(self.seed, "resumed", self.env_steps) if self.env_steps else self.seed)

    def close(self) -> None:
        """Close the environments, and put the process back: torch's threads, and what becomes of freed memory."""
        try:
            self.env.close()
        finally:
            self._restore_process()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
