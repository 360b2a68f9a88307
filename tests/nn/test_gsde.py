"""Generalised state-dependent exploration: the density by hand and in float64, and noise that has it."""

from __future__ import annotations

import math

import pytest
import torch

from fastrl.errors import SettingError
from fastrl.nn.action_heads import distribution
from fastrl.nn.gsde import SMALLEST_VARIANCE, ExplorationNoise, StateDependentLinear

CONTINUOUS = {"space": "continuous", "shape": (2,)}


def head_of(features: int = 2, *, dtype: torch.dtype = torch.float32) -> StateDependentLinear:
    torch.manual_seed(3)
    head = StateDependentLinear(features, CONTINUOUS).to(dtype)
    torch.nn.init.normal_(head.log_std, std=0.5)
    return head


def test_mean_and_deviation_by_hand() -> None:
    head = head_of()
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        head.linear.bias.copy_(torch.tensor([0.5, 0.0]))
        head.log_std.copy_(torch.tensor([[0.5, 1.0], [0.25, 2.0]]).log())
    mean, log_std = head(torch.tensor([[1.0, 2.0], [0.0, 0.0]])).unbind(-1)
    torch.testing.assert_close(mean, torch.tensor([[5.5, -2.0], [0.5, 0.0]]))
    # 1² · 0.5² + 2² · 0.25² and 1² · 1² + 2² · 2²; without features only the least variance
    variance = torch.tensor([[0.5, 17.0], [0.0, 0.0]]) + SMALLEST_VARIANCE
    torch.testing.assert_close(log_std.exp().square(), variance)


def test_densities_entropies_and_gradients_in_float64() -> None:
    head = head_of(5, dtype=torch.float64)
    features = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    actions = torch.randn(7, 2, dtype=torch.float64)
    policy = distribution(head(features), CONTINUOUS)
    log_prob, entropy = policy.log_prob(actions), policy.entropy()
    found = torch.autograd.grad((log_prob + 0.3 * entropy).sum(), [features, *head.parameters()])

    log_std, weight, bias = (
        value.detach().clone().requires_grad_()
        for value in (head.log_std, head.linear.weight, head.linear.bias)
    )
    fixed = features.detach()
    again = fixed.clone().requires_grad_()
    variance = torch.stack([(fixed.square() * (2.0 * log_std[:, j]).exp()).sum(-1) for j in range(2)], dim=-1)
    normal = torch.distributions.Normal(again @ weight.T + bias, (variance + SMALLEST_VARIANCE).sqrt())
    expected = normal.log_prob(actions).sum(-1), normal.entropy().sum(-1)
    torch.testing.assert_close((log_prob, entropy), expected)
    slopes = torch.autograd.grad(
        (expected[0] + 0.3 * expected[1]).sum(),
        [
            again,
            *(
                dict(log_std=log_std, **{"linear.weight": weight, "linear.bias": bias})[name]
                for name, _ in head.named_parameters()
            ),
        ],
    )
    torch.testing.assert_close(found, slopes)


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    head, features = head_of(64), torch.randn(200, 64)
    rows = torch.randperm(200)[:37]
    assert torch.equal(head(features[rows]), head(features)[rows])


def test_noise_has_the_variance_of_the_density() -> None:
    head, features = head_of(3), torch.tensor([[0.5, -1.0, 2.0]])
    noise = ExplorationNoise(40_000, head.log_std, -1)
    drawn = noise(features.expand(40_000, 3), head.log_std)
    expected = head.variance(features)[0]
    torch.testing.assert_close(drawn.var(0), expected, rtol=0.04, atol=0.0)
    assert (drawn.mean(0).abs() < 4.0 * (expected / 40_000).sqrt()).all()
    assert abs(torch.corrcoef(drawn.T)[0, 1]) < 0.02  # action dimensions are independent


@pytest.mark.parametrize(("sample_freq", "changes"), [(-1, [6]), (1, [1, 2, 3, 4, 5, 6, 7]), (4, [4, 6])])
def test_noise_is_a_function_of_the_state_until_it_is_drawn_anew(
    sample_freq: int, changes: list[int]
) -> None:
    head, noise = head_of(), ExplorationNoise(3, head_of().log_std, sample_freq)
    features, seen = torch.randn(3, 2), []
    for step in range(8):
        if step == 6:
            noise.begin()
        drawn = noise(features, head.log_std)
        torch.testing.assert_close(noise.matrices[1].T @ features[1], drawn[1])
        seen.append(drawn)
    assert [step for step in range(1, 8) if not torch.equal(seen[step], seen[step - 1])] == changes
    assert not torch.equal(noise.matrices[0], noise.matrices[1])  # every environment has its own


def test_noise_goes_on_from_its_state() -> None:
    head, features = head_of(), torch.randn(3, 2)
    noise, other = (ExplorationNoise(3, head.log_std, 4) for _ in range(2))
    for _ in range(2):
        noise(features, head.log_std)
    other.load_state_dict({name: value for name, value in noise.state_dict().items()})
    for _ in range(5):
        generator = torch.get_rng_state()
        expected = noise(features, head.log_std)
        torch.set_rng_state(generator)
        assert torch.equal(other(features, head.log_std), expected)


def test_the_first_deviation_is_that_of_log_std() -> None:
    head = StateDependentLinear(4, CONTINUOUS)
    _, log_std = head(torch.full((1, 4), 0.5)).unbind(-1)
    torch.testing.assert_close(log_std, torch.full((1, 2), 0.5 * math.log(1.0 + SMALLEST_VARIANCE)))


def test_actions_without_noise_are_refused() -> None:
    with pytest.raises(SettingError, match="gsde must be false with discrete actions, which have no noise"):
        StateDependentLinear(4, {"space": "discrete", "shape": 3})
