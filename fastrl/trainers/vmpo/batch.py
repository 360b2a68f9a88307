"""What V-MPO learns from: `Segments`, a rollout by environments, and `Rows`, its valid transitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.memory.base import Reader
from fastrl.nn.action_heads import Policy, policy_over
from fastrl.nn.distributions import Categorical, DiagonalGaussian, Distribution


@dataclass(frozen=True, slots=True)
class VMPORows:
    """M transitions, on the learner's device; every row is valid.

    Args:
        obs: [M, obs_dim] float32.
        actions: [M, A] float32; when discrete [M] int64, or [M, branches].
        returns, advantages: [M] float32.
        acted: the policy that chose the actions, over [M] rows.
        log_importance: [M] float32 or None.
        unmoved: the policy to be learned is still the one that acted, so that the KL between them is 0 and so
            is its gradient.
        reader: reads these rows with their memory, where the policy remembers; parts of them have none.
    """

    obs: Tensor
    actions: Tensor
    returns: Tensor
    advantages: Tensor
    acted: Policy
    log_importance: Tensor | None = None
    unmoved: bool = False
    reader: Reader | None = None

    def __len__(self) -> int:
        return self.advantages.shape[0]

    def at(self, index: slice | Tensor) -> VMPORows:
        """The rows of a slice, of indices [K] or of a mask [M]; views where it is a slice."""
        importance = None if self.log_importance is None else self.log_importance[index]
        return VMPORows(
            self.obs[index],
            self.actions[index],
            self.returns[index],
            self.advantages[index],
            policy_over(self.acted, lambda field: field[index]),
            importance,
            self.unmoved,
        )

    def split(self, size: int) -> Iterator[VMPORows]:
        """Views of at most `size` rows, in order."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))


@dataclass(frozen=True, slots=True)
class VMPOSegments:
    """T steps of N environments, on the learner's device.

    Args:
        obs: [T, N, obs_dim] float32.
        actions: [T, N, A] float32; when discrete [T, N] int64, or [T, N, branches].
        acted: the policy that chose the actions, over [T, N].
        rewards: [T, N] float32.
        values: [T+1, N] float32, V as it was when the rollout was made, a constant; row t+1 is of what
            followed step t, before any reset.
        terminated, truncated, valid: [T, N] bool.
    """

    obs: Tensor
    actions: Tensor
    acted: Policy
    rewards: Tensor
    values: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor

    def of(self, envs: Tensor) -> VMPOSegments:
        """The rollout of some environments, by index [n]."""
        return VMPOSegments(
            self.obs[:, envs],
            self.actions[:, envs],
            policy_over(self.acted, lambda field: field[:, envs]),
            self.rewards[:, envs],
            self.values[:, envs],
            self.terminated[:, envs],
            self.truncated[:, envs],
            self.valid[:, envs],
        )

    def minibatches(self, count: int) -> Iterator[VMPOSegments]:
        """The environments in random order, in `count` groups of nearly the same size.

        At most one group for each environment; one group is the rollout itself.

        Rows of one environment stay together and in order: a sum of rewards needs those that follow.
        """
        envs = self.rewards.shape[1]
        if min(count, envs) == 1:
            yield self
            return
        for group in torch.randperm(envs, device=self.rewards.device).tensor_split(min(count, envs)):
            yield self.of(group)

    def rows(self, advantages: Tensor, returns: Tensor, *, unmoved: bool = False) -> VMPORows:
        """The valid rows, with advantages and returns [T, N]; for `unmoved` see `VMPORows`."""
        valid = self.valid.flatten()
        all_valid = bool(valid.all())

        def take(field: Tensor) -> Tensor:
            return field.flatten(0, 1) if all_valid else field.flatten(0, 1)[valid]

        acted = policy_over(self.acted, take)
        return VMPORows(
            take(self.obs), take(self.actions), take(returns), take(advantages), acted, unmoved=unmoved
        )


def constant_policy(policy: Policy) -> Policy:
    """The same policy without gradient."""
    if isinstance(policy, DiagonalGaussian):
        return DiagonalGaussian(policy.mean.detach(), policy.log_std.detach())
    return policy_over(policy, Tensor.detach)


def rows_from_batch(
    batch: Mapping[str, Any], *, obs_dim: int, act_dim: int, discrete: bool, device: torch.device
) -> VMPORows:
    """Checked, valid rows of a batch as `VMPOAgent.update` takes it.

    Raises:
        ValueError: a key is missing, has the wrong shape, or no row is valid.
    """
    read = _Reader(batch, device)
    count = read("returns", torch.float32).shape[0]
    obs = read("obs", torch.float32, (count, obs_dim))
    returns = read("returns", torch.float32, (count,))
    advantages = read("advantages", torch.float32, (count,))
    actions, acted = _actions_from_batch(read, count, act_dim, discrete)
    importance = (
        read("importance_weights", torch.float32, (count,))
        if batch.get("importance_weights") is not None
        else None
    )
    valid = read("valid", torch.bool, (count,)) if batch.get("valid") is not None else None
    if count == 0 or (valid is not None and not bool(valid.any())):
        raise ValueError("VMPOAgent.update: valid marks no row of the batch as a transition")
    rows = VMPORows(obs, actions, returns, advantages, acted, importance)
    rows = rows if valid is None or bool(valid.all()) else rows.at(valid)
    if rows.log_importance is None:
        return rows
    if not bool((rows.log_importance > 0).all()):
        raise ValueError("VMPOAgent.update: importance_weights must be above 0 on valid rows")
    return replace(rows, log_importance=rows.log_importance.log())


def _actions_from_batch(
    read: _Reader, count: int, act_dim: int, discrete: bool
) -> tuple[Tensor, Distribution]:
    if not discrete:
        actions = read("actions", torch.float32, (count, act_dim))
        means = read("old_means", torch.float32, (count, act_dim))
        log_stds = read("old_log_stds", torch.float32, (count, act_dim), (1, act_dim))
        return actions, DiagonalGaussian(means, log_stds.expand(count, act_dim))
    actions = read("actions", torch.int64, (count,))
    if bool(((actions < 0) | (actions >= act_dim)).any()):
        raise ValueError(
            f"VMPOAgent.update: actions must be 0 to {act_dim - 1}, got {int(actions.min())} to "
            f"{int(actions.max())}"
        )
    return actions, Categorical(read("old_logits", torch.float32, (count, act_dim)))


class _Reader:
    """Reads tensors out of a batch and says in one sentence what is wrong with one."""

    def __init__(self, batch: Mapping[str, Any], device: torch.device) -> None:
        self.batch = batch
        self.device = device

    def __call__(self, name: str, dtype: torch.dtype, *shapes: tuple[int, ...]) -> Tensor:
        if name not in self.batch:
            raise ValueError(
                f"VMPOAgent.update: the batch has no {name!r}; it has {', '.join(sorted(self.batch))}"
            )
        value = self.batch[name]
        tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value).to(
            self.device, dtype
        )
        if shapes and tuple(tensor.shape) not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"VMPOAgent.update: {name} must have shape {expected}, got {list(tensor.shape)}")
        return tensor
