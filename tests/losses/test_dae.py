"""Direct advantage estimation: by hand, centring, gradients, and the true advantages of problems that can be
solved exactly."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fastrl.envs.toys import LinearQuadratic
from fastrl.losses.dae import advantage_scale, advantage_variance, centred_advantages, dae_loss
from fastrl.nn import AdvantageLinear
from fastrl.nn.action_heads import JointBranches
from fastrl.nn.distributions import Categorical, DiagonalGaussian

GAMMA = 0.9


def flags(*shape):
    return torch.zeros(shape, dtype=torch.bool)


# ------------------------------------------------------------------------------------------- by hand


def test_discrete_advantages_by_hand():
    policy = Categorical(torch.tensor([[0.5, 0.25, 0.25]]).log())
    outputs = torch.tensor([[1.0, 2.0, 6.0]])  # mean under the policy: 2.5
    found = [centred_advantages(outputs, policy, torch.tensor([action])).item() for action in range(3)]
    assert found == pytest.approx([-1.5, -0.5, 3.5])
    assert advantage_variance(outputs, policy).item() == pytest.approx(
        0.5 * 1.5**2 + 0.25 * 0.5**2 + 0.25 * 3.5**2
    )


def test_gaussian_advantages_by_hand():
    policy = DiagonalGaussian(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.5]]).log())
    outputs = torch.tensor([[[3.0, 5.0], [1.0, -2.0]]])  # (b, c) of each action dimension
    action = torch.tensor([[5.0, -0.5]])  # z = 2, −1
    assert centred_advantages(outputs, policy, action).item() == pytest.approx(
        3 * 2 + 5 * (4 - 1) + 1 * -1 + -2 * (1 - 1)
    )
    assert advantage_variance(outputs, policy).item() == pytest.approx(9 + 2 * 25 + 1 + 2 * 4)


def test_branches_add_up():
    policy = JointBranches.from_logits(torch.tensor([[0.5, 0.5, 0.25, 0.25, 0.5]]).log(), (2, 3))
    outputs = torch.tensor([[1.0, 3.0, 0.0, 4.0, 2.0]])  # means 2 and 2
    assert centred_advantages(outputs, policy, torch.tensor([[1, 0]])).item() == pytest.approx(1 - 2)
    assert advantage_variance(outputs, policy).item() == pytest.approx(1 + (0.25 * 4 + 0.25 * 4 + 0))


def test_the_scale_is_over_states_that_count():
    policy = Categorical(torch.zeros(3, 2))
    outputs = torch.tensor([[-1.0, 1.0], [-7.0, 7.0], [-100.0, 100.0]])
    assert advantage_scale(outputs, policy, torch.tensor([True, True, False])).item() == pytest.approx(
        math.sqrt((1 + 49) / 2)
    )
    assert 0 < advantage_scale(torch.zeros(3, 2), policy, torch.zeros(3, dtype=torch.bool)).item() < 1e-6


def test_the_loss_by_hand():
    """γ = 1/2, r − Â = 1 2 4; the first environment is cut off by the end of the rollout, the second
    terminates, the third is truncated."""
    advantages = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 3)
    rewards = torch.tensor([[2.0], [4.0], [8.0]]).expand(3, 3)
    bootstrap = torch.tensor([[10.0], [20.0], [30.0], [40.0]]).expand(4, 3)
    terminated, truncated, valid = flags(3, 3), flags(3, 3), ~flags(3, 3)
    terminated[1, 1] = truncated[1, 2] = True
    valid[2, 1] = valid[2, 2] = False  # the reset rows that follow
    loss, targets = dae_loss(
        advantages, torch.zeros(3, 3), rewards, bootstrap, terminated, truncated, gamma=0.5, valid=valid
    )
    expected = [8.0, 14.0, 24.0, 2.0, 2.0, 9.5, 17.0]  # e_t, as V = 0
    assert targets[valid].tolist() == [8.0, 2.0, 9.5, 14.0, 2.0, 17.0, 24.0]
    assert loss.item() == pytest.approx(sum(error**2 for error in expected) / 7)


def test_the_mean_of_sums_that_stop_sooner_by_hand():
    """The environments of `test_the_loss_by_hand` with λ = 1/2: 1 + ½ 20 = 11 and 1 + ½ 2 + ¼ 30 = 9.5 and 8,
    and so on."""
    advantages = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 3)
    rewards = torch.tensor([[2.0], [4.0], [8.0]]).expand(3, 3)
    bootstrap = torch.tensor([[10.0], [20.0], [30.0], [40.0]]).expand(4, 3)
    terminated, truncated, valid = flags(3, 3), flags(3, 3), ~flags(3, 3)
    terminated[1, 1] = truncated[1, 2] = True
    valid[2, 1] = valid[2, 2] = False
    given = (advantages, torch.zeros(3, 3), rewards, bootstrap, terminated, truncated)
    _, targets = dae_loss(*given, gamma=0.5, dae_lambda=0.5, valid=valid)
    first = [11 / 2 + 9.5 / 4 + 8 / 4, 11 / 2 + 2 / 2, 11 / 2 + 9.5 / 2]
    assert targets[0].tolist() == first
    assert targets[1].tolist() == [17 / 2 + 14 / 2, 2.0, 17.0] and targets[2, 0] == 24.0
    _, one_step = dae_loss(*given, gamma=0.5, dae_lambda=0.0, valid=valid)
    assert one_step[valid].tolist() == [11.0, 11.0, 11.0, 17.0, 2.0, 17.0, 24.0]


@pytest.mark.parametrize(
    "change", [{"dae_lambda": 1.5}, {"dae_lambda": math.nan}, {"bootstrap": torch.zeros(2, 2)}]
)
def test_the_argument_at_fault_is_named(change):
    given = {
        "advantages": torch.zeros(2, 2),
        "values": torch.zeros(2, 2),
        "rewards": torch.zeros(2, 2),
        "bootstrap": torch.zeros(3, 2),
    }
    given |= {"terminated": flags(2, 2), "truncated": flags(2, 2), "gamma": 0.9, "dae_lambda": 0.5} | change
    with pytest.raises(ValueError, match=next(iter(change))):
        dae_loss(**given)


def test_environments_may_come_first():
    torch.manual_seed(0)
    advantages, values, rewards = torch.randn(3, 5, 2).unbind(0)
    bootstrap, ended = torch.randn(6, 2), flags(5, 2)
    ended[2, 1] = True
    fields = (advantages, values, rewards, bootstrap, ended, ended)
    loss, targets = dae_loss(*fields, gamma=0.9, dae_lambda=0.8, valid=~ended)
    swapped = [field.t() for field in fields]
    its_loss, its_targets = dae_loss(
        *swapped, gamma=0.9, dae_lambda=0.8, valid=~ended.t(), environments_first=True
    )
    assert torch.equal(loss, its_loss) and torch.equal(targets, its_targets.t())


def test_a_loss_over_no_transition_is_zero():
    ones = torch.ones(2, 1, requires_grad=True)
    loss, _ = dae_loss(
        ones, ones, torch.ones(2, 1), torch.ones(3, 1), flags(2, 1), flags(2, 1), gamma=0.9, valid=flags(2, 1)
    )
    loss.backward()
    assert loss.item() == 0.0 and ones.grad.abs().max() == 0.0


# ------------------------------------------------------------------------------------------ centring


@pytest.mark.parametrize("actions", [2, 3, 18])
def test_discrete_advantages_are_centred(actions):
    torch.manual_seed(actions)
    policy = Categorical(3.0 * torch.randn(500, actions))
    outputs = torch.randn(500, actions) + 10.0
    every = torch.stack(
        [centred_advantages(outputs, policy, torch.full((500,), action)) for action in range(actions)], -1
    )
    probabilities = policy.log_probs().double().exp()
    assert (probabilities * every).sum(-1).abs().max() < 1e-6
    torch.testing.assert_close(
        (probabilities * every.double().square()).sum(-1).float(), advantage_variance(outputs, policy)
    )


def test_gaussian_advantages_are_centred():
    """Against quadrature that is exact for polynomials of this degree, in each of two dimensions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    z = torch.tensor(np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2))  # [64, 2]
    weight = torch.tensor(np.outer(weights, weights).ravel() / (2 * math.pi))
    torch.manual_seed(0)
    mean, log_std, outputs = (
        torch.randn(50, 1, 2).double(),
        torch.randn(1, 2).double(),
        3.0 * torch.randn(50, 1, 2, 2).double(),
    )
    policy = DiagonalGaussian(mean.expand(50, 64, 2), log_std)
    every = centred_advantages(outputs.expand(50, 64, 2, 2), policy, mean + log_std.exp() * z)
    assert (weight * every).sum(-1).abs().max() < 1e-6
    torch.testing.assert_close(
        (weight * every.square()).sum(-1),
        advantage_variance(outputs[:, 0], DiagonalGaussian(mean[:, 0], log_std)),
    )


