"""What MPO asks of target policy and critics at each state, and how a policy is fitted to the answer.

Three ways, by the kind of action:

- continuous ones: samples of π', whose weighted moments are fitted;
- discrete ones, and several branches with few whole actions: all of them, with log π' as a prior;
- several branches with many whole actions: samples of π', whose weighted counts are fitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from fastrl.losses.mpo import decoupled_gaussian_loss, gaussian_kl_parts
from fastrl.nn.action_heads import JointBranches, categorical, one_hot_branches, policy_parameters
from fastrl.nn.critics import Critic, DiscreteCritic, lowest
from fastrl.nn.distributions import Categorical, DiagonalGaussian


@dataclass(frozen=True, slots=True)
class Answer:
    """What π' and Q' say of R states.

    Args:
        values: [R], E_π' Q'.
        q_values: [R, S], of the E-step's actions.
        old: [R, …] each, what the E-step and the fit have to know of π' and of these actions; "log_prior"
            where they are all there are.
    """

    values: Tensor
    q_values: Tensor
    old: dict[str, Tensor]


class Improvement(ABC):
    """One of the ways."""

    @abstractmethod
    def ask(self, policy: Any, critics: Sequence[Any], obs: Tensor) -> Answer:
        """Policy π' at observations [R, obs_dim], and the target critics there."""

    @abstractmethod
    def fit(
        self, policy: Any, improved: Mapping[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(H [B], the parts of KL(π' ‖ π)) of `fastrl.losses.mpo.mpo_loss`.

        Args:
            policy: π, with gradient.
            improved: `Answer.old` of B states.
            weights: [B, S] of the E-step.
        """


class GaussianImprovement(Improvement):
    """Continuous actions by samples.

    Args:
        executed: raw actions as environments execute them.
        samples: of the E-step.
        drawn: of the expected value, at least as many.
        bfloat16: for the critics' products.
    """

    def __init__(
        self, executed: Callable[[Tensor], Tensor], samples: int, drawn: int, bfloat16: bool
    ) -> None:
        self.executed, self.samples, self.drawn, self.bfloat16 = executed, samples, drawn, bfloat16

    def ask(self, policy: DiagonalGaussian, critics: Sequence[Critic], obs: Tensor) -> Answer:
        """See `Improvement`; actions [R, S, A], as drawn, are among `old`."""
        noise = torch.randn(len(obs), self.drawn, policy.mean.shape[-1], device=obs.device)
        actions = policy.mean.unsqueeze(1) + policy.log_std.exp().unsqueeze(1) * noise
        executed = self.executed(actions)
        q_values = lowest([critic.of_samples(obs, executed, self.bfloat16) for critic in critics])
        here = slice(self.samples)  # the expected value may be over more than the E-step
        old = {"actions": actions[:, here], "old_mean": policy.mean, "old_log_std": policy.log_std}
        return Answer(q_values.mean(1), q_values[:, here], old)

    def fit(
        self, policy: DiagonalGaussian, improved: Mapping[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Improvement`."""
        new, old = (policy.mean, policy.log_std), (improved["old_mean"], improved["old_log_std"])
        cross_entropy = decoupled_gaussian_loss(weights, improved["actions"], *new, *old)
        return cross_entropy, dict(zip(("mean", "std"), gaussian_kl_parts(*new, *old), strict=True))


class ExactImprovement(Improvement):
    """All choices of a discrete action, or all whole actions of several branches.

    Args:
        nvec: choices of each branch; none: one choice.
    """

    def __init__(self, nvec: Sequence[int] = ()) -> None:
        self.nvec = tuple(nvec)

    def ask(
        self, policy: Categorical | JointBranches, critics: Sequence[DiscreteCritic], obs: Tensor
    ) -> Answer:
        """See `Improvement`."""
        q_values = lowest([critic.of_all(obs) for critic in critics])
        log_probs = policy.log_probs()
        old = {"log_prior": log_probs}
        if self.nvec:
            old["old_logits"] = policy_parameters(policy)
        return Answer((log_probs.exp() * q_values).sum(1), q_values, old)

    def fit(
        self, policy: Categorical | JointBranches, improved: Mapping[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Improvement`."""
        old: Any = categorical(improved["old_logits" if self.nvec else "log_prior"], self.nvec)
        return -(weights * policy.log_probs()).sum(1), {"mean": old.kl(policy)}


class SampledBranchesImprovement(Improvement):
    """Several branches by samples.

    Args:
        nvec: choices of each branch.
        samples, drawn, bfloat16: as for `GaussianImprovement`.
    """

    def __init__(self, nvec: Sequence[int], samples: int, drawn: int, bfloat16: bool) -> None:
        self.nvec, self.samples, self.drawn, self.bfloat16 = tuple(nvec), samples, drawn, bfloat16

    def ask(self, policy: JointBranches, critics: Sequence[Critic], obs: Tensor) -> Answer:
        """See `Improvement`; actions [R, S, branches] are among `old`."""
        actions = policy.samples(self.drawn)
        q_values = lowest([critic.of_samples(obs, actions, self.bfloat16) for critic in critics])
        here = slice(self.samples)
        old = {"actions": actions[:, here], "old_logits": policy_parameters(policy)}
        return Answer(q_values.mean(1), q_values[:, here], old)

    def fit(
        self, policy: JointBranches, improved: Mapping[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Improvement`."""
        taken = one_hot_branches(improved["actions"], self.nvec).to(weights.dtype)
        counts = torch.bmm(weights.unsqueeze(1), taken).squeeze(1)  # all that the gradient needs of samples
        old = cast(JointBranches, categorical(improved["old_logits"], self.nvec))
        return -(counts * policy.branch_log_probs()).sum(1), {"mean": old.kl(policy)}
