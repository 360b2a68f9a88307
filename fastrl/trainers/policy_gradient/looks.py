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
        both: observations [M, ...] to V [M], None where it is not learned with the policy, and the parameters
            of π, with gradient.
        policy: observations [M, ...] to π, without gradient.
        distribution: from parameters to π.
    """

    def __init__(
        self,
        rows: PolicyGradientRows,
        both: Callable[[Tensor], tuple[Tensor | None, Tensor]],
        policy: Callable[[Tensor], Policy],
        distribution: Callable[[Tensor], Policy],
    ) -> None:
        self.rows, self.both, self.policy, self.distribution = rows, both, policy, distribution

    def minibatches(self, count: int) -> Iterator[tuple[PolicyGradientRows, Look]]:
        """See `Looks`."""
        for part in minibatches(self.rows, count):
            yield part, lambda part=part: self._look(part)  # type: ignore[misc]

    def _look(self, part: PolicyGradientRows) -> tuple[Policy, Tensor | None]:
        values, parameters = self.both(part.obs)
        return self.distribution(parameters), values

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
