"""SAC on vector environments: act, store, replay transitions, update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastrl.data.feed import Feed, seen
from fastrl.envs.action_scale import NO_BOUND
from fastrl.errors import SettingError
from fastrl.nn.layers import count_parameters
from fastrl.nn.observations import as_rows
from fastrl.runs.evaluation import Actor, MemorylessActor
from fastrl.runs.seeding import derived_seed
from fastrl.runs.trainer import Trainer
from fastrl.runs.trainer_state import feed_outline
from fastrl.trainers.sac.config import SACConfig
from fastrl.trainers.sac.learner import SACLearner


class SACTrainer(Trainer):
    """Train with soft actor-critic on vector environments with continuous actions; see `SACLearner`.

    A round is one step of all `num_envs` environments, whose transitions are stored, and the updates that are
    then due: one per environment step unless `samples_per_insert` says otherwise. Truncated episodes
    bootstrap from their real last observation. The first `update_after` steps are the policy's too: before it
    has learned anything it spreads its actions over their bounds.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        settings: further settings by their names in `SACConfig`.

    Attributes:
        learner: networks, temperature and optimisers.
        feed: what steps the environments and fills the replay.

    Raises:
        SettingError: a setting is out of range or does not fit the environment's spaces or the machine's
            memory; the message names it.
    """

    algorithm = "sac"

    def __init__(self, env_id: Any, **settings: Any) -> None:
        super().__init__(SACConfig.of({"env_id": env_id, **settings}))

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        self.learner: SACLearner = self.make_learner()
        more: dict[str, Any] = {"count": self.count, "stopwatch": self.stopwatch, "device": self.device}
        self.feed = Feed(self.env, self.config, name="SAC", seed=derived_seed(self.seed, "replay"), **more)
        self.feed.restart()

    def make_learner(self) -> SACLearner:
        """See `Trainer.make_learner`."""
        action, name = self.env.action, self.env.name
        if action.kind != "continuous" or action.low is None or action.high is None:
            raise SettingError(f"env_id {name!r} has {action.kind} actions; SAC takes continuous ones")
        if bool(((action.low <= -NO_BOUND) | (action.high >= NO_BOUND)).any()):
            raise SettingError(f"env_id {name!r} has actions without bounds; SAC needs finite ones")
        bounds = {"action_low": action.low, "action_high": action.high}
        return SACLearner(self.config, math.prod(self.env.obs_shape), self.device, **bounds)

    def collect(self) -> bool:
        """One step of all environments, stored; False when a signal asked to stop first."""
        if self.stop_requested():
            return False
        self.steps_before = self.env_steps
        self.feed.step(lambda obs: {"actions": self.learner.act(obs)})
        return True

    def estimate(self) -> None:
        """Nothing: targets belong to the update that draws them."""

    def learn(self) -> Mapping[str, Tensor]:
        """The updates that are due; returns the metrics of the last one."""
        metrics: Mapping[str, Tensor] = {}
        annealed = self.anneal(self.learner.rates, self.steps_before)
        for batch in self.feed.batches():
            metrics = self.learner.learn(batch, measure=self.feed.due < 1.0) | annealed
        self.updates = self.learner.updates
        return {**metrics, **self.feed.metrics()}

    def actor(self, num_envs: int) -> Actor:
        """The policy, which remembers nothing."""
        return MemorylessActor(self._act)

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("SACTrainer", obs, self.env.obs_shape, self.device)
        return self.learner.act(seen(rows), deterministic)

    def describe(self) -> str:
        """Environments, networks, replay and threads."""
        parameters = count_parameters(self.learner.policy, self.learner.critics)
        sizes = f"{self.env.num_envs} environments, {parameters:,} parameters"
        return f"SAC on {self.env.name}: {sizes}; {self.feed.memory}; {self.threads}"

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, updates that are due, and the replay if it is to be kept."""
        return self.feed.state_dict()

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`, see `feed_outline`."""
        return feed_outline(self.feed)

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        self.feed.env = self.env
        self.feed.load_state_dict(state, environments_continue=environments_continue)
