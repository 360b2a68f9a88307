"""SAC's losses against sums written out in float64."""

import pytest
import torch

from fastrl.losses.multiplier import Multiplier
from fastrl.losses.sac import sac_policy_loss, soft_targets
from fastrl.losses.value import critic_loss

ROWS = 7


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_targets_add_the_entropy_and_end_where_the_episode_terminates():
    rewards, next_q, next_logp = (numbers(ROWS, seed=seed) for seed in range(3))
    terminated = torch.tensor([True, False] * 3 + [False])
    found = soft_targets(rewards, terminated, next_q, next_logp, torch.tensor(0.3), 0.9)
    for row in range(ROWS):
        following = 0.0 if terminated[row] else 0.9 * (next_q[row] - 0.3 * next_logp[row]).item()
        assert found[row].item() == pytest.approx(rewards[row].item() + following)


def test_targets_are_constants_and_take_nothing_of_a_terminated_row_s_future():
    alpha = torch.tensor(0.5, requires_grad=True)
    next_q = torch.full((2,), float("inf"), requires_grad=True)
    zeros = torch.zeros(2)
    found = soft_targets(zeros, torch.tensor([True, True]), next_q, zeros, alpha, 0.9)
    assert not found.requires_grad and found.tolist() == [0.0, 0.0]


def test_the_policy_s_loss_and_its_gradient():
    log_probs, q_values = numbers(ROWS).requires_grad_(), numbers(ROWS, seed=1).requires_grad_()
    alpha = torch.tensor(0.2, requires_grad=True)
    loss = sac_policy_loss(log_probs, q_values, alpha)
    assert loss.item() == pytest.approx(
        sum(0.2 * p - q for p, q in zip(log_probs.tolist(), q_values.tolist(), strict=True)) / ROWS, rel=1e-6
    )
    loss.backward()
    torch.testing.assert_close(log_probs.grad, torch.full_like(log_probs, 0.2 / ROWS), rtol=1e-6, atol=0)
    torch.testing.assert_close(q_values.grad, torch.full_like(q_values, -1.0 / ROWS))
    assert alpha.grad is None


def test_the_critics_losses_add_up_and_rows_may_be_weighted():
    first, second, targets = (numbers(ROWS, seed=seed) for seed in range(3))
    expected = 0.5 * ((first - targets) ** 2).mean() + 0.5 * ((second - targets) ** 2).mean()
    torch.testing.assert_close(critic_loss([first, second], targets), expected)
    weights = torch.zeros(ROWS, dtype=torch.float64)
    weights[:2] = 0.5
    torch.testing.assert_close(critic_loss([first], targets, weights), critic_loss([first[:2]], targets[:2]))


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (-1.0, False)])
def test_the_temperature_rises_where_the_entropy_is_below_its_target(entropy, rises):
    """Target −2 nats: the multiplier's bound on mean log π is 2."""
    alpha = Multiplier(0.5, 2.0)
    optimizer = torch.optim.Adam(alpha.parameters(), lr=0.01)
    alpha.loss(torch.tensor(-entropy)).backward()
    optimizer.step()
    assert (alpha().item() > 0.5) == rises
