"""What all agents have: a batcher, an optimiser, models, a logger, and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.envs import Episode, VectorEnv
from fastrl.envs.action_scale import own_units
from fastrl.envs.toolkit import BaseEnv
from fastrl.errors import SettingError
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
from fastrl.runs.evaluation import Actor, Evaluation, evaluate_policy
from fastrl.runs.process import ProcessSettings
from fastrl.runs.seeding import require_rng_state, rng_state, set_rng_state
from fastrl.runs.state_check import Checked, ListOf, require_like
from fastrl.runs.trainer_state import load_or_go_back
from fastrl.toolkit.utils.logger import Logger
from fastrl.toolkit.utils.memories import SimpleMemory

UNLIMITED = -1
RECENT_EPISODES = 50


class BaseAgent(ABC):
    """Trains models on what a batcher collects.

    Args:
        batcher: steps the environments, `fastrl.batchers`.
        optimizer: lets the models learn from a batch, `fastrl.optimizers`.
        gamma: discount, for subclasses that make estimators of their own.
        log_dir: folder of the logs; None writes none.

    Attributes:
        models: the registered models by name, as attributes too.
        num_iters: iterations made: rollouts collected and learned from.
        select_action_fn: called instead of the policy's own as `fn(model=, state=, step=)`; None is the
            policy's own.
        eval_select_action_fn: the same in evaluation.
    """

    def __init__(
        self, batcher: Any, optimizer: Any, *, gamma: float = 0.99, log_dir: str | Path | None = "runs"
    ) -> None:
        self.batcher, self.opt = batcher, optimizer
        self.gamma = gamma
        self.logger = Logger(log_dir)
        self.models: SimpleMemory = SimpleMemory()
        self._registered: dict[str, Any] = {}  # the models that were there when the optimiser was made
        self.num_iters = 0
        self.select_action_fn: Callable[..., Any] | None = None
        self.eval_select_action_fn: Callable[..., Any] | None = None
        self._limits: dict[str, int] = {}
        self._recent: list[Episode] = []

    @property
    def num_steps(self) -> int:
        """Environment steps (transitions) so far, over all environments."""
        return int(self.batcher.num_steps)

    @property
    def num_episodes(self) -> int:
        """Finished episodes."""
        return int(self.batcher.num_episodes)

    @abstractmethod
    def step(self) -> None:
        """One iteration: collect a batch and learn from it."""

    def follow(self) -> None:
        """Let optimisers follow what was done to the models since the last batch, see `BaseOpt.follow`.

        Raises:
            SettingError: a model of the agent is another one, or has changed so that its optimiser cannot
                follow.
        """
        for name, model in self._registered.items():
            if self.models.get(name) is not model:
                raise SettingError(
                    f"models.{name} of the agent is not the one that its optimiser trains; "
                    "give that one the values with load_state_dict, or make a new agent"
                )
        self.opt.follow()

    def _register_model(self, name: str, model: Any) -> None:
        """Store a model under a name and give it the logger."""
        self.models[name] = self._registered[name] = model
        model.attach_logger(self.logger)

    def select_action(self, state: Tensor | np.ndarray, step: int) -> Any:
        """Actions [E] or [E, A] of the policy, or of `select_action_fn`, at states [E, ...] or at one.

        States are what the batcher's transforms make of observations; `act` takes observations as
        environments give them.
        """
        choose = self.select_action_fn or self.models.policy.select_action
        return choose(model=self.models.policy, state=state, step=step)

    def act(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """Choose actions for observations as the environments give them.

        They go through the batcher's transforms, which stand still.

        Transforms that look back take each observation for the first one of its episode; for whole episodes
        there is `batcher.actor`.

        Args:
            obs: one observation [*obs_shape], or a batch [B, *obs_shape].
            deterministic: the most probable actions, those of `evaluate`, instead of drawn ones.

        Returns:
            As the environments' `step` takes them, in policy units where they are continuous: a number or
            [A], or a batch of these.

        Raises:
            ValueError: obs has another shape, or is not finite.
        """
        env = self.batcher.env
        who = f"{type(self).__name__}.act"
        rows, single = as_rows(who, obs, env.obs_shape, env.device)
        actions = self._actor().act(rows, deterministic).cpu().numpy()
        return actions[0] if single else actions

    def _actor(self, env: VectorEnv | None = None) -> Actor:
        """The policy, about to begin episodes; in `env`, whose actions may be in their own units."""
        policy = self.models.policy
        units = None if env is None else own_units(self.batcher.env, env)

        def act(state: Tensor, deterministic: bool) -> Tensor:
            if deterministic:
                choose = self.eval_select_action_fn or policy.select_best_action
            else:
                choose = self.select_action_fn or policy.select_action
            actions = torch.as_tensor(choose(model=policy, state=state, step=self.num_steps))
            return actions if units is None else torch.as_tensor(units.to_environment(actions.cpu().numpy()))

        return self.batcher.actor(act)

    # -------------------------------------------------------------------------------------- training

    def train(
        self,
        *,
        max_iters: int | None = UNLIMITED,
        max_episodes: int | None = UNLIMITED,
        max_steps: int | None = UNLIMITED,
        log_freq: int = 1,
        eval_env: BaseEnv | VectorEnv | None = None,
        eval_freq: int | None = None,
    ) -> None:
        """Train until the first limit is reached; limits count from the agent's beginning, not the call's.

        Args:
            max_iters: iterations; -1 or None: no limit, as for the others.
            max_episodes: finished episodes.
            max_steps: environment steps, over all environments. The iteration that reaches a limit is
                completed.
            log_freq: a table on every so many iterations, and one at the end of what is left.
            eval_env: environments for evaluation, of the training environments' kind; None evaluates never.
            eval_freq: environment steps between evaluations, the first one after the first iteration; None:
                at every iteration.

        Raises:
            SettingError: a limit is out of range, or there is none; or the models have changed so that their
                optimiser cannot follow.
        """
        require_float32_default()
        self.follow()
        self._limits = _limits(max_iters=max_iters, max_episodes=max_episodes, max_steps=max_steps)
        self.logger.set_log_freq(log_freq)
        next_evaluation = self.num_steps
        with ProcessSettings():
            while not self._check_termination():
                self.step()
                self.num_iters += 1
                if eval_env is not None and self.num_steps >= next_evaluation:
                    next_evaluation = self.num_steps + (eval_freq or 0)
                    self._log_evaluation(eval_env)
                self.write_logs()
        self.logger.log_rest(self._header())

    def _check_termination(self) -> bool:
        """Whether a limit of `train` is reached."""
        reached = {
            "max_iters": self.num_iters,
            "max_episodes": self.num_episodes,
            "max_steps": self.num_steps,
        }
        return any(reached[name] >= limit for name, limit in self._limits.items())

    def write_logs(self) -> None:
        """Episodes, the optimiser's metrics and the models' since the last call."""
        finished = self.batcher.pop_episodes()
        self._recent = (self._recent + finished)[-RECENT_EPISODES:]
        for (
            episode
        ) in finished:  # one by one: a table's mean is over episodes, however many iterations they came in
            self.logger.add_log("Env/Reward/Episode (New)", episode.episode_return)
            self.logger.add_log("Env/Length/Episode (New)", episode.length)
        if self._recent:
            means = np.mean(
                [(episode.episode_return, episode.length) for episode in self._recent], axis=0
            ).tolist()
            for name, mean in zip(("Reward", "Length"), means, strict=True):
                self.logger.add_log(f"Env/{name}/Episode (Last {RECENT_EPISODES})", mean, latest=True)
        self.write_optimizer_logs(self.logger)
        self.logger.timeit(self.num_steps, self._limits.get("max_steps", UNLIMITED))
        self.logger.log(self._header())

    def write_optimizer_logs(self, logger: Any) -> None:
        """What the optimisers have to say of their last steps."""
        self.opt.write_logs(logger)

    def _header(self) -> str:
        return f"Iter {self.num_iters} | Episode {self.num_episodes} | Step {self.num_steps}"

    # ------------------------------------------------------------------------------------ evaluation

    def evaluate(self, eval_env: BaseEnv | VectorEnv, n_episodes: int = 1) -> Evaluation:
        """Play whole episodes with the most probable actions, or with `eval_select_action_fn`.

        Statistics of transforms stand still.

        Args:
            eval_env: a `GymEnv` or vector environments of the training environments' kind; they stay open.
                Where they take actions in the environment's own units, as a `GymEnv` does, the policy's are
                mapped to those.
            n_episodes: episodes, ≥ 1.

        Returns:
            `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean`.
        """
        env = eval_env if isinstance(eval_env, VectorEnv) else eval_env.env
        metrics = evaluate_policy(self._actor(env), env, n_episodes)
        assert metrics is not None  # nothing interrupts it
        return metrics

    def _log_evaluation(self, eval_env: BaseEnv | VectorEnv) -> None:
        metrics = self.evaluate(eval_env)
        self.logger.add_log("Env/Reward/Evaluation", metrics["eval/return_mean"])
        self.logger.add_log("Env/Length/Evaluation", metrics["eval/length_mean"])

    # ----------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Models, optimiser, batcher, latest episodes and random generators.

        The batcher's state has counts, statistics, and environments where they can be saved.
        """
        recent = [tuple(episode) for episode in self._recent]
        return {
            **self.learner_state(),
            "batcher": self.batcher.state_dict(),
            "recent_episodes": recent,
            "rng": rng_state(),
        }

    def learner_state(self) -> dict[str, Any]:
        """Models, optimiser and the number of iterations."""
        models = {name: model.state_dict() for name, model in self.models.items()}
        return {"num_iters": self.num_iters, "models": models, "optimizer": self.opt.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`, for an agent that was built the same way.

        Raises:
            CheckpointError: it was built in another way, or this is no such state; the message names the key,
                and the agent is as it was.
        """
        load_or_go_back(state, check=lambda: self._require_state(state), own=self.state_dict, load=self._take)

    def _require_state(self, state: Mapping[str, Any]) -> None:
        """Raises StateError unless the state can be loaded."""
        expected = {
            **self.learner_state(),
            "batcher": self.batcher.state_outline(),
            "recent_episodes": ListOf((0, 0.0, 0), RECENT_EPISODES),
            "rng": Checked(require_rng_state),
        }
        require_like(state, expected, "state")

    def _take(self, state: Mapping[str, Any], back: bool) -> None:
        self.load_learner(state)
        self.batcher.load_state_dict(state["batcher"])
        self._recent = [Episode(*episode) for episode in state["recent_episodes"]]
        set_rng_state(state["rng"])

    def load_learner(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `learner_state`."""
        self.num_iters = int(state["num_iters"])
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        self.opt.load_state_dict(state["optimizer"])

    def save(self, path: str | Path) -> Path:
        """Write a checkpoint below the directory `path`; returns its own directory."""
        return save_checkpoint(Path(path), self.state_dict(), step=self.num_steps)

    def load(self, path: str | Path) -> None:
        """Continue from the newest good checkpoint below the directory `path`, or from one checkpoint."""
        self.load_state_dict(load_checkpoint(Path(path)))


def _limits(**given: int | None) -> dict[str, int]:
    limits = {name: value for name, value in given.items() if value is not None and value != UNLIMITED}
    for name, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SettingError(
                f"{name} must be a whole number of at least 0, or -1 for no limit, got {value!r}"
            )
    if not limits:
        raise SettingError(
            "one of max_iters, max_episodes and max_steps must be given, or training would never end"
        )
    return limits
