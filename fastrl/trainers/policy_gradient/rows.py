"""What is learned from: transitions, or whole environments, and minibatches of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Metrics = dict[str, Tensor]
Fields = TypeVar("Fields", bound="PolicyGradientRows | PolicyGradientSegments")


class PolicyGradientRows(NamedTuple):
    """M transitions; observations as the networks see them.

    Args:
        obs: [M, F].
        actions: [M] or [M, branches] int64, or [M, A].
        advantages: [M], normalised or not.
        returns: [M], what V is fitted to.
        values: [M], V when the rollout was made.
        acted: [M, ...], what the policy's network gave when it acted.
        old_log_probs: [M] in nats, of the actions under that policy.
    """

    obs: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    acted: Tensor
    old_log_probs: Tensor


class PolicyGradientSegments(NamedTuple):
    """T steps of each of E environments, environments first, so that a minibatch has whole ones.

    Args:
        obs: [E, T, F].
        actions: [E, T] or [E, T, branches] int64, or [E, T, A].
        acted: [E, T, ...], what the policy's network gave when it acted.
        rewards: [E, T].
        values: [E, T+1], V when the rollout was made.
        terminated, truncated, valid: [E, T] bool.
    """

    obs: Tensor
    actions: Tensor
    acted: Tensor
    rewards: Tensor
    values: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor


def minibatches(rows: Fields, count: int) -> Iterator[Fields]:
    """The rows in random order, in groups whose sizes differ by at most one.

    At most one group for each row; a single group is the rows as they are.
    """
    total = rows.obs.shape[0]
    count = min(count, total)
    if count == 1:
        yield rows
        return
    order = torch.randperm(total, device=rows.obs.device)
    # rows are put in order once, so that every minibatch is a view
    ordered = [field.index_select(0, order) for field in rows]
    for number in range(count):
        here = slice(total * number // count, total * (number + 1) // count)
        yield type(rows)(*(field[here] for field in ordered))


def means_of(steps: list[Metrics]) -> Metrics:
    """Of each metric of the last step the mean over the steps that have it."""
    names = steps[-1] if steps else {}
    return {name: torch.stack([step[name] for step in steps if name in step]).mean() for name in names}
