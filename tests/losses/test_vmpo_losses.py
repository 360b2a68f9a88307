"""V-MPO's losses against closed forms, numerical minima, and the paper's formulas in float64."""

import math

import pytest
import torch
from torch import distributions as td

from fastrl.losses.multiplier import Multiplier
from fastrl.losses.vmpo import e_step, e_step_weights, temperature_loss, top_fraction, vmpo_loss
from fastrl.nn.distributions import DiagonalGaussian

ROWS, ACT = 30, 3


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.5, 5), (11, 0.5, 5), (1, 0.5, 1), (100, 0.29, 29), (7, 1.0, 7), (3, 0.1, 1)],
)
def test_top_fraction_takes_exactly_k_rows_even_among_ties(count, fraction, expected):
    assert top_fraction(torch.zeros(count), fraction).numel() == expected
    advantages = torch.arange(count, dtype=torch.float32)
    assert sorted(top_fraction(advantages, fraction).tolist()) == list(range(count - expected, count))


def test_weights_are_the_softmax_of_advantages_over_temperature():
    advantages = torch.tensor([0.0, math.log(2.0), math.log(5.0)]) * 0.5
    weights = e_step_weights(advantages, torch.tensor(0.5))
    torch.testing.assert_close(weights, torch.tensor([1.0, 2.0, 5.0]) / 8.0)
    with_importance = e_step_weights(advantages, torch.tensor(0.5), torch.tensor([5.0, 2.5, 1.0]).log())
    torch.testing.assert_close(with_importance, torch.full((3,), 1 / 3))


def test_weights_and_temperature_loss_survive_extreme_advantages():
    advantages = torch.tensor([1e6, -1e6, 0.0])
    temperature = torch.tensor(1e-3, requires_grad=True)
    loss = temperature_loss(advantages, temperature, 0.1)
    loss.backward()
    assert math.isfinite(loss.item()) and math.isfinite(temperature.grad.item())
    assert e_step_weights(advantages, temperature).tolist() == [1.0, 0.0, 0.0]


def test_temperature_loss_by_hand():
    eta, epsilon = 2.0, 0.1
    advantages = torch.tensor([1.0, 3.0, -2.0])
    expected = eta * epsilon + eta * math.log(sum(math.exp(a / eta) for a in (1.0, 3.0, -2.0)) / 3)
    assert temperature_loss(advantages, torch.tensor(eta), epsilon).item() == pytest.approx(expected)


def test_the_minimum_of_the_temperature_loss_meets_the_bound():
    """At the minimising η the weights are exactly ε away from uniform: KL(ψ ‖ uniform) = ε."""
    torch.manual_seed(0)
    advantages, epsilon = torch.randn(500, dtype=torch.float64), 0.3
    log_eta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_eta], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )

    def closure():
        optimizer.zero_grad()
        loss = temperature_loss(advantages, log_eta.exp(), epsilon)
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = e_step_weights(advantages, log_eta.exp())
    kl = (weights * (weights * 500).log()).sum().item()
    assert kl == pytest.approx(epsilon, abs=1e-4)


# ------------------------------------------------------------------------------------ whole losses


@pytest.mark.parametrize("weighted", [False, True], ids=["on-policy", "importance weights"])
def test_the_e_step_by_hand(weighted):
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(ROWS, generator=generator)
    log_importance = torch.randn(ROWS, generator=generator) if weighted else None
    temperature = Multiplier(0.7, 0.2)
    psi, loss, metrics = e_step(advantages, temperature, 0.4, log_importance)
    loss.backward()

    best = sorted(range(ROWS), key=lambda row: -advantages[row].item())[:12]
    eta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    exponentials = torch.exp(advantages.double()[best] / eta)
    if log_importance is not None:
        exponentials = exponentials * log_importance.double()[best].exp()
    expected = eta * 0.2 + eta * torch.log(exponentials.mean())
    expected.backward()
    weights = torch.zeros(ROWS, dtype=torch.float64)
    weights[best] = (exponentials / exponentials.sum()).detach()
    torch.testing.assert_close(psi.double(), weights, rtol=1e-5, atol=1e-8)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) == metrics["loss/dual"].item()
    assert temperature.value.grad.item() == pytest.approx(eta.grad.item(), rel=1e-3)
    assert metrics["vmpo/selected_frac"].item() == pytest.approx(0.4)
    assert metrics["vmpo/ess"].item() == pytest.approx(1 / (12 * weights.square().sum().item()), rel=1e-5)
    assert not psi.requires_grad


