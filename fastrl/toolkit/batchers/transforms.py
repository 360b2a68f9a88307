"""Transforms of states and rewards between environments and models, with statistics shared by all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from fastrl.data.rollout import Rollout
from fastrl.errors import SettingError
from fastrl.nn.normalizer import RewardScaler, RunningNormalizer
from fastrl.runs.state_check import Checked, StateError, in_words
from fastrl.toolkit.batchers.batch import Batch


class Transform:
    """A transform that does nothing; subclasses change what they are about.

    Attributes:
        remembers: whether a state depends on earlier ones of its episode. Then the last four methods are
            called too, by `StateView`.
        scales_states, scales_rewards: whether large ones become small; otherwise those of the first steps are
            warned of.
    """

    remembers: ClassVar[bool] = False
    scales_states: ClassVar[bool] = False
    scales_rewards: ClassVar[bool] = False

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
        """Count a rollout, once, after it was transformed.

        `states` [T+1, E, ...] and rewards are those that this transform got.
        """

    def state_dict(self) -> dict[str, Any]:
        """What must be kept."""
        return {}

    def state_outline(self, num_envs: int) -> dict[str, Any]:
        """What a saved state must look like (see `fastrl.runs.state_check`); by default like the present."""
        return self.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""

    def next_state(self, state: Tensor, begins: Tensor | None, held: Tensor | None) -> Tensor:
        """States [E, ...] of the next row, which is remembered.

        Args:
            state: as the transform before gives them.
            begins: [E], where an episode begins; None: everywhere.
            held: [E], environments that were not stepped: their state is the one before.
        """
        return self.transform_state(state)

    def rollout_states(self, states: Tensor, begins: Tensor, held: Tensor) -> Tensor:
        """States of all rows [T+1, E, ...] since `mark`; what is remembered does not move.

        `begins` and `held` [T+1, E] are as above.
        """
        return self.transform_state(states)

    def mark(self) -> None:
        """The next row is the first one of a rollout."""

    def for_other_envs(self) -> Self:
        """The same transform, with the same statistics, that remembers nothing yet."""
        return self


class StateRunNorm(Transform):
    """(s − mean) / std, clipped, by the statistics of the batches before; none before the first.

    Args:
        clip_range: bound in standard deviations; None for none.
    """

    scales_states = True

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
    """Rewards over the running deviation of rewards, not of returns, clipped; episode statistics stay raw.

    Args:
        clip_range: bound of the scaled reward; None for none.
    """

    scales_rewards = True

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
    """Rewards over the running deviation of the discounted return, clipped; episode statistics stay raw.

    Args:
        num_envs: environments whose returns are followed.
        gamma: discount per step.
        clip_range: bound of the scaled reward; None for none.
    """

    scales_rewards = True

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

    scales_rewards = True

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = factor

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": batch.reward * self.factor})


class RewardClipper(Transform):
    """Rewards within ±`bound`.

    Args:
        bound: largest absolute reward.
    """

    scales_rewards = True

    def __init__(self, bound: float = 1.0) -> None:
        self.bound = bound

    def transform_batch(self, batch: Batch) -> Batch:
        return Batch(batch | {"reward": batch.reward.clamp(-self.bound, self.bound)})


class Frame2Float(Transform):
    """Pixels 0 to 255 as numbers from 0 to 1.

    Args:
        largest: the number that becomes 1; that of the symbols, where states are grids of symbols.
    """

    def __init__(self, largest: float = 255.0) -> None:
        self.largest = largest

    def transform_state(self, state: Tensor) -> Tensor:
        return state.to(torch.float32) / self.largest


class StackStates(Transform):
    """The last n states of the episode side by side, the oldest first.

    A state that begins an episode stands in for those before it.

    Args:
        n: how many, the present one among them.
        dim: along which dimension of states [E, ...] they are put together, counted with that of the
            environments.

    Raises:
        SettingError: n or dim is below 1, or states have fewer dimensions.
    """

    remembers = True

    def __init__(self, n: int, dim: int = 1) -> None:
        for name, value in (("n", n), ("dim", dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(
                    f"{name} of StackStates must be a whole number of at least 1, got {value!r}"
                )
        self.n, self.dim = n, dim
        self._recent: Tensor | None = None  # [E, n, ...], the rows looked at last
        self._before: Tensor | None = None  # the same before the rollout's first row
        self._shape: tuple[int, ...] = ()  # of a state

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.dim > len(shape):
            raise SettingError(
                f"dim of StackStates must be at most {len(shape)}, since states have shape {list(shape)}, "
                f"got {self.dim}"
            )
        self._shape = shape
        return (*shape[: self.dim - 1], self.n * shape[self.dim - 1], *shape[self.dim :])

    def transform_state(self, state: Tensor) -> Tensor:
        """States [E, ...] of which nothing is known: each is taken for the first one of its episode."""
        return self._side_by_side(self._alone(state))

    def next_state(self, state: Tensor, begins: Tensor | None, held: Tensor | None) -> Tensor:
        self._recent = self._pushed(self._recent, state, begins, held)
        return self._side_by_side(self._recent)

    def rollout_states(self, states: Tensor, begins: Tensor, held: Tensor) -> Tensor:
        recent, rows = self._before, []
        for row in zip(states, begins, held, strict=True):
            recent = self._pushed(recent, *row)
            rows.append(self._side_by_side(recent))
        return torch.stack(rows)

    def mark(self) -> None:
        self._before = self._recent

    def for_other_envs(self) -> Self:
        return type(self)(self.n, self.dim)

    def state_dict(self) -> dict[str, Any]:
        return {"recent": self._recent, "before": self._before}

    def state_outline(self, num_envs: int) -> dict[str, Any]:
        shape = (num_envs, self.n, *self._shape)

        def check(found: Any, where: str) -> None:
            if found is not None and not (isinstance(found, Tensor) and tuple(found.shape) == shape):
                raise StateError(
                    f"{where} must be None or a tensor of shape {list(shape)}, it is {in_words(found)}"
                )

        return {"recent": Checked(check), "before": Checked(check)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._recent, self._before = state["recent"], state["before"]

    def _alone(self, state: Tensor) -> Tensor:
        """[E, n, ...], n times the state."""
        return state.unsqueeze(1).expand(-1, self.n, *state.shape[1:])

    def _pushed(
        self, recent: Tensor | None, state: Tensor, begins: Tensor | None, held: Tensor | None
    ) -> Tensor:
        alone = self._alone(state)
        if recent is None or begins is None:
            return alone
        recent = recent.to(state.device)  # a checkpoint is loaded to the CPU
        pushed = torch.cat((recent[:, 1:], state.unsqueeze(1)), dim=1)
        if held is not None and bool(held.any()):
            pushed = torch.where(_as_column(held, pushed), recent, pushed)
        return torch.where(_as_column(begins, pushed), alone, pushed) if bool(begins.any()) else pushed

    def _side_by_side(self, recent: Tensor) -> Tensor:
        return recent.movedim(1, self.dim).flatten(self.dim, self.dim + 1)


def atari_transforms(stack: int = 4) -> Sequence[Transform]:
    """Stacked frames from 0 to 1, and rewards of at most 1, for Atari games.

    They must give one frame at a time: `GymEnv(name, stack_num=1)`.

    Args:
        stack: frames of a state.
    """
    return [StackStates(stack), Frame2Float(), RewardClipper()]


def mujoco_transforms() -> Sequence[Transform]:
    """For MuJoCo tasks: normalised states, scaled rewards."""
    return [StateRunNorm(), RewardRunScaler()]


def _as_column(flags: Tensor, like: Tensor) -> Tensor:
    """Flags [E] as [E, 1, ...], to be spread over a tensor [E, ...]."""
    return flags.view(-1, *[1] * (like.dim() - 1))
