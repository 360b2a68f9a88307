"""Rows of a rollout with the present policy and value function on them: plain ones, and remembered ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from fastrl.memory.base import Reader
from fastrl.nn.action_heads import BranchedPolicy, Policy, whole_policy
from fastrl.trainers.policy_gradient.rows import PolicyGradientRows, minibatches

# evaluates π, and V [M] where it is learned too, with gradient
Look = Callable[[], tuple[Policy, Tensor | None]]


class Looks(Protocol):
    """The transitions of a rollout, to be evaluated in parts or as a whole."""

    def minibatches(self, count: int) -> Iterator[tuple[PolicyGradientRows, Look]]:
        """The rows in random order, in `count` groups of nearly the same size."""

    def whole(self) -> tuple[PolicyGradientRows, Policy]:
        """All rows, in some order, and π at them."""


class PlainLooks:
    """Rows whose observations are all that policy and value function see.

    Args:
        rows: the transitions.
        policy: observations [M, F] to π.
        value: observations [M, F] to V [M, 1]; None where it is not learned with the policy.
    """

    def __init__(
        self,
        rows: PolicyGradientRows,
        policy: Callable[[Tensor], Policy],
        value: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.rows, self.policy, self.value = rows, policy, value

    def minibatches(self, count: int) -> Iterator[tuple[PolicyGradientRows, Look]]:
        """See `Looks`."""
        for part in minibatches(self.rows, count):
            yield part, lambda part=part: self._look(part)  # type: ignore[misc]

    def _look(self, part: PolicyGradientRows) -> tuple[Policy, Tensor | None]:
        values = None if self.value is None else self.value(part.obs).flatten()
        return self.policy(part.obs), values

    def whole(self) -> tuple[PolicyGradientRows, Policy]:
        """See `Looks`."""
        return self.rows, self.policy(self.rows.obs)


class RememberedLooks:
    """Rows that policy and value function see under the memory of their episode's past.

    Args:
        rows: the transitions.
        reader: reads them with their memory.
    """

    def __init__(self, rows: PolicyGradientRows, reader: Reader) -> None:
        self.rows, self.reader = rows, reader

    def minibatches(self, count: int) -> Iterator[tuple[PolicyGradientRows, Look]]:
        """See `Looks`."""
        for part in self.reader.parts(count):
            yield self._at(part.rows), lambda read=part.read: _whole(*read())  # type: ignore[misc]

    def whole(self) -> tuple[PolicyGradientRows, Policy]:
        """See `Looks`."""
        (part,) = self.reader.parts(1, shuffled=False)
        return self._at(part.rows), whole_policy(part.read()[0])

    def _at(self, index: Tensor) -> PolicyGradientRows:
        return PolicyGradientRows(*(field[index] for field in self.rows))


def _whole(policy: BranchedPolicy, values: Tensor) -> tuple[Policy, Tensor]:
    return whole_policy(policy), values
