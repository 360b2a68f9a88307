"""The losses of MPO as functions of tensors.

    w_s = exp(Q'(s, a_s)/η) / Σ exp(Q'(s, a)/η)                             E-step at each state, `e_step`
    L_η = η (ε + mean_B log mean_S exp(Q'(s, a)/η))                         temperature
    H   = −Σ_S w [log N(a; μ, σ') + log N(a; μ', σ)]                        `decoupled_gaussian_loss`
    L   = mean_B H + Σ_k sg(α_k) mean_B KL_k(π' ‖ π)                        M-step, `mpo_loss`
    L_α = Σ_k α_k (ε_k − sg(mean_B KL_k))                                   multipliers
    L_Q = mean_B ½ (Q(s, a) − G)²                                           `fastrl.losses.value.critic_loss`

Q' and π' are the target networks, a_1 … a_S were drawn from π', and G are targets by `fastrl.ops.retrace`.
Tensors over actions are [B, S] with S samples, or [B, A] with all A actions of a discrete policy.

Reference: Abdolmaleki et al. 2018a, "Maximum a Posteriori Policy Optimisation"; 2018b, "Relative Entropy
    Regularized Policy Iteration".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fastrl.losses.multiplier import Multiplier


def sample_weights(q_values: Tensor, temperature: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """E-step at each state: w_s = exp(q_s/η) / Σ exp(q/η), constant to autograd.

    The samples are those of the old policy.

    Args:
        q_values: [B, S].
        temperature: η > 0, a 0-d tensor.
        log_prior: log π_old [B, A] where all actions are there instead of samples: then w_a ∝ π_old(a)
            exp(q_a/η).

    Returns:
        Weights [B, S] that sum to 1 at each state.

    Reference: Abdolmaleki et al. 2018a, "Maximum a Posteriori Policy Optimisation", section 4.1.
    """
    scaled = q_values / temperature.detach()
    return torch.softmax(scaled if log_prior is None else scaled + log_prior, dim=1).detach()


def sample_temperature_loss(
    q_values: Tensor,
    temperature: Tensor,
    epsilon: float,
    log_prior: Tensor | None = None,
    row_weights: Tensor | None = None,
) -> Tensor:
    """L_η = η (ε + mean_B log mean_S exp(q/η)), the dual of the E-step's KL bound, to be minimised over η.

    Args:
        q_values: [B, S], constants.
        temperature: η > 0, a 0-d tensor with gradient.
        epsilon: ε, bound on the mean KL between the weights and the old policy, in nats.
        log_prior: as in `sample_weights`; None is uniform over the S samples.
        row_weights: [B], what each state counts, summing to 1; None: all alike.

    Reference: Abdolmaleki et al. 2018a, eq. 9.
    """
    q_values = q_values.detach()
    largest = q_values.amax(1, keepdim=True)
    shifted = (q_values - largest) / temperature
    shifted = shifted - math.log(q_values.shape[1]) if log_prior is None else shifted + log_prior
    log_means = torch.logsumexp(shifted, dim=1)
    if row_weights is None:
        return temperature * (epsilon + log_means.mean()) + largest.mean()
    return temperature * (epsilon + (row_weights * log_means).sum()) + (row_weights * largest[:, 0]).sum()


def e_step(
    q_values: Tensor,
    temperature: Multiplier,
    row_weights: Tensor,
    log_prior: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The weights of all actions and the loss of the temperature.

    See `sample_weights` and `sample_temperature_loss`.

    Args:
        q_values: what the weights improve, [B, S], constants.
        temperature: η with its bound ε.
        row_weights: [B], what each state counts, summing to 1.
        log_prior: log π_old [B, A] where all actions are there instead of samples.

    Returns:
        (w [B, S], L_η, 0-d).
    """
    eta = temperature.value
    weights = sample_weights(q_values, eta, log_prior)
    loss = sample_temperature_loss(q_values, eta, temperature.bound, log_prior, row_weights)
    return weights, loss


