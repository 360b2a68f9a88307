"""Direct advantage estimation: Â and V are fitted to a rollout before the policy learns from it."""

from __future__ import annotations

import torch
from torch import Tensor

from fastrl.losses.dae import advantage_scale, centred_advantages, dae_loss
from fastrl.nn.sequence import Step
from fastrl.runs.optimizers import FlatOptimizer
from fastrl.trainers.policy_gradient.config import PolicyGradientConfig
from fastrl.trainers.policy_gradient.networks import Network, PolicyNetwork
from fastrl.trainers.policy_gradient.rows import Metrics, Segments, means_of, minibatches


def fit_advantages(
    policy: PolicyNetwork,
    value: Network,
    advantage: Network,
    optimizer: FlatOptimizer,
    segments: Segments,
    config: PolicyGradientConfig,
    place: dict[str, str],
) -> tuple[Tensor, Tensor, Metrics]:
    """`dae_epochs` passes over a rollout in minibatches of whole environments.

    See `fastrl.losses.dae.dae_loss`.

    Args:
        policy: tells what the outputs of the acting policy mean; it does not move.
        value, advantage: what is fitted.
        optimizer: of both.
        segments: the rollout; without a transition nothing is fitted, since momentum alone would move the
            networks.
        config: the settings of the run.
        place: `who` learns and `when`, for errors.

    Returns:
        (Â [E, T], 0 on rows that are no transition, over sqrt(mean_s E_π Â²) with `normalize_advantages`;
        what V is fitted to with this Â, [E, T]; metrics).
    """
    networks = (policy, value.prepared(), advantage.prepared())  # once for all minibatches
    steps: list[Metrics] = []
    for _ in range(config.dae_epochs if bool(segments.valid.any()) else 0):
        for part in minibatches(segments, config.dae_minibatches):
            loss = _loss(*networks, part, config)[0]
            steps.append({"loss/dae": loss.detach(), "grad/dae_norm": optimizer.step(loss, **place)})
    with torch.no_grad():
        loss, targets, advantages, deviation = _loss(*networks, segments, config)
    advantages = torch.where(segments.valid, advantages, 0.0)
    if config.normalize_advantages:
        advantages = advantages / deviation
    return advantages, targets, means_of(steps) | {"dae/loss_after": loss, "dae/advantage_std": deviation}


def _loss(
    policy: PolicyNetwork, value: Step, advantage: Step, segments: Segments, config: PolicyGradientConfig
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss 0-d; what V is fitted to [E, T]; Â [E, T]; its deviation under the policy 0-d)."""
    obs, sizes = segments.obs.flatten(0, 1), segments.rewards.shape
    acted = policy.distribution(segments.acted)
    values = value(obs).view(sizes)
    outputs = advantage(obs).unflatten(0, sizes)
    advantages = centred_advantages(outputs, acted, segments.actions)
    loss, targets = dae_loss(
        advantages,
        values,
        segments.rewards,
        segments.bootstrap,
        segments.terminated,
        segments.truncated,
        gamma=config.gamma,
        dae_lambda=config.dae_lambda,
        valid=segments.valid,
        environments_first=True,
    )
    return loss, targets, advantages, advantage_scale(outputs.detach(), acted, segments.valid)
