"""Masked policies against the same policies over what is allowed alone, choice by choice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastrl.nn.action_heads import Branches, JointBranches, legal_policy
from fastrl.nn.distributions import Categorical
from fastrl.nn.masks import mask_in, masked_logits

ROWS, CHOICES = 40, 6


@pytest.fixture(params=[torch.float32, torch.float64])
def case(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two policies, some of them far apart, and a mask that allows one choice at least."""
    generator = torch.Generator().manual_seed(3)
    old, new = (10.0 * torch.randn(ROWS, CHOICES, generator=generator, dtype=request.param) for _ in range(2))
    mask = torch.rand(ROWS, CHOICES, generator=generator) < 0.5
    mask[torch.arange(ROWS), torch.randint(CHOICES, (ROWS,), generator=generator)] = True
    mask[0] = torch.eye(CHOICES, dtype=torch.bool)[2]  # a single choice
    mask[1] = True
    return old, new, mask


def over_allowed(logits: Tensor, mask: Tensor) -> list[list[float]]:
    """Log-probabilities of what is allowed, row by row, in plain Python."""
    rows = []
    for row, allowed in zip(logits.tolist(), mask.tolist(), strict=True):
        kept = [value for value, ok in zip(row, allowed, strict=True) if ok]
        total = max(kept) + math.log(sum(math.exp(value - max(kept)) for value in kept))
        rows.append([value - total for value in kept])
    return rows


def test_probabilities_entropy_and_kl_are_those_over_what_is_allowed(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    old, new, mask = case
    policy, other = (Categorical(masked_logits(logits, mask)) for logits in (old, new))
    log_probs = policy.log_probs()
    assert (log_probs.exp()[~mask] == 0).all()
    ours, theirs = over_allowed(old, mask), over_allowed(new, mask)
    close = {"rtol": 1e-4, "atol": 1e-4} if old.dtype == torch.float32 else {}
    flat = torch.tensor([value for row in ours for value in row], dtype=old.dtype)
    torch.testing.assert_close(log_probs[mask], flat, **close)
    entropy = torch.tensor([-sum(math.exp(p) * p for p in row) for row in ours], dtype=old.dtype)
    torch.testing.assert_close(policy.entropy(), entropy, **close)
    pairs = zip(ours, theirs, strict=True)
    kl = [sum(math.exp(p) * (p - q) for p, q in zip(*rows, strict=True)) for rows in pairs]
    torch.testing.assert_close(policy.kl(other), torch.tensor(kl, dtype=old.dtype), **close)
    torch.testing.assert_close(policy.kl(policy), torch.zeros(ROWS, dtype=old.dtype), rtol=0, atol=0)
    assert mask.gather(1, policy.mode().unsqueeze(1)).all()


def test_nothing_forbidden_is_drawn(case: tuple[Tensor, Tensor, Tensor]) -> None:
    """However much the logits prefer it."""
    logits, _, mask = case
    policy = Categorical(masked_logits(logits + 100.0 * ~mask, mask).repeat(2_000, 1))
    torch.manual_seed(0)
    drawn = policy.sample().view(2_000, ROWS)
    counts = torch.stack([(drawn == choice).sum(0) for choice in range(CHOICES)], dim=1)
    assert (counts[~mask] == 0).all()
    expected = policy.log_probs()[:ROWS].exp()
    assert ((counts / 2_000 - expected).abs() < 0.06).all()


def test_gradients_are_finite_and_stay_away_from_what_is_forbidden(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    old, new, mask = case
    acted = Categorical(masked_logits(old, mask))
    actions = acted.mode()
    for of in (
        lambda policy: policy.entropy(),
        lambda policy: acted.kl(policy),
        lambda policy: policy.log_prob(actions),
        lambda policy: (policy.log_probs().exp() * policy.log_probs()).sum(-1),
    ):
        logits = new.clone().requires_grad_(True)
        value = of(Categorical(masked_logits(logits, mask)))
        value.sum().backward()
        assert value.isfinite().all() and logits.grad is not None
        assert logits.grad.isfinite().all() and (logits.grad[~mask] == 0).all()
        assert (logits.grad[1] != 0).any()


def test_log_probability_of_what_is_forbidden_is_finite() -> None:
    """As of an action in a row that resets an environment, whose mask is of something else."""
    policy = Categorical(masked_logits(torch.zeros(1, 3), torch.tensor([[True, False, True]])))
    assert policy.log_prob(torch.tensor([1])).isfinite().all()
    nothing = Categorical(masked_logits(torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, 3, dtype=torch.bool)))
    torch.testing.assert_close(nothing.log_probs().exp(), torch.full((1, 3), 1 / 3))


def test_branches_are_masked_each_by_its_part() -> None:
    nvec = (2, 3)
    obs = torch.tensor([[7.0, -7.0, 1.0, 0.0, 0.0, 1.0, 1.0], [7.0, 7.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    plain = Branches(tuple(Categorical(part) for part in logits.split(nvec, dim=-1)))
    policy = legal_policy(plain, obs, 5)
    assert isinstance(policy, Branches)
    joint = JointBranches(policy.choices)
    probs = joint.log_probs().exp()  # (0,0) (0,1) (0,2) (1,0) (1,1) (1,2)
    torch.testing.assert_close(probs.sum(1), torch.ones(2))
    allowed = torch.tensor([[0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]], dtype=torch.bool)
    assert ((probs > 0) == allowed).all()
    assert legal_policy(plain, obs, 0) is plain
    assert mask_in(obs, 5).tolist()[0] == [True, False, False, True, True]