def decoupled_gaussian_loss(
    weights: Tensor, actions: Tensor, mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor
) -> Tensor:
    """−Σ_S w [log N(a; μ, σ_old) + log N(a; μ_old, σ)] at each state.

    The mean is fitted at the old deviation, and the deviation at the old mean.

    Weighted first and second moments of the actions are all of the samples that the gradient needs, so
    autograd sees [B, A] only.

    Args:
        weights: [B, S], constants; they need not sum to 1.
        actions: [B, S, A].
        mean, log_std: [B, A], what is learned.
        old_mean, old_log_std: [B, A], constants.

    Returns:
        [B], up to the constants of the densities.

    Reference: Abdolmaleki et al. 2018b, "Relative Entropy Regularized Policy Iteration", section 4.2.
    """
    with torch.no_grad():
        total = weights.sum(1, keepdim=True)
        offsets = actions - old_mean.unsqueeze(
            1
        )  # moments about the old mean: far from the origin nothing cancels
        first = torch.bmm(weights.unsqueeze(1), offsets).squeeze(1)
        second = torch.bmm(weights.unsqueeze(1), offsets.square()).squeeze(1)
    shift = mean - old_mean
    of_mean = 0.5 * (total * shift.square() - 2.0 * shift * first + second) * torch.exp(-2.0 * old_log_std)
    of_std = 0.5 * second * torch.exp(-2.0 * log_std) + total * log_std
    return (of_mean + of_std).sum(1)


def gaussian_kl_parts(
    mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(old ‖ new) in nats by mean and by deviation, for each action dimension, [B, A] each.

    The mean's part is at the old deviation, the deviation's at the old mean.

    Reference: Abdolmaleki et al. 2018b, section 4.2.
    """
    kl_mean = 0.5 * ((mean - old_mean) * torch.exp(-old_log_std)).square()
    twice = 2.0 * (old_log_std - log_std)
    # ½ e^x − ½ x − ½ with x = log σ²_old/σ² as it stands would lose 4 % of a KL of 1e-7, and all of one of
    # 1e-8
    return kl_mean, 0.5 * (torch.expm1(twice) - twice)


def mpo_loss(
    cross_entropy: Tensor,
    kls: Mapping[str, Tensor],
    alphas: Mapping[str, Multiplier],
    row_weights: Tensor,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The M-step's losses of the policy and of its KL multipliers.

    L = Σ_B b H_B + Σ_k sg(α_k) Σ_B b KL_k(π_old ‖ π),   L_α = Σ_k α_k (ε_k − sg(Σ_B b KL_k))

    Args:
        cross_entropy: H [B], −Σ_S w log π(a_s|s) with gradient; `decoupled_gaussian_loss` for Gaussians.
        kls: the parts of KL(π_old ‖ π) by name, in nats, with gradient: [B], or [B, A] by action dimension.
        alphas: α_k with its bound ε_k for each part, by the same names; of shape [A] each dimension of a part
            has its own, else its dimensions are summed.
        row_weights: b [B], what each state counts, summing to 1.

    Returns:
        (L, 0-d; L_α, 0-d; metrics).

    Reference: Abdolmaleki et al. 2018a, eq. 10 to 12; 2018b, section 4.2.
    """
    policy_loss = (row_weights * cross_entropy).sum()
    mean_kls = {name: _mean_kl(kl, row_weights) for name, kl in kls.items()}
    bounded = {name: kl if alphas[name].value.dim() else kl.sum() for name, kl in mean_kls.items()}
    penalty = torch.stack([alphas[name].penalty(kl) for name, kl in bounded.items()]).sum()
    alpha_loss = torch.stack([alphas[name].loss(kl) for name, kl in bounded.items()]).sum()
    metrics = {
        "loss/policy": policy_loss.detach(),
        "loss/kl": penalty.detach(),
        "loss/alpha": alpha_loss.detach(),
        "train/approx_kl": torch.stack([kl.detach().sum() for kl in mean_kls.values()]).sum(),
    }
    for name, kl in bounded.items():
        mean = kl.detach().mean()  # over the dimensions that have a bound of their own
        metrics |= {f"kl/{name}": mean, f"mpo/kl_{name}_rel": mean / alphas[name].bound}
    return policy_loss + penalty, alpha_loss, metrics


def _mean_kl(kl: Tensor, row_weights: Tensor) -> Tensor:
    """The mean over states of [B] or [B, A]: 0-d or [A]."""
    return (row_weights * kl).sum() if kl.dim() == 1 else (row_weights.unsqueeze(1) * kl).sum(0)


def weights_of_valid(valid: Tensor) -> Tensor:
    """[T, B] flags as weights [T·B] that sum to 1 over the valid rows."""
    flags = valid.flatten().float()
    return flags / flags.sum()


def out_of_bounds_cost(actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """−‖a − clip(a)‖₂ of actions [..., A]: what the action penalty improves, [...].

    Reference: Hoffman et al. 2020, "Acme" (the penalty in its MPO agent), after Huang, Abdolmaleki et al.
        2020, on multi-objective MPO.
    """
    return -(actions - torch.maximum(torch.minimum(actions, high), low)).norm(dim=-1)
