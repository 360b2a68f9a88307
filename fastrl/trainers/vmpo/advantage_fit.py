"""The fit of direct advantage estimation: Â and V together, on a rollout of whole environments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastrl.losses.dae import advantage_scale, centred_advantages, dae_loss
from fastrl.trainers.vmpo.batch import Segments
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.networks import ActorCritic, AdvantageNetwork


def fit_advantages(
    policy: ActorCritic,
    network: AdvantageNetwork,
    segments: Segments,
    config: VMPOConfig,
    step: Callable[[Tensor], dict[str, Tensor]],
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Fit Â and V by `fastrl.losses.dae.dae_loss`, `dae_epochs` times, and evaluate Â afterwards.

    Minibatches without a transition are passed over: their gradient is 0, but the optimiser's momentum would
    move the networks.

    Args:
        policy: V, and the statistics of observations; π is not used.
        network: f, of which Â is made.
        segments: the rollout.
        config: `dae_epochs`, `dae_minibatches`, `dae_lambda`, `gamma`, `normalize_advantages`.
        step: one gradient step of V and f on a loss; returns its metrics, 0-d.

    Returns:
        (Â [T, N], over sqrt(mean_s E_π Â²) with `normalize_advantages`; what V(s_t) is fitted to with this Â,
        [T, N]; metrics: those of the steps on average, `dae/loss_after`, and that square root as
        `dae/advantage_std`).
    """
    steps = []
    for _ in range(config.dae_epochs):
        for part in segments.minibatches(config.dae_minibatches):
            if bool(part.valid.any()):
                steps.append(step(_loss(policy, network, part, config)[0]))
    with torch.no_grad():
        loss, targets, outputs = _loss(policy, network, segments, config)
        advantages = centred_advantages(outputs, segments.acted, segments.actions)
        scale = advantage_scale(outputs, segments.acted, segments.valid)
    if config.normalize_advantages:  # their mean is 0 under the policy in each state as it is
        advantages = advantages / scale
    names = steps[0] if steps else ()
    metrics = {name: torch.stack([metrics[name] for metrics in steps]).mean() for name in names}
    return advantages, targets, metrics | {"dae/loss_after": loss, "dae/advantage_std": scale}


def _loss(
    policy: ActorCritic, network: AdvantageNetwork, segments: Segments, config: VMPOConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss 0-d; what V(s_t) is fitted to [T, N]; f, [T, N, A] or [T, N, A, 2])."""
    rows, sizes = segments.obs.flatten(0, 1), segments.rewards.shape
    outputs = network(policy.obs_normalizer(rows)).unflatten(0, sizes)
    loss, targets = dae_loss(
        centred_advantages(outputs, segments.acted, segments.actions),
        policy.get_value(rows).view(sizes),
        segments.rewards,
        segments.values,
        segments.terminated,
        segments.truncated,
        gamma=config.gamma,
        dae_lambda=config.dae_lambda,
        valid=segments.valid,
    )
    return loss, targets, outputs
