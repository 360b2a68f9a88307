import math

import torch

from fastrl.nn.action_heads import Branches, DiscreteHead, GaussianHead
from fastrl.nn.distributions import Categorical


def test_each_branch_has_a_probability_of_its_own_and_entropies_add_up():
    first = torch.tensor([[0.5, 0.25, 0.25]]).log()
    second = torch.tensor([[0.9, 0.1]]).log()
    policy = Branches((Categorical(first), Categorical(second)))
    torch.testing.assert_close(policy.log_prob(torch.tensor([[1, 0]])).exp(), torch.tensor([[0.25, 0.9]]))
    expected = 1.5 * math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    torch.testing.assert_close(policy.entropy(), torch.tensor([expected]))
    assert policy.mode().tolist() == [[0, 0]]


def test_discrete_draws_follow_the_probabilities():
    torch.manual_seed(0)
    policy = Branches((Categorical(torch.tensor([0.2, 0.8]).log().expand(20_000, 2)),))
    assert policy.sample().shape == (20_000, 1)
    assert abs(policy.sample().float().mean().item() - 0.8) < 0.01


def test_a_discrete_head_splits_its_logits():
    head = DiscreteHead(4, (3, 2))
    features = torch.randn(5, 4)
    policy = head(features)
    assert [choice.logits.shape for choice in policy.choices] == [(5, 3), (5, 2)]
    for weight in head.layer.weight.split([3, 2]):  # each branch orthogonal by itself
        torch.testing.assert_close(weight @ weight.t(), 0.01 * torch.eye(len(weight)))


def test_a_gaussian_has_one_ratio_for_all_its_dimensions():
    head = GaussianHead(4, 2)
    policy = head(torch.zeros(3, 4))
    assert policy.log_prob(torch.zeros(3, 2)).shape == (3, 1)
    torch.testing.assert_close(
        policy.log_prob(torch.zeros(3, 2))[0, 0].detach(), torch.tensor(-math.log(2 * math.pi))
    )
    assert policy.entropy().shape == (3,) and policy.sample().shape == (3, 2)
