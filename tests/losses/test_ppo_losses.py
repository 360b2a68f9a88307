import math

import pytest
import torch

from fastrl.losses.ppo import approximate_kl, clipped_surrogate, clipped_value_loss, ppo_loss
from fastrl.losses.value import standardize


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.4, False),  # clipped at 1.2
        (0.5, 2.0, -1.0, True),  # worse than clipped: the gradient stays
        (0.5, -2.0, 1.6, False),  # clipped at 0.8
        (1.5, -2.0, 3.0, True),
    ],
)
def test_the_surrogate_by_hand(ratio, advantage, loss, moves):
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    found = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2)
    assert found.item() == pytest.approx(loss)
    found.backward()
    assert bool(log_ratio.grad) is moves


def test_every_branch_is_clipped_for_itself():
    log_ratio = torch.tensor([[math.log(1.5), 0.0]])
    assert clipped_surrogate(log_ratio, torch.tensor([[1.0]]), 0.2).tolist() == [pytest.approx([-1.2, -1.0])]


@pytest.mark.parametrize(
    ("value", "clip", "loss"),
    [(1.0, None, 0.5 * 9), (1.0, 0.2, 0.5 * 3.8**2), (4.5, 0.2, 0.5 * 3.8**2), (-1.0, 0.2, 0.5 * 25)],
)
def test_the_value_loss_by_hand(value, clip, loss):
    """V_old = 0, G = 4: moving towards the return counts up to 0.2 only, moving away in full."""
    found = clipped_value_loss(torch.tensor([value]), torch.tensor([4.0]), torch.tensor([0.0]), clip)
    assert found.item() == pytest.approx(loss)


def test_the_approximate_kl_is_exact_on_average_and_never_negative():
    old, new = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    log_ratio = new.log() - old.log()
    kl = (old * (old.log() - new.log())).sum()
    torch.testing.assert_close((old * approximate_kl(log_ratio)).sum(), kl)
    assert (approximate_kl(log_ratio) >= 0).all()


def test_standardised_advantages():
    torch.testing.assert_close(standardize(torch.tensor([1.0, 3.0])), torch.tensor([-1.0, 1.0]))
    assert standardize(torch.tensor([5.0])).item() == 5.0


def test_the_gradient_of_the_surrogate_is_that_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    log_ratio = (0.5 * torch.randn(200, 3, generator=generator)).requires_grad_()
    advantages, upstream = torch.randn(200, 1, generator=generator), torch.randn(200, 3, generator=generator)
    ratio = log_ratio.exp()
    formula = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2))
    found = clipped_surrogate(log_ratio, advantages, 0.2)
    torch.testing.assert_close(found, formula)
    torch.testing.assert_close(
        torch.autograd.grad(found, log_ratio, upstream), torch.autograd.grad(formula, log_ratio, upstream)
    )


def test_the_gradient_of_a_ratio_that_is_broadcast_is_summed():
    log_ratio = torch.zeros(3, requires_grad=True)
    clipped_surrogate(log_ratio, torch.ones(5, 3), 0.2).sum().backward()
    assert log_ratio.grad.tolist() == [-5.0, -5.0, -5.0]


def test_a_second_gradient_of_the_surrogate_is_an_error():
    log_ratio = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        clipped_surrogate(log_ratio, torch.ones(3), 0.2).sum(), log_ratio, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def row_of(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def whole(**changes):
    """Ratios 1.5 and 1, advantages 2 and −1, values 1 and 4, returns 4 and 4, entropies 0.4 and 0.6."""
    arguments = {
        "log_probs": row_of(math.log(0.3), math.log(0.5)),
        "old_log_probs": row_of(math.log(0.2), math.log(0.5)),
        "advantages": row_of(2.0, -1.0),
        "values": row_of(1.0, 4.0),
        "returns": row_of(4.0, 4.0),
        "entropy": row_of(0.4, 0.6),
        "clip_coef": 0.2,
        "vf_coef": 0.5,
        "ent_coef": 0.01,
    }
    loss, metrics = ppo_loss(**arguments | changes)
    return loss.item(), {name: value.item() for name, value in metrics.items()}


def test_the_whole_loss_by_hand():
    loss, metrics = whole()
    policy, value, entropy = (-2.4 + 1.0) / 2, 0.5 * (9.0 + 0.0) / 2, 0.5
    assert loss == pytest.approx(policy + 0.5 * value - 0.01 * entropy, abs=1e-14)
    assert metrics == pytest.approx(
        {
            "loss/total": loss,
            "loss/policy": policy,
            "loss/value": value,
            "train/entropy": entropy,
            "train/approx_kl": (1.5 - 1.0 - math.log(1.5)) / 2,
            "train/clip_fraction": 0.5,
        },
        abs=1e-14,
    )


def test_values_that_may_not_move_far():
    """V_old = 0 and 4: the first may count as 0.2 at most, the second has not moved."""
    assert whole(old_values=row_of(0.0, 4.0))[1]["loss/value"] == pytest.approx(0.5 * 3.8**2 / 2, abs=1e-14)


def test_what_is_not_asked_for_is_left_out():
    loss, metrics = whole(values=None, returns=None, entropy=None, ent_coef=0.0, diagnostics=False)
    assert loss == pytest.approx(-0.7, abs=1e-14)
    assert metrics == {"loss/policy": loss, "loss/total": loss}


def test_each_branch_has_a_ratio_of_its_own():
    """Of one row: the ratios 1.5 and 1 under advantage 2, then −1."""
    branches = {
        "log_probs": row_of(math.log(1.5), 0.0)[None].repeat(2, 1),
        "old_log_probs": torch.zeros(2, 2),
    }
    loss, metrics = whole(**branches)
    assert metrics["loss/policy"] == pytest.approx((-2.4 - 2.0 + 1.5 + 1.0) / 4, abs=1e-14)
    assert metrics["train/clip_fraction"] == 0.5
    one_branch = {name: value.unsqueeze(-1) for name, value in both_log_probs().items()}
    assert whole(**one_branch) == whole()


def both_log_probs():
    return {
        "log_probs": row_of(math.log(0.3), math.log(0.5)),
        "old_log_probs": row_of(math.log(0.2), math.log(0.5)),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"advantages": torch.ones(2, 1)},
        {"advantages": torch.ones(3)},
        {"old_log_probs": torch.zeros(2, 1)},
        {"returns": torch.zeros(2, 1)},
    ],
)
def test_what_would_be_broadcast_is_refused(changes):
    with pytest.raises(ValueError, match=r"ppo_loss|clipped_value_loss"):
        whole(**changes)


def test_the_gradient_of_the_whole_loss():
    log_probs, values = (
        tensor.requires_grad_() for tensor in (row_of(math.log(0.3), math.log(0.5)), row_of(1, 4))
    )
    rest = (row_of(math.log(0.2), math.log(0.5)), row_of(2.0, -1.0))
    loss, metrics = ppo_loss(
        log_probs, *rest, values, row_of(4.0, 4.0), -log_probs, clip_coef=0.2, vf_coef=0.5, ent_coef=0.01
    )
    loss.backward()
    # the first ratio is clipped; the entropy is −log π here
    torch.testing.assert_close(log_probs.grad, row_of(0.005, 0.5 + 0.005))
    torch.testing.assert_close(values.grad, row_of(0.5 * (1.0 - 4.0) / 2, 0.0))
    assert not any(value.requires_grad for value in metrics.values())
