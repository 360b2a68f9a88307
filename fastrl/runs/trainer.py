"""What every trainer is: environments, data and the order of events, in the loop of `fastrl.runs.loop`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fastrl.envs import Episode, VectorEnv, make_vector_env
from fastrl.envs.action_scale import RawActionsWarning
from fastrl.envs.modules import names_factory
from fastrl.envs.own import is_factory
from fastrl.errors import SettingError
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
from fastrl.runs.config import RunConfig
from fastrl.runs.evaluation import Actor, Evaluation, evaluate_policy
from fastrl.runs.loop import Loop
from fastrl.runs.memory import require_needs
from fastrl.runs.observation_kinds import require_vectors
from fastrl.runs.process import ProcessSettings, Session
from fastrl.runs.run_folder import checkpoints_in, new_run
from fastrl.runs.seeding import derived_seed
from fastrl.runs.stopwatch import Stopwatch
from fastrl.runs.threads import choose_threads
from fastrl.runs.trainer_state import load_state, state_of
from fastrl.runs.typed_values import convert

MAX_EVALUATION_ENVS = 64
RECENT_EPISODES = 100  # `rollout/ep_return_mean` is over this many finished episodes


class Trainer(ABC):
    """Environments, data and the order of events; networks and formulas are the learner's.

    A subclass makes `learner` and its data in `set_up`, and gives `collect`, `estimate`, `learn` and its own
    state. What is counted: `env_steps` valid transitions over all environments, `updates` calls of the
    learner, `episodes` finished episodes.

    Args:
        config: the settings, all of them; they go to the learner as they are.

    Attributes:
        config: with the number of environments that there are, where an object brought its own.

    Raises:
        SettingError: a setting is out of range, or does not fit the environments or the machine.
    """

    algorithm: str
    takes_images: ClassVar[bool] = False  # whether its networks convolve; the others refuse cameras
    config: Any
    learner: Any
    env: VectorEnv

    def __init__(self, config: RunConfig) -> None:
        self._begin(config)
        with self.session():
            try:
                self.open_environments()
                self.set_up()
            except BaseException:  # at once: whoever keeps the error keeps the trainer
                self.close()
                raise

    def _begin(self, config: RunConfig) -> None:
        """What a trainer has before there are environments."""
        self.config = config = replace(config)
        config.check()
        self.seed = config.seed
        self.device = torch.device(config.device)
        self.env_steps = 0
        self.updates = 0
        self.episodes = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)  # (return, length)
        self.stopwatch = Stopwatch()
        self.can_make_envs = True  # an environment object cannot be made a second time
        self.fixed_num_envs: int | None = None  # a factory of vector environments always gives this many
        # environment steps at which to log, evaluate and save next, and of the last row in its turn
        self.marks: dict[str, int] = {}
        self.loaded = False  # whether a checkpoint has been loaded, which may have been one at step 0
        self.saved_updates = 0  # `updates` at the newest checkpoint
        self.evaluated_at: int | None = None  # `env_steps` at the latest evaluation of a run
        self.interrupted: str | None = None  # name of the signal that ended the last run early
        self.run_folder: Path | None = None  # of the last run
        self.unwritten: list[str] = []  # logs of the last run that found no room, by name
        self._loop: Loop | None = None  # while a run is going on
        self.threads = choose_threads(
            config.num_envs, config.threads, config.env_threads, config.hidden_weights()
        )
        self._session = Session(ProcessSettings(self.threads.torch), self.seed, self.device)

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """A trainer with the settings of a configuration, whatever arguments the constructor has."""
        trainer = cls.__new__(cls)
        Trainer.__init__(trainer, config)
        return trainer

    @classmethod
    def for_acting(cls, config: RunConfig, env: VectorEnv) -> Self:
        """A trainer that only acts: its learner, new, and nothing to train in.

        Args:
            config: the settings.
            env: tells the spaces (see `fastrl.envs.description.DescribedEnvs`); it is not stepped.
        """
        trainer = cls.__new__(cls)
        trainer._begin(config)
        trainer.can_make_envs = False
        with trainer.session():
            trainer.env = env
            trainer.learner = trainer.make_learner()
        return trainer

    @abstractmethod
    def make_learner(self) -> Any:
        """A new learner for `config` and the spaces of `env`, which is not stepped."""

    @abstractmethod
    def set_up(self) -> None:
        """Make the learner and the data.

        The environments are there, and the trainer's session is entered.
        """

    def session(self) -> Session:
        """A context in which the process works for this trainer, and is put back at the end.

        It has the trainer's number of torch threads, keeps freed memory, and draws from random generators of
        the trainer's own, which its seed alone determines.

        `run`, `evaluate` and `load` enter it; it can be entered inside itself. Whoever calls `collect`,
        `estimate` and `learn` in a loop of one's own should enter it: without it they draw from the process's
        generators, with the process's threads.

            with trainer.session():
                trainer.collect()
                trainer.estimate()
                trainer.learn()
        """
        return self._session

    def train(self, total_steps: int, out_dir: str | PathLike[str] | None = None) -> None:
        """Train, write the run folder, evaluate at the end; see `run`. An algorithm may add arguments.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/; None: as
                `run` chooses it.
        """
        self.run(total_steps, out_dir)

    @abstractmethod
    def collect(self) -> bool:
        """Step the environments until there is enough to learn from; False when a signal asked to stop."""

    @abstractmethod
    def estimate(self) -> None:
        """Turn what was collected into learning targets."""

    @abstractmethod
    def learn(self) -> Mapping[str, Tensor]:
        """Update the agent; returns metrics as tensors."""

    @abstractmethod
    def actor(self, num_envs: int) -> Actor:
        """The policy as it acts in training, about to begin episodes in that many environments."""

    def open_environments(self) -> None:
        """Make the training environments."""
        require_float32_default()
        config = self.config
        self.can_make_envs = isinstance(config.env_id, str) or is_factory(config.env_id)
        self.env = self.make_env(config.num_envs, self.seed)
        self._require_fit()
        scales = {
            f"scales_{what}s": bool(getattr(config, f"normalize_{what}", False))
            for what in ("observation", "reward")
        }
        self.env.look_at_first_steps(**scales)
        if is_factory(config.env_id) or names_factory(config.env_id):
            self.fixed_num_envs = self.env.num_envs

    def _require_fit(self) -> None:
        """Raises SettingError unless environments, settings and machine fit each other."""
        if self.env.device.type != self.device.type:
            raise SettingError(
                f"device is {self.device}, but {self.env.name} is already made, for {self.env.device}"
            )
        if self.config.num_envs != self.env.num_envs:  # an object that is already made has its own number
            self.config = replace(self.config, num_envs=self.env.num_envs)
            self.config.check()
        require_needs(self.config.needs(self.env), str(self.device))
        if not self.takes_images:
            require_vectors(self.env, self.algorithm)

    def make_env(self, num_envs: int, seed: int) -> VectorEnv:
        """Fresh environments of the kind the trainer was built for."""
        threads = min(self.threads.env, num_envs)
        with warnings.catch_warnings():
            if hasattr(self, "env"):  # said of the training environments
                warnings.simplefilter("ignore", RawActionsWarning)
            env = make_vector_env(
                self.config.env_id,
                num_envs,
                seed=seed,
                device=self.device,
                num_threads=threads,
                **self.env_options,
            )
        env.timeout = env.timeout if self.config.env_timeout is None else self.config.env_timeout
        return env

    @property
    def env_options(self) -> dict[str, Any]:
        """Arguments of `make_vector_env` for environments like those of training."""
        config = self.config
        return {
            "obs_keys": config.obs_keys,
            "action_mask_key": config.action_mask_key,
            "max_episode_steps": config.max_episode_steps,
            "env_kwargs": config.env_kwargs,
        }

    def follow_parameters(self) -> None:
        """Let the learner's optimisers follow changes of its networks since the last update.

        SettingError where they cannot.

        Each update does so itself; `run` does it before the first step, since networks that were moved or
        cast cannot act either.
        """
        self.learner.follow()

    def anneal_over(self, total_steps: int) -> None:  # noqa: B027  # most trainers have no schedule of the whole run
        """Let what is annealed over the whole run end after this many environment steps; `run` calls it."""

    @abstractmethod
    def describe(self) -> str:
        """What is about to run, in a line or two: environments, threads, memory that will be taken."""

    @abstractmethod
    def trainer_state(self) -> dict[str, Any]:
        """What the subclass must keep besides agent, environments, counters and random generators."""

    @abstractmethod
    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`.

        When the environments could not be saved they have just been made anew.
        """

    def state_outline(self) -> dict[str, Any]:
        """What `trainer_state` of a checkpoint must look like, by default like the present one.

        See `fastrl.runs.state_check`.

        A subclass says here what can be absent, or must lie in a range: a place in a ring, a half-collected
        rollout.
        """
        return self.trainer_state()

    def stop_requested(self) -> bool:
        """Whether a signal asked the present run to end; asked at every environment step."""
        return self._loop is not None and self._loop.stop.requested is not None

    # -------------------------------------------------------------------------------------- the loop

    @without_autocast
    def run(self, total_steps: int, out_dir: str | PathLike[str] | None = None) -> None:
        """Train until `env_steps` reaches `total_steps`, then evaluate and save; progress is printed.

        SIGINT, SIGTERM and SIGHUP end it early with a checkpoint; `interrupted` then names the signal. So
        does a pipe whose reader has gone, as "SIGPIPE". Logs and output that cannot be written do not end it:
        notes.txt and `unwritten` name them.

        Args:
            total_steps: environment steps of the whole run, those of earlier sessions included.
            out_dir: run folder; a trainer that has loaded a checkpoint goes on with the logs it finds there.
                None: that of the trainer's last run, or else a new one,
                `runs/<algorithm>-<environment>-<seed>-<time>`. `run_folder` tells it.

        Raises:
            SettingError: total_steps is below 1, or the folder cannot be made or holds another run.
            RunFolderError: another process writes into the folder, or it cannot be written; the message says
                what is kept.
            CheckpointError: a checkpoint cannot be written; earlier ones are as they were.
        """
        total_steps = convert("total_steps", int, total_steps)
        if total_steps < 1:
            raise SettingError(f"total_steps must be at least 1 environment step, got {total_steps}")
        require_float32_default()
        self.follow_parameters()
        self.anneal_over(total_steps)
        with self._folder_of_run(total_steps, out_dir) as folder:
            loop = Loop(self, total_steps, folder)
            self._loop, self.run_folder = loop, folder
            try:
                with self.session():
                    loop.run()
            finally:
                self.interrupted, self.unwritten, self._loop = loop.stop.requested, loop.unwritten, None

    @contextmanager
    def _folder_of_run(self, total_steps: int, out_dir: str | PathLike[str] | None) -> Iterator[Path]:
        """The folder that was given, that of the last run, or a new one.

        Absolute, since an environment may change the working directory.
        """
        if out_dir is not None:
            yield Path(out_dir).absolute()
        elif self.run_folder is not None:
            yield self.run_folder
        else:
            config = replace(self.config, total_steps=total_steps)
            name = config.env_id if isinstance(config.env_id, str) else self.env.name
            with new_run(self.algorithm, config, env_name=name) as run:
                yield run.path.absolute()

    # -------------------------------------------------------------------------------------- counting

    def count(self, transitions: int, finished: list[Episode]) -> None:
        """Add one step of the vector environment: its valid transitions and the episodes that ended in it."""
        self.env_steps += transitions
        for episode in finished:
            self.episodes += 1
            self.recent.append((episode.episode_return, episode.length))

    def progress(self, env_steps_per_s: float | None) -> dict[str, float]:
        """Statistics of the last 100 episodes, counters, steps per second, and seconds of each phase.

        Seconds are those since the last call; the rate is there where it is known.
        """
        metrics = {"rollout/episodes": float(self.episodes), "train/updates": float(self.updates)}
        if self.recent:
            returns, lengths = zip(*self.recent, strict=True)
            metrics |= {
                "rollout/ep_return_mean": float(np.mean(returns)),
                "rollout/ep_length_mean": float(np.mean(lengths)),
            }
        seconds = self.stopwatch.drain()
        if env_steps_per_s is not None:
            metrics["time/env_steps_per_s"] = env_steps_per_s
        return metrics | {f"time/{phase}_s": spent for phase, spent in seconds.items()}

    # ---------------------------------------------------------------------------- acting, evaluation

    @without_autocast
    @torch.no_grad()
    def act(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """Choose actions for observations as the environments give them; they are normalised here.

        A policy with a memory takes each observation for the first one of its episode; for whole episodes
        there is `actor`. Drawn actions come from torch's global generator.

        Args:
            obs: one observation [*obs_shape], or a batch [B, *obs_shape].
            deterministic: the most probable actions, those of an evaluation, instead of drawn ones.

        Returns:
            As the environments' `step` takes them, in policy units where they are continuous: a number or
            [A], or a batch of these.

        Raises:
            ValueError: obs has another shape or type, or is not finite.
        """
        who = f"{type(self).__name__}.act"
        rows, single = as_rows(who, obs, self.env.obs_shape, self.device)
        if self.env.obs_dtype == torch.uint8 and rows.dtype != torch.uint8:
            raise ValueError(
                f"{who}: obs must be bytes (uint8), as the environments give them, got "
                f"{str(rows.dtype).removeprefix('torch.')}"
            )
        rows = rows.to(self.env.obs_dtype)
        actions = self.actor(len(rows)).act(rows, deterministic).cpu().numpy()
        return actions[0] if single else actions

    @without_autocast
    def evaluate(self, n_episodes: int = 20, seed: int | None = None) -> Evaluation:
        """Play whole episodes with the deterministic policy in environments of their own.

        Args:
            n_episodes: episodes, ≥ 1; at most 64 environments play them side by side.
            seed: seed of those environments; None derives one from the run's seed. The same seed gives the
                same episodes. It has no effect where `env_id` is a factory of fastrl's own `VectorEnv`s,
                which come with the seeds that the factory gave them.

        Returns:
            `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean`,
            and `eval/cut_episodes` where episodes were left before their end (see `evaluate_policy`); empty
            when a signal asked to stop.
        """
        if n_episodes < 1:
            raise ValueError(f"evaluate: n_episodes must be at least 1, got {n_episodes}")
        if not self.can_make_envs:
            raise SettingError(
                "env_id is an environment object, which cannot be made again for evaluation; give an id or "
                "a factory"
            )
        chosen = derived_seed(self.seed, "evaluation") if seed is None else seed
        num_envs = self.fixed_num_envs or min(n_episodes, MAX_EVALUATION_ENVS)
        with self.session(), self.make_env(num_envs, chosen) as env:
            bounds: dict[str, Any] = {
                "interrupted": self.stop_requested,
                "max_steps": self.config.eval_max_steps,
            }
            return evaluate_policy(self.actor(env.num_envs), env, n_episodes, **bounds) or {}

    # ----------------------------------------------------------------------------------------- state

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint below the directory `path`, point `LATEST` at it, and return its directory."""
        saved = save_checkpoint(Path(path), self.state_dict(), step=self.env_steps)
        self.saved_updates = self.updates
        return saved

    def load(self, path: str | Path) -> None:
        """Continue from a checkpoint.

        `path` is a run folder, a directory of checkpoints (its newest good one is taken), or one checkpoint's
        directory.

        Everything of the learner comes back exactly. Environments that can save their state continue where
        they were; others (EnvPool) start new episodes under a new seed, and a half-collected rollout is
        dropped.

        Raises:
            CheckpointError: nothing loadable is there, or it is another algorithm's.
        """
        self.load_state_dict(load_checkpoint(checkpoints_in(Path(path))))

    def state_dict(self) -> dict[str, Any]:
        """Everything a later process needs to continue, as plain values and tensors."""
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`.

        Raises:
            CheckpointError: it is of another algorithm or other settings, or is none; the message names the
                key, and the trainer is as it was.
        """
        with self.session():
            load_state(self, state)
        self.loaded, self.saved_updates = True, self.updates

    def renew_environments(self) -> None:
        """Make environments anew, under a new seed once there are steps.

        The first seed would replay the episodes of the first session.
        """
        num_envs = self.env.num_envs
        self.env.close()
        self.env = self.make_env(
            num_envs, derived_seed(self.seed, "resumed", self.env_steps) if self.env_steps else self.seed
        )

    def close(self) -> None:
        """Close the environments; a second call does nothing."""
        if hasattr(self, "env"):  # not so where they could not be made
            self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
