"""The agent of all policy-gradient models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastrl.errors import SettingError
from fastrl.losses.value import standardize
from fastrl.toolkit.agents.base_agent import BaseAgent
from fastrl.toolkit.models.advantage_model import AdvantageModel
from fastrl.toolkit.models.base_pg_model import BasePGModel
from fastrl.toolkit.utils.estimators.advantage.direct import DAE
from fastrl.toolkit.utils.estimators.advantage.estimators import GAE
from fastrl.toolkit.utils.estimators.value.estimators import FromAdvantage


class PGAgent(BaseAgent):
    """Collect a rollout, estimate advantages and value targets, learn.

    Targets are estimated from advantages as they are; only then are these normalised, over all transitions of
    the batch.

    Args:
        batcher: steps the environments, `fastrl.batchers`.
        policy_model: a model of `fastrl.models` that chooses actions; registered as "policy".
        value_model: V(s), registered as "value"; None: there is none, and `advantage` must be one that needs
            none.
        normalize_advantages: to mean 0 and standard deviation 1 over the batch, or as the estimator itself
            normalises them (`DAE` does).
        advantage: estimator of advantages; None: GAE(gamma=0.99, gae_lambda=0.95). `DAE` brings an optimiser
            of its own for its model, registered as "advantage", and for the value model.
        vtarget: estimator of the targets of the value model; None: FromAdvantage().
        kwargs: of `BaseAgent`: `optimizer` (required), `gamma`, `log_dir`.

    Raises:
        SettingError: the estimators need values and there is no value model, or a parameter is trained twice.
    """

    def __init__(
        self,
        batcher: Any,
        *,
        policy_model: Any,
        value_model: Any = None,
        normalize_advantages: bool = True,
        advantage: Any = None,
        vtarget: Any = None,
        **kwargs: Any,
    ) -> None:
        if "optimizer" not in kwargs:
            raise SettingError("optimizer must be given: one of fastrl.optimizers over the models")
        super().__init__(batcher, **kwargs)
        self.advantage = GAE(gamma=0.99, gae_lambda=0.95) if advantage is None else advantage
        self.vtarget = FromAdvantage() if vtarget is None else vtarget
        self.normalize_advantages = normalize_advantages
        if value_model is None and getattr(self.advantage, "needs_values", True):
            raise SettingError(
                f"value_model must be given, since advantage {type(self.advantage).__name__} needs values; "
                "CompleteReturn needs none"
            )
        self._register_model("policy", policy_model)
        if value_model is not None:
            self._register_model("value", value_model)
        if isinstance(self.advantage, DAE):
            self._register_model("advantage", self.advantage.model)
            self._check_direct_advantages(self.advantage.model, value_model)

    def _check_direct_advantages(self, model: AdvantageModel, value_model: Any) -> None:
        if model.value_model is not value_model:
            raise SettingError("value_model must be the one that the advantage model is fitted together with")
        trained = {id(parameter) for trained in self.opt.models for parameter in trained.parameters()}
        if any(id(parameter) in trained for parameter in model.parameters()):
            raise SettingError(
                "optimizer trains a parameter of the advantage or value model, which DAE trains: give it "
                "the policy alone"
            )

    def step(self) -> None:
        """Collect a batch, estimate, learn."""
        batch = self.estimate(self.collect())
        self.learn(batch)

    def collect(self) -> Any:
        """The next rollout [T, E]."""
        return self.batcher.get_batch(self.acting())

    def acting(self) -> Callable[[Any, int], Any]:
        """`select_action` for the next rollout; faster where it is the library's own."""
        policy, own = (
            self.models.policy,
            "select_action" in vars(self) or type(self).select_action is not BaseAgent.select_action,
        )
        if (
            own
            or self.select_action_fn is not None
            or getattr(policy, "select_action", None) is not BasePGModel.select_action
        ):
            return self.select_action
        act = policy.acting()

        @torch.no_grad()
        def select(state: Any, step: int) -> Any:
            return act(policy.to_tensor(state))

        return select

    @torch.no_grad()
    def estimate(self, batch: Any) -> Any:
        """The rollout's transitions as flat rows, with advantages and, with a value model, its targets."""
        value = self.models.get("value")
        if value is not None:
            batch.state_value_t_and_tp1 = value.values(batch.state_t_and_tp1)
            batch.state_value_t, batch.state_value_tp1 = (
                batch.state_value_t_and_tp1[:-1],
                batch.state_value_t_and_tp1[1:],
            )
        if getattr(self.advantage, "needs_policy", False):
            # the policy has not moved since it acted
            batch.policy_t = self.models.policy(batch.state_t.flatten(0, 1)).unflatten(0, batch.reward.shape)
        batch.advantage = self.advantage(batch)
        if value is not None:
            batch.vtarget = self.vtarget(batch)
        flat = batch.concat_batch()
        if self.normalize_advantages:
            flat.advantage = getattr(self.advantage, "normalize", standardize)(flat.advantage)
        return flat

    def learn(self, batch: Any) -> None:
        """Let the optimiser learn from flat rows; schedules are those of the steps before their rollout."""
        self.follow()
        self.opt.learn_from_batch(batch, step=getattr(self.batcher, "steps_before_rollout", self.num_steps))

    @property
    def optimizers(self) -> list[Any]:
        """The optimiser, and that of `DAE` where it estimates advantages."""
        return [self.opt, self.advantage.optimizer] if isinstance(self.advantage, DAE) else [self.opt]

    def follow(self) -> None:
        """Let optimisers, that of `DAE` too, follow what was done to the models since the last batch."""
        super().follow()
        if isinstance(self.advantage, DAE):
            self.advantage.optimizer.follow()

    def write_optimizer_logs(self, logger: Any) -> None:
        """What the optimisers have to say of their last steps, that of `DAE` too."""
        for optimizer in self.optimizers:
            optimizer.write_logs(logger)

    def learner_state(self) -> dict[str, Any]:
        """Models, optimisers and the number of iterations."""
        state = super().learner_state()
        return (
            state | {"advantage_optimizer": self.advantage.optimizer.state_dict()}
            if isinstance(self.advantage, DAE)
            else state
        )

    def load_learner(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `learner_state`."""
        super().load_learner(state)
        if isinstance(self.advantage, DAE):
            self.advantage.optimizer.load_state_dict(state["advantage_optimizer"])
