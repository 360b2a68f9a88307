"""What happens to states and rewards between the environments and the models. Statistics are shared by all environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrl.batchers.batch import Batch
from fastrl.data.rollout import Rollout
from fastrl.nn.normalizer import RewardScaler, RunningNormalizer


class Transform:
    """A transform that does nothing; subclasses change what they are about."""

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a state behind the transform."""
        return shape

    def transform_state(self, state: Tensor) -> Tensor:
        """States [..., *shape] as the models see them. Statistics do not move."""
        return state

    def transform_batch(self, batch: Batch) -> Batch:
        """A rollout's batch as the models see it; its states are transformed already."""
        return batch

    def count(self, states: Tensor, rollout: Rollout) -> None:
        """Count a rollout, once, after it has been transformed: `states` [T+1, E, ...] as this transform got them."""

    def state_dict(self) -> dict[str, Any]:
        """What must be kept."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""


class StateRunNorm(Transform):
    """(s − mean) / std, clipped, by the statistics of the batches before; none before the first.

    Args:
        clip_range: bound in standard deviations; None for none.
    """

    def __init__(self, clip_range: float | None = 5.0) -> None:
        self.clip_range = clip_range
        self.normalizer: RunningNormalizer | None = None

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.normalizer is None:
            self.normalizer = RunningNormalizer(shape, clip=self.clip_range)
        return shape

    def transform_state(self, state: Tensor) -> Tensor:
        assert self.normalizer is not None  # `state_shape` comes first
        return self.normalizer(state)

    def count(self, states: Tensor, rollout: Rollout) -> None:
        assert self.normalizer is not None
        self.normalizer.update(rollout.valid_rows(states))

    def state_dict(self) -> dict[str, Any]:
        return {} if self.normalizer is None else self.normalizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert self.normalizer is not None
        self.normalizer.load_state_dict(state)


class RewardRunScaler(Transform):
    """Rewards over the running standard deviation of rewards (not of returns), clipped; episode statistics stay raw.

    Args:
        clip_range: bound of the scaled reward; None for none.
    """

    def __init__(self, clip_range: float | None = 5.0) -> None:
        self.scaler = RunningNormalizer((), clip=clip_range)

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": self.scaler.scale(batch.reward)})

    def count(self, states: Tensor, rollout: Rollout) -> None:
        self.scaler.update(rollout.valid_rows(rollout.rewards))

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scaler.load_state_dict(state)


class ReturnRunScaler(Transform):
    """Rewards over the running standard deviation of the discounted return, clipped; episode statistics stay raw.

    Args:
        num_envs: environments whose returns are followed.
        gamma: discount per step.
        clip_range: bound of the scaled reward; None for none.
    """

    def __init__(self, num_envs: int, gamma: float = 0.99, clip_range: float | None = 10.0) -> None:
        self.scaler = RewardScaler(num_envs, gamma=gamma, clip=clip_range)

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": self.scaler(batch.reward)})

    def count(self, states: Tensor, rollout: Rollout) -> None:
        self.scaler.update(rollout.rewards, rollout.terminated | rollout.truncated, rollout.valid)

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scaler.load_state_dict(state)


class RewardConstScaler(Transform):
    """Rewards times a constant.

    Args:
        factor: the constant.
    """

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = factor

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": batch.reward * self.factor})


class RewardClipper(Transform):
    """Rewards within ±`bound`.

    Args:
        bound: largest absolute reward.
    """

    def __init__(self, bound: float = 1.0) -> None:
        self.bound = bound

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": batch.reward.clamp(-self.bound, self.bound)})


class Frame2Float(Transform):
    """Pixels 0 to 255 as numbers from 0 to 1."""

    def transform_state(self, state: Tensor) -> Tensor:
        return state.to(torch.float32) / 255.0


def mujoco_transforms() -> Sequence[Transform]:
    """For MuJoCo tasks: normalised states, scaled rewards."""
    return [StateRunNorm(), RewardRunScaler()]