# ----------------------------------------------------------------------------------------- gradients


def plain_loss(advantages, values, rewards, bootstrap, terminated, truncated, valid, gamma, dae_lambda):
    """Every e_t as the mean of the sums that the paper writes, one after the other."""
    errors = []
    steps, envs = rewards.shape
    for env in range(envs):
        for t in (t for t in range(steps) if valid[t, env]):
            error, total, discount, left = -values[t, env], 0.0, 1.0, 1.0
            for k in range(t, steps):
                total = total + discount * (rewards[k, env] - advantages[k, env])
                discount *= gamma
                stopped = total + (0.0 if terminated[k, env] else discount * bootstrap[k + 1, env])
                if terminated[k, env] or truncated[k, env] or k + 1 == steps:
                    error = error + left * stopped
                    break
                error, left = error + left * (1.0 - dae_lambda) * stopped, left * dae_lambda
            errors.append(error)
    return torch.stack(errors).square().mean()


@pytest.mark.parametrize("dae_lambda", [1.0, 0.7])
@pytest.mark.parametrize("kind", ["discrete", "gaussian"])
def test_gradients_are_those_of_the_sums_of_the_paper(kind, dae_lambda):
    torch.manual_seed(3)
    steps, envs = 11, 4
    outputs = torch.randn(
        steps, envs, 3, *([2] if kind == "gaussian" else []), dtype=torch.float64, requires_grad=True
    )
    values = torch.randn(steps, envs, dtype=torch.float64, requires_grad=True)
    rewards, bootstrap = (
        torch.randn(steps, envs).double(),
        torch.randn(steps + 1, envs).double().requires_grad_(),
    )
    logits = torch.randn(steps, envs, 3).double().requires_grad_()
    policy = (
        Categorical(logits) if kind == "discrete" else DiagonalGaussian(logits, torch.randn(1, 3).double())
    )
    actions = policy.sample().detach()
    terminated, truncated, valid = flags(steps, envs), flags(steps, envs), ~flags(steps, envs)
    terminated[4, 0] = terminated[7, 1] = truncated[5, 1] = truncated[9, 2] = terminated[10, 3] = True
    valid[5, 0] = valid[8, 1] = valid[6, 1] = valid[10, 2] = False
    given = (rewards, bootstrap, terminated, truncated)

    loss, _ = dae_loss(
        centred_advantages(outputs, policy, actions),
        values,
        *given,
        gamma=GAMMA,
        dae_lambda=dae_lambda,
        valid=valid,
    )
    found = torch.autograd.grad(loss, (outputs, values, logits, bootstrap), allow_unused=True)
    advantages = centred_advantages(outputs, policy, actions)
    plain = plain_loss(advantages, values, *(entry.detach() for entry in given), valid, GAMMA, dae_lambda)
    expected = torch.autograd.grad(plain, (outputs, values))
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    torch.testing.assert_close(found[:2], expected, rtol=1e-10, atol=1e-12)
    assert found[2] is None and found[3] is None  # the policy and the bootstrap are constants


