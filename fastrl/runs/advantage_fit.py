"""The fit of direct advantage estimation: Â and V together, on a rollout of whole environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from fastrl.losses.dae import ActingPolicy, advantage_scale, centred_advantages, dae_loss

Metrics = dict[str, Tensor]
S = TypeVar(
    "S", bound=Any
)  # a rollout: actions, rewards, values, terminated, truncated, valid; see `dae_loss`


class FitSettings(Protocol):
    """The settings of a run that the fit reads."""

    gamma: float
    dae_epochs: int
    dae_minibatches: int
    dae_lambda: float
    normalize_advantages: bool


def fit_advantages(
    evaluate: Callable[[S], tuple[Tensor, Tensor, ActingPolicy]],
    step: Callable[[Tensor], Metrics],
    segments: S,
    minibatches: Callable[[S, int], Iterator[S]],
    config: FitSettings,
    *,
    environments_first: bool = False,
) -> tuple[Tensor, Tensor, Metrics]:
    """`dae_epochs` passes over a rollout in minibatches of whole environments; then Â as it is.

    Minibatches without a transition are passed over: their gradient is 0, but the optimiser's momentum would
    move the networks.

    Args:
        evaluate: (f, see `fastrl.losses.dae.centred_advantages`; V(s_t) [T, N]; the policy that acted) of a
            rollout, with gradient.
        step: one gradient step on a loss; returns its metrics, 0-d.
        segments: the rollout.
        minibatches: its minibatches, so many, of whole environments.
        config: the settings of the run.
        environments_first: the rollout is [N, T], and so are the results.

    Returns:
        (Â [T, N], 0 on rows that are no transition, over sqrt(mean_s E_π Â²) with `normalize_advantages`;
        what V(s_t) is fitted to with this Â, [T, N]; metrics: those of the steps on average,
        `dae/loss_after`, and that square root as `dae/advantage_std`).
    """

    def loss_of(part: S) -> tuple[Tensor, Tensor, Tensor, Tensor, ActingPolicy]:
        outputs, values, acted = evaluate(part)
        advantages = centred_advantages(outputs, acted, part.actions)
        loss, targets = dae_loss(
            advantages,
            values,
            part.rewards,
            part.values,
            part.terminated,
            part.truncated,
            gamma=config.gamma,
            dae_lambda=config.dae_lambda,
            valid=part.valid,
            environments_first=environments_first,
        )
        return loss, targets, advantages, outputs, acted

    steps: list[Metrics] = []
    for _ in range(config.dae_epochs if bool(segments.valid.any()) else 0):
        for part in minibatches(segments, config.dae_minibatches):
            if bool(part.valid.any()):
                steps.append(step(loss_of(part)[0]))
    with torch.no_grad():
        loss, targets, advantages, outputs, acted = loss_of(segments)
        scale = advantage_scale(outputs, acted, segments.valid)
    advantages = torch.where(segments.valid, advantages, 0.0)
    if config.normalize_advantages:  # their mean is 0 under the policy in each state as it is
        advantages = advantages / scale
    names = steps[0] if steps else ()
    metrics = {name: torch.stack([one[name] for one in steps]).mean() for name in names}
    return advantages, targets, metrics | {"dae/loss_after": loss, "dae/advantage_std": scale}