def gaussian_case():
    """A learned and an acting Gaussian, actions, values, returns and weights, in float64."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return {
        "mean": draw(ROWS, ACT),
        "log_std": 0.3 * draw(1, ACT),
        "old_mean": draw(ROWS, ACT),
        "old_log_std": 0.3 * draw(1, ACT),
        "actions": draw(ROWS, ACT),
        "values": draw(ROWS),
        "returns": draw(ROWS),
        "weights": torch.softmax(draw(ROWS), 0),
    }


def gradients_of(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


def test_the_m_step_loss_of_a_gaussian_by_hand():
    case = gaussian_case()
    leaves = [case[name].requires_grad_() for name in ("mean", "log_std", "values")]
    mean, log_std, values = leaves
    normal = lambda mean, log_std: td.Independent(td.Normal(mean, log_std.exp()), 1)  # noqa: E731
    old = normal(case["old_mean"], case["old_log_std"])
    kls = {
        "mean": td.kl_divergence(old, normal(mean, case["old_log_std"])),
        "std": td.kl_divergence(old, normal(case["old_mean"], log_std)),
    }
    log_probs = normal(mean, log_std).log_prob(case["actions"])
    expected = sum(
        -case["weights"][row] * log_probs[row]
        + (2.0 * kls["mean"][row] + 5.0 * kls["std"][row]) / ROWS
        + 0.5 * (values[row] - case["returns"][row]) ** 2 / ROWS
        for row in range(ROWS)
    )
    exact = gradients_of(expected, *leaves)

    single = {name: value.detach().float() for name, value in case.items()}
    learned = [single[name].requires_grad_() for name in ("mean", "log_std", "values")]
    new = DiagonalGaussian(single["mean"], single["log_std"])
    parts = DiagonalGaussian(single["old_mean"], single["old_log_std"]).kl_parts(new)
    multipliers = {"mean": Multiplier(2.0, 0.1), "std": Multiplier(5.0, 0.01)}
    loss, metrics = vmpo_loss(
        new.log_prob(single["actions"]),
        single["weights"],
        single["values"],
        single["returns"],
        dict(zip(multipliers, parts, strict=True)),
        multipliers,
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(gradients_of(loss, *learned), exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-6)
    assert metrics["kl/std"].item() == pytest.approx(kls["std"].mean().item(), rel=1e-5)
    expected_penalty = 2.0 * kls["mean"].mean() + 5.0 * kls["std"].mean()
    assert metrics["loss/kl"].item() == pytest.approx(expected_penalty.item(), rel=1e-5)
    parts_of_it = (metrics[f"loss/{name}"] for name in ("policy", "value", "kl"))
    assert sum(part.item() for part in parts_of_it) == pytest.approx(loss.item(), rel=1e-5)
    assert all(multiplier.value.grad is None for multiplier in multipliers.values())


def test_losses_of_blocks_add_up_to_that_of_the_batch():
    case = gaussian_case()
    multipliers = {"mean": Multiplier(2.0, 0.1)}

    def loss_of(rows):
        arguments = (case[name][rows] for name in ("actions", "weights", "values", "returns"))
        log_probs, *others = arguments
        kls = {"mean": case["mean"][rows, 0].square()}
        return vmpo_loss(log_probs[:, 0], *others, kls, multipliers, rows=ROWS)

    whole, metrics = loss_of(slice(None))
    blocks = [loss_of(slice(start, start + 8)) for start in range(0, ROWS, 8)]
    torch.testing.assert_close(sum(loss for loss, _ in blocks), whole)
    for name, value in metrics.items():
        torch.testing.assert_close(sum(found[name] for _, found in blocks), value)