# ---------------------------------------------------------------------------------- known advantages


def fit(parameters, loss):
    """The least squares that the loss is when advantages and values are linear in what they are made of."""
    optimizer = torch.optim.LBFGS(parameters, lr=1.0, max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found

    optimizer.step(closure)


class RandomMDP:
    """5 states, 3 actions, transitions, rewards and policy drawn at random; in one state an episode may
    terminate."""

    states, actions = 5, 3

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.transitions = self.rng.dirichlet(np.ones(self.states), (self.states, self.actions))
        self.rewards = self.rng.normal(size=(self.states, self.actions))
        self.policy = self.rng.dirichlet(2 * np.ones(self.actions), self.states)
        self.ending = 0.3 * (np.arange(self.states) == 0)  # probability that a step from there terminates

    def advantages(self):
        """A^π [S, A] by linear algebra."""
        continuing = (1 - self.ending)[:, None, None] * self.transitions
        reward, transition = (
            (self.policy * self.rewards).sum(1),
            np.einsum("sa,sat->st", self.policy, continuing),
        )
        values = np.linalg.solve(np.eye(self.states) - GAMMA * transition, reward)
        return self.rewards + GAMMA * continuing @ values - values[:, None]

    def draw(self, rows):
        """Indices, one for each row of probabilities."""
        return np.minimum((rows.cumsum(1) < self.rng.random((len(rows), 1))).sum(1), rows.shape[1] - 1)

    def rollout(self, steps, envs):
        """On-policy (states [T+1, N], actions, rewards, terminated, truncated) [T, N]; a new episode begins
        without a row in between."""
        state, rows = self.rng.integers(self.states, size=envs), []
        for _ in range(steps):
            action = self.draw(self.policy[state])
            following = self.draw(self.transitions[state, action])
            terminated = self.rng.random(envs) < self.ending[state]
            rows.append((state, action, self.rewards[state, action], terminated))
            state = np.where(terminated, self.rng.integers(self.states, size=envs), following)
        states, actions, rewards, terminated = (
            torch.tensor(np.stack(column)) for column in zip(*rows, strict=True)
        )
        return (
            torch.cat([states, torch.tensor(state)[None]]),
            actions,
            rewards,
            terminated,
            torch.zeros_like(terminated),
        )


@pytest.mark.parametrize("seed", range(4))
def test_the_advantages_of_random_tabular_problems_are_found(seed):
    problem = RandomMDP(seed)
    outputs = torch.zeros(problem.states, problem.actions, dtype=torch.float64, requires_grad=True)
    values = torch.zeros(problem.states, dtype=torch.float64, requires_grad=True)
    log_policy = torch.tensor(problem.policy).log()
    states, actions, rewards, *ends = problem.rollout(64, 1024)
    policy = Categorical(log_policy[states[:-1]])
    for _ in range(3):  # each time with the values of the one before
        bootstrap = values.detach()[states]

        def loss(bootstrap=bootstrap):
            advantages = centred_advantages(outputs[states[:-1]], policy, actions)
            return dae_loss(advantages, values[states[:-1]], rewards, bootstrap, *ends, gamma=GAMMA)[0]

        fit([outputs, values], loss)
    every = Categorical(log_policy)
    found = torch.stack(
        [centred_advantages(outputs, every, torch.full((5,), action)) for action in range(3)], -1
    ).detach()
    truth = torch.tensor(problem.advantages())
    assert (every.log_probs().exp() * found).sum(-1).abs().max() < 1e-6
    assert (found - truth).square().mean().sqrt() < 0.05
    assert truth.square().mean().sqrt() > 0.3  # there was something to find


def test_the_advantages_of_a_linear_quadratic_problem_are_found():
    """a ~ N(−k s, σ²): A = b z + c (z² − 1) exactly, b linear in the state and c constant."""
    gain, deviation, steps, envs = 0.8, 0.3, 48, 512
    task = LinearQuadratic(range(envs), max_episode_steps=16)
    keep, move, cost = task.keep, task.move, task.action_cost
    closed = keep - move * gain
    curvature = (task.state_cost + cost * gain**2) / (1 - GAMMA * closed**2)  # V = −curvature · s² + constant

    rng, everywhere = np.random.default_rng(0), np.ones(envs, bool)
    task.start(everywhere)
    rows = []
    for _ in range(steps):
        state = task.point.copy()
        action = -gain * state + deviation * rng.normal(size=envs)
        reward, _, truncated = task.step(action[:, None], everywhere)
        rows.append((state, action, reward, truncated, task.point.copy()))
        task.start(truncated)
    state, actions, rewards, truncated, following = (
        torch.tensor(np.stack(column)) for column in zip(*rows, strict=True)
    )
    following = torch.cat([state[:1], following])  # of row t: what followed step t − 1, before any reset

    policy = DiagonalGaussian(-gain * state[..., None], torch.tensor([[math.log(deviation)]]))
    slope, constant, value = (
        torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in (2, 1, 3)
    )

    def outputs_at(points):
        return torch.stack([slope[0] * points + slope[1], constant.expand_as(points)], -1).unsqueeze(-2)

    def value_at(points):
        return value[0] * points.square() + value[1] * points + value[2]

    for _ in range(6):
        bootstrap = value_at(following).detach()

        def loss(bootstrap=bootstrap):
            advantages = centred_advantages(outputs_at(state), policy, actions[..., None])
            given = (rewards, bootstrap, torch.zeros_like(truncated), truncated)
            return dae_loss(advantages, value_at(state), *given, gamma=GAMMA)[0]

        fit([slope, constant, value], loss)

    points = torch.linspace(-1, 1, 21).double()
    expected_slope = deviation * (2 * cost * gain - 2 * GAMMA * curvature * move * closed) * points
    expected_curvature = -(deviation**2) * (cost + GAMMA * curvature * move**2)
    found = outputs_at(points)[:, 0].detach()
    assert (found[:, 0] - expected_slope).abs().max() < 0.02 * expected_slope.abs().max()
    assert found[0, 1].item() == pytest.approx(expected_curvature, rel=0.05)
    assert value[0].item() == pytest.approx(-curvature, rel=0.02)


# ------------------------------------------------------------------------------------------ the head


@pytest.mark.parametrize(
    ("action_info", "shape"),
    [
        ({"space": "discrete", "shape": 4}, (4,)),
        ({"space": "continuous", "shape": (3,)}, (3, 2)),
        ({"space": "multi_discrete", "shape": (2,), "nvec": (2, 3)}, (5,)),
    ],
)
def test_the_head_gives_what_advantages_are_made_of(action_info, shape):
    head = AdvantageLinear(8, action_info)
    assert head(torch.randn(6, 8)).shape == (6, *shape)
    assert head(torch.randn(6, 8)).abs().max() < 0.2  # at first no action is better than another
    assert isinstance(head.linear, nn.Linear) and head.linear.bias.abs().max() == 0.0
