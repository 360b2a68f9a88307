"""What policies have in common: distributions over actions, acting, entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastrl.nn.action_heads import Policy, distribution
from fastrl.nn.containers import ActionLinear, Shape
from fastrl.nn.dense import PreparedChain
from fastrl.nn.observations import as_rows
from fastrl.toolkit.models.base_model import BaseModel
from fastrl.toolkit.utils.utils import make_callable


class BasePGModel(BaseModel):
    """A policy π(a|s).

    Args:
        model: gives logits [N, A] for discrete actions, those of all branches side by side for multi-discrete
            ones; mean and log standard deviation [N, A, 2] for continuous ones.
        batcher: as for `BaseModel`.
        entropy_coef: factor of the entropy bonus, a number or a function of the environment steps; positive
            ones reward entropy.
        kwargs: as for `BaseModel`.
    """

    def __init__(self, model: nn.Module, batcher: Any, *, entropy_coef: Any = 0, **kwargs: Any) -> None:
        self.entropy_coef = make_callable(entropy_coef)
        action_info = batcher.get_action_info()
        self._action_info, self._space = action_info, action_info["space"]
        super().__init__(model, batcher, **kwargs)

    @staticmethod
    def output_layer(input_shape: Shape, action_info: Mapping[str, Any]) -> nn.Module:
        return ActionLinear(input_shape, action_info)

    def create_dist(self, parameters: Tensor) -> Policy:
        """The distribution over actions.

        Log-probabilities, entropy and KL divergence are those of whole actions, one number for each row.

        Args:
            parameters: what the network gives: logits [..., A], side by side where there are branches, or
                mean and log standard deviation [..., A, 2].

        Raises:
            ValueError: there is no distribution for these actions.
        """
        return distribution(parameters, self._action_info)

    def dist_of(self, states: Any) -> Policy:
        """The policy at states [N, ...]."""
        return self.create_dist(self(states))

    @staticmethod
    @torch.no_grad()
    def select_action(model: BasePGModel, state: Any, step: int) -> np.ndarray:
        """Draw actions.

        States are what the batcher's transforms make of observations; `PGAgent.act` takes observations as
        environments give them.

        Args:
            model: the policy.
            state: states [E, ...], or one of them.
            step: environment steps so far.

        Returns:
            [E] whole numbers, [E, branches] of them, or [E, A] in policy units, where finite bounds are −1
            and 1; without the first dimension for one state.

        Raises:
            ValueError: state has another shape.
        """
        return model._actions("select_action", state, lambda policy: policy.sample())

    @staticmethod
    @torch.no_grad()
    def select_best_action(model: BasePGModel, state: Any, step: int) -> np.ndarray:
        """The most probable actions; arguments and result as of `select_action`."""
        return model._actions("select_best_action", state, lambda policy: policy.mode())

    def _actions(self, method: str, state: Any, choose: Callable[[Policy], Tensor]) -> np.ndarray:
        shape = tuple(self.batcher.get_state_info()["shape"])
        rows, single = as_rows(f"{self.name}.{method}", state, shape, self.device, what="state")
        actions = choose(self.dist_of(rows)).cpu().numpy()
        return actions[0] if single else actions

    def acting(self) -> Callable[[Tensor], Tensor]:
        """A function from states [E, ...] on the network's device to actions, for one rollout.

        It does what `select_action` does, with tensors.

        Parameters are read at each call; layers are looked through once.
        """
        if not self._is_its_network():
            return lambda state: self.dist_of(state).sample()
        forward = self.prepared()
        makes_its_own = type(self).create_dist is not BasePGModel.create_dist or "create_dist" in vars(self)
        if self._space == "discrete" and isinstance(forward, PreparedChain) and not makes_its_own:
            return forward.sample
        return lambda state: self.create_dist(forward(state)).sample()

    def _is_its_network(self) -> bool:
        """Whether `dist_of` is `create_dist` of what the layers of the network give, and nothing else happens
        on the way."""
        kind, network = type(self), self.model
        if (
            kind.dist_of is not BasePGModel.dist_of
            or kind.forward is not BaseModel.forward
            or {"dist_of", "forward"} & set(vars(self))
        ):
            return False
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in (self, network))
        return "forward" not in vars(network) and not hooked

    def entropy_loss(self, batch: Any) -> Tensor:
        """−entropy_coef · mean entropy in nats, summed over action dimensions, 0-d."""
        return -self.entropy_coef(self.num_steps) * batch.dist.entropy().mean()

    def register_callbacks(self) -> None:
        super().register_callbacks()
        self.callbacks["mini_batch_start"].append(self._add_dist)
        self.callbacks["train_end"].append(self._look_again)

    def _add_dist(self, batch: Any) -> None:
        """The policy at the rows of a mini-batch, once for all losses."""
        batch.dist = self.dist_of(batch.state_t)
        batch.new_log_prob = batch.dist.log_prob(batch.action)

    @torch.no_grad()
    def _look_again(self, batch: Any) -> None:
        """The policy at all rows after training, for what is logged of it."""
        self._add_dist(batch)

    def write_logs(self, batch: Any) -> None:
        """Entropy and log-probabilities after training."""
        super().write_logs(batch)
        if "dist" in batch:  # training was not called off before it began
            self.add_log("Entropy", batch.dist.entropy().mean())
            self.add_tf_only_log("Policy/log_prob", batch.new_log_prob.mean())
