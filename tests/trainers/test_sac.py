"""SAC: the learner's update against a plain reference, the trainer on tasks with known answers."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.data.replay import Sequences
from fastrl.errors import NonFiniteError, SettingError
from fastrl.nn.critics import lowest
from fastrl.trainers.sac.config import SACConfig
from fastrl.trainers.sac.learner import SACLearner
from fastrl.trainers.sac.trainer import SACTrainer

OBS, ACT, ROWS = 5, 3, 32
CPU = torch.device("cpu")


def make_learner(**settings):
    torch.manual_seed(0)
    sizes = {"policy_layer_sizes": (16, 8), "critic_layer_sizes": (16, 8)}
    config = SACConfig(env_id="none", **sizes | settings)
    config.check()
    bounds = {"action_low": -torch.ones(ACT), "action_high": 2.0 * torch.ones(ACT)}
    return SACLearner(config, OBS, CPU, **bounds)


def make_batch(learner, seed=0):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(2, ROWS, OBS, generator=generator)
    ends = torch.rand(1, ROWS, generator=generator)
    return Sequences(
        obs=obs,
        actions=learner.act(obs[0])[None],
        rewards=torch.randn(1, ROWS, generator=generator),
        terminated=ends < 0.2,
        truncated=ends > 0.8,
        valid=torch.ones(1, ROWS, dtype=torch.bool),
    )


def values_of(*modules):
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


# ------------------------------------------------------------------------------------------- learner


def reference(learner, batch, noise):
    """Losses of one update from the formulas in float64, with the noise of next actions and of actions, and
    the networks they are gradients of."""
    policy, critics, targets = (
        copy.deepcopy(module).double() for module in (learner.policy, learner.critics, learner.target_critics)
    )
    alpha, gamma = learner.alpha().item(), learner.config.gamma

    def drawn(obs, by):
        gaussian = policy(obs)
        u = gaussian.mean + gaussian.log_std.exp() * by
        density = torch.distributions.Normal(gaussian.mean, gaussian.log_std.exp()).log_prob(u)
        log_prob = (density - torch.log(1.5 * (1.0 - torch.tanh(u) ** 2))).sum(-1)
        return 0.5 + 1.5 * torch.tanh(u), log_prob

    obs, next_obs = batch.obs.double()
    actions, rewards = batch.actions[0].double(), batch.rewards[0].double()
    with torch.no_grad():
        next_actions, next_logp = drawn(next_obs, noise[0].double())
        next_q = torch.stack([critic(next_obs, next_actions) for critic in targets]).amin(0)
        goal = rewards + gamma * (~batch.terminated[0]) * (next_q - alpha * next_logp)
    q_loss = sum(0.5 * ((critic(obs, actions) - goal) ** 2).mean() for critic in critics)

    def policy_loss(critics):
        sampled, logp = drawn(obs, noise[1].double())
        lower = torch.stack([critic(obs, sampled) for critic in critics]).amin(0)
        return (alpha * logp - lower).mean(), -logp.mean().item()

    return q_loss, policy_loss, policy, critics


@pytest.mark.parametrize("layer_norm", [False, True])
def test_losses_and_gradients_are_those_of_the_paper(layer_norm):
    learner = make_learner(layer_norm=layer_norm, temperature_init=0.3)
    with torch.no_grad():  # away from critics that are 0 and alike, and from their targets
        for parameter in [*learner.critics.parameters(), *learner.target_critics.parameters()]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    batch = make_batch(learner)
    torch.manual_seed(5)
    noise = torch.randn(ROWS, ACT), torch.randn(ROWS, ACT)
    q_loss, policy_loss, policy, critics = reference(learner, batch, noise)
    q_loss.backward()
    torch.manual_seed(5)
    metrics = learner.learn(batch)
    for mine, its in zip(learner.critics.parameters(), critics.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), its.grad, rtol=1e-3, atol=1e-5)
    assert metrics["loss/q"].item() == pytest.approx(q_loss.item(), rel=1e-4)
    loss, entropy = policy_loss(copy.deepcopy(learner.critics).double())  # after their step
    loss.backward()
    for mine, its in zip(learner.policy.parameters(), policy.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), its.grad, rtol=1e-3, atol=1e-5)
    assert metrics["loss/policy"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["train/entropy"].item() == pytest.approx(entropy, rel=1e-4)
    assert metrics["train/approx_kl"].item() > 0


def test_the_policy_s_step_leaves_no_gradient_in_the_critics():
    learner = make_learner()
    metrics = learner.learn(make_batch(learner))
    norm = torch.stack([parameter.grad.norm() for parameter in learner.critics.parameters()]).norm()
    assert norm.item() == pytest.approx(metrics["grad/q_norm"].item(), rel=1e-5)
    assert all(parameter.requires_grad for parameter in learner.critics.parameters())


def test_the_targets_move_by_tau():
    learner = make_learner(tau=0.25, q_lr=0.1)
    before = values_of(learner.target_critics)
    learner.learn(make_batch(learner))
    for old, new, online in zip(
        before, values_of(learner.target_critics), values_of(learner.critics), strict=True
    ):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)


@pytest.mark.parametrize(("target", "direction"), [(-50.0, -1.0), (50.0, 1.0)])
def test_the_temperature_follows_the_entropy(target, direction):
    learner = make_learner(target_entropy=target, temperature_lr=0.01)
    metrics = learner.learn(make_batch(learner))
    assert learner.alpha().item() == pytest.approx(1.0 + 0.01 * direction, abs=1e-4)
    assert metrics["sac/alpha"].item() == learner.alpha().item()


def test_the_target_entropy_is_one_nat_per_dimension_below_zero_unless_it_is_given():
    assert make_learner().alpha.bound == ACT and make_learner(target_entropy=-1.5).alpha.bound == 1.5


def test_what_is_not_finite_ends_learning_before_the_step():
    learner = make_learner()
    batch = make_batch(learner)
    batch.rewards[0, 3] = float("nan")
    before = values_of(learner.policy, learner.critics)
    with pytest.raises(NonFiniteError, match=r"SAC: loss/q, grad/q_norm not finite in update 0"):
        learner.learn(batch)
    after = values_of(learner.policy, learner.critics)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_learner_goes_on_exactly_from_its_state():
    first, second = make_learner(), make_learner(policy_lr=1e-3)
    batch = make_batch(first)
    for _ in range(3):
        first.learn(batch)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.policy_optimizer.param_groups[0]["lr"] = first.config.policy_lr
    ends = []
    for learner in (first, second):
        torch.manual_seed(5)
        learner.learn(batch)
        ends.append(values_of(learner.policy, learner.critics, learner.target_critics, learner.alpha))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True)) and second.updates == 4


def test_actions_keep_to_the_bounds_and_the_mode_is_no_draw():
    learner = make_learner()
    obs = torch.randn(200, OBS)
    actions = learner.act(obs)
    assert actions.shape == (200, ACT) and actions.min() >= -1.0 and actions.max() <= 2.0
    first, second = (learner.act(obs, deterministic=True) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(actions, first)


# ------------------------------------------------------------------------------------------- trainer

SMALL = {
    "policy_layer_sizes": (32, 32),
    "critic_layer_sizes": (32, 32),
    "replay_size": 10_000,
    "update_after": 200,
    "batch_size": 64,
    "threads": 1,
    "seed": 3,
    "policy_lr": 3e-3,
    "q_lr": 3e-3,
    "temperature_lr": 3e-3,
}


class _Ends(gym.Env):
    """Two steps of reward 1, whatever is done; the episode then terminates or is truncated."""

    observation_space = gym.spaces.Box(-1, 3, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    terminates = True

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        end = self.steps == 2
        return (
            np.full(1, self.steps, np.float32),
            1.0,
            end and self.terminates,
            end and not self.terminates,
            {},
        )


@pytest.mark.parametrize("terminates", [True, False])
def test_values_know_how_an_episode_ends(terminates, tmp_path):
    """γ = 0.5: Q of the last step is 1 where the episode terminates; where it is cut off, what follows
    counts too."""
    factory = type("_EndsSo", (_Ends,), {"terminates": terminates})
    settings = SMALL | {"temperature_init": 1e-4, "temperature_lr": 1e-9, "tau": 0.05, "num_envs": 2}
    with SACTrainer(factory, gamma=0.5, **settings) as trainer:
        trainer.train(1_500, str(tmp_path))
        learner = trainer.learner
        obs = torch.arange(3.0)[:, None].repeat_interleave(200, 0)
        q_values = lowest([critic(obs, learner.act(obs)) for critic in learner.target_critics])
        first, last, behind = q_values.view(3, 200).mean(1).tolist()
    follows = 0.0 if terminates else behind
    assert last == pytest.approx(1.0 + 0.5 * follows, abs=0.1)
    assert first == pytest.approx(1.0 + 0.5 * last, abs=0.1)


@pytest.mark.parametrize("samples_per_insert", [None, 16.0, 128.0])
def test_updates_per_environment_step(samples_per_insert, tmp_path):
    settings = SMALL | {"samples_per_insert": samples_per_insert, "update_after": 100}
    with SACTrainer("LinearQuadratic-v0", **settings) as trainer:
        trainer.train(400, str(tmp_path))
        per_step = 1.0 if samples_per_insert is None else samples_per_insert / 64
        assert trainer.updates == pytest.approx(300 * per_step, rel=0.05)


def test_other_actions_are_refused_by_name():
    with pytest.raises(SettingError, match="'CartPole-v1' has discrete actions; SAC takes continuous ones"):
        SACTrainer("CartPole-v1", threads=1)
    for low, high in ((-np.inf, np.inf), (0.0, np.inf), (-1e30, 1e30)):  # 1e10 and more means none
        space = gym.spaces.Box(np.float32(low), np.float32(high), (1,))
        unbounded = type("_Unbounded", (_Ends,), {"action_space": space})
        with pytest.raises(SettingError, match="has actions without bounds; SAC needs finite ones"):
            SACTrainer(unbounded, threads=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, r"tau must be in \(0, 1\]"),
        ({"temperature_init": 0.0}, "temperature_init must be in"),
        ({"target_entropy": float("inf")}, "target_entropy must be finite"),
        ({"critic_layer_sizes": ()}, "critic_layer_sizes must be at least one layer"),
        ({"replay_size": 100}, "batch_size must be at most replay_size = 100, got 256"),
        ({"exact_resume": True}, "exact_resume needs save_replay"),
        ({"replay_size": 10**13}, "replay_size too large"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        SACTrainer("LinearQuadratic-v0", threads=1, **settings)
