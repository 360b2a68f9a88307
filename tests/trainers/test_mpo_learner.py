"""The MPO learner: shapes, targets and the update against a plain reference, invariants,
errors."""

import copy

import numpy as np
import pytest
import torch
from torch import distributions as td

from fastrl.data.replay import Sequences
from fastrl.errors import NonFiniteError, SettingError
from fastrl.nn.critics import Critic
from fastrl.nn.gaussian_policy import GaussianPolicy
from fastrl.trainers.mpo.agent import MPOAgent
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.learner import MOST_SKIPPED, MPOLearner

OBS, ACT = 5, 3
CPU = torch.device("cpu")
SGD = {
    "optimizer_type": "sgd",
    "sgd_momentum": 0.0,
    "policy_lr": 1.0,
    "q_lr": 1.0,
    "max_grad_norm": 1e9,
}  # moves by the gradient


def make_learner(discrete=False, low=-1.0, high=1.0, **settings):
    torch.manual_seed(0)
    chosen = {
        "policy_layer_sizes": (16, 8),
        "critic_layer_sizes": (16, 8),
        "action_samples": 6,
        "retrace_mc_actions": 4,
    } | settings
    config = MPOConfig(env_id="none", **chosen)
    bounds = (
        {} if discrete else {"action_low": torch.full((ACT,), low), "action_high": torch.full((ACT,), high)}
    )
    config.check()
    return MPOLearner(config, OBS, ACT, CPU, **bounds)


def update(learner, batch, m_steps=None):
    """The metrics of one update as floats."""
    return {name: float(value) for name, value in learner.learn(batch, m_steps).items()}


def make_batch(learner, length=4, size=10, seed=0):
    """Windows as an older policy made them, with ends and rows that are no transitions."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(length + 1, size, OBS, generator=generator)
    acted = learner.act_for_replay(obs[:-1].flatten(0, 1))
    shape = (length, size)
    noise = 0.2 * torch.randn(*shape, generator=generator)
    chance = torch.rand(*shape, generator=generator)
    valid = chance > 0.1
    valid[0] = True
    return Sequences(
        obs=obs,
        actions=acted["actions"].unflatten(0, shape),
        rewards=torch.randn(*shape, generator=generator),
        terminated=(chance > 0.9) & valid,
        truncated=(chance > 0.8) & (chance < 0.9) & valid,
        valid=valid,
        extras={
            "raw_actions": acted["raw_actions"].unflatten(0, shape),
            "behaviour_logp": acted["behaviour_logp"].view(shape) + noise,
        },
    )


def moved(learner):
    """The learner, its networks away from their targets."""
    with torch.no_grad():
        for module in (learner.policy, learner.critics):
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return learner


both_kinds = pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])


# -------------------------------------------------------------------------------------------- acting


@both_kinds
def test_act_takes_one_observation_or_a_batch(discrete):
    learner = make_learner(discrete)
    obs = np.random.default_rng(0).normal(size=(4, OBS)).astype(np.float32)
    agent = MPOAgent.of(learner)
    executed, raw, logp = agent.act_with_logp(obs)
    assert executed.shape == raw.shape == ((4,) if discrete else (4, ACT)) and logp.shape == (4,)
    policy = learner.policy(torch.as_tensor(obs))
    np.testing.assert_allclose(logp, policy.log_prob(torch.as_tensor(raw)).detach().numpy(), rtol=1e-5)
    one_executed, _, one_logp = agent.act_with_logp(obs[2], deterministic=True)
    np.testing.assert_allclose(
        one_executed, agent.act_with_logp(obs, deterministic=True)[0][2], rtol=1e-5, atol=1e-7
    )
    assert one_logp.shape == ()


def test_what_is_executed_is_clipped_and_what_is_drawn_is_not():
    agent = MPOAgent.of(make_learner(low=-0.1, high=0.1))
    executed, raw, _ = agent.act_with_logp(np.zeros((50, OBS)))
    assert np.abs(executed).max() <= np.float32(0.1) < np.abs(raw).max()
    np.testing.assert_array_equal(executed, np.clip(raw, np.float32(-0.1), np.float32(0.1)))


def test_the_critic_of_samples_is_the_critic_of_each():
    critic = Critic(OBS, ACT, (16, 8))
    obs, actions = torch.randn(7, OBS), torch.randn(7, 300, ACT)
    expected = torch.stack([critic(obs, actions[:, i]) for i in range(300)], 1)
    torch.testing.assert_close(critic.of_samples(obs, actions), expected.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        critic.of_samples(obs, actions, bfloat16=True), expected.detach(), rtol=2e-2, atol=2e-3
    )


# ------------------------------------------------------------------------------------------- targets


def plain_targets(learner, batch, values):
    """Retrace written as the sum over what follows, each window by itself, in Python floats; values [T+1][B]
    of E_π Q'."""
    config = learner.config
    trace_lambda = config.retrace_lambda if config.use_retrace else 0.0
    length, size = batch.rewards.shape
    targets = torch.zeros(length, size)
    for b in range(size):
        for t in range(length):
            total, weight = 0.0, 1.0
            for k in range(t, length):
                if not batch.valid[k, b]:
                    break
                obs, action = batch.obs[k, b : b + 1], batch.actions[k, b : b + 1]
                q = min(float(critic(obs, action)) for critic in learner.target_critics)
                if k > t:
                    log_pi = float(
                        learner.target_policy(obs).log_prob(batch.extras["raw_actions"][k, b : b + 1])
                    )
                    weight *= (
                        config.gamma
                        * trace_lambda
                        * min(1.0, np.exp(log_pi - float(batch.extras["behaviour_logp"][k, b])))
                    )
                bootstrap = 0.0 if batch.terminated[k, b] else float(values[k + 1, b])
                total += weight * (float(batch.rewards[k, b]) + config.gamma * bootstrap - q)
                if t == k:
                    first_q = q
                if batch.terminated[k, b] or batch.truncated[k, b]:
                    break
            targets[t, b] = first_q + total if batch.valid[t, b] else 0.0
    return targets


@both_kinds
@pytest.mark.parametrize(
    "settings", [{"use_retrace": True}, {"use_retrace": False}, {"use_retrace": True, "twin_critic": True}]
)
def test_targets_are_those_of_the_paper(discrete, settings):
    learner = moved(make_learner(discrete, gamma=0.9, **settings))
    learner._renew_targets()
    batch = make_batch(moved(learner))
    torch.manual_seed(7)
    found = learner._targets(batch)
    torch.manual_seed(7)
    with torch.no_grad():
        flat = batch.obs.flatten(0, 1)
        policy = learner.target_policy(flat)
        if discrete:
            q = torch.stack([critic.of_all(flat) for critic in learner.target_critics]).amin(0)
            values = (policy.logits.softmax(1) * q).sum(1)
        else:
            actions = policy.mean[:, None] + policy.log_std.exp()[:, None] * torch.randn(len(flat), 6, ACT)
            clipped = actions.clamp(-1.0, 1.0)
            each = [[critic(flat, clipped[:, i]) for i in range(6)] for critic in learner.target_critics]
            values = torch.stack([torch.stack(one) for one in each]).amin(0).mean(0)
        expected = plain_targets(learner, batch, values.view(5, 10))
    torch.testing.assert_close(found["targets"][batch.valid], expected[batch.valid], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------- the update


def reference(learner, batch, found):
    """Losses of one update and the networks they are gradients of, from the formulas in float64."""
    policy, critics = copy.deepcopy(learner.policy).double(), copy.deepcopy(learner.critics).double()
    valid = batch.valid.flatten()
    obs = batch.obs[:-1].flatten(0, 1).double()[valid]
    actions, targets = batch.actions.flatten(0, 1)[valid], found["targets"].flatten().double()[valid]
    actions = actions if learner.discrete else actions.double()
    losses = {"loss/q": sum(0.5 * (critic(obs, actions) - targets).square().mean() for critic in critics)}
    q, eta = found["q_values"].double()[valid], learner.temperature().item()
    if learner.discrete:
        prior = found["log_prior"].double()[valid].exp()
        weights = prior * torch.exp(q / eta)
        weights = weights / weights.sum(1, keepdim=True)
        new = policy(obs).log_probs()
        losses["loss/policy"] = -(weights * new).sum(1).mean()
        kls = [(prior * (prior.log() - new)).sum(1).mean()]
    else:
        drawn = found["actions"].double()[valid]
        weights = torch.softmax(q / eta, 1)
        if learner.penalty_temperature is not None:
            cost = -(drawn - drawn.clamp(-1.0, 1.0)).norm(dim=-1)
            weights = weights + torch.softmax(cost / learner.penalty_temperature().item(), 1)
        old_mean, old_std = found["old_mean"].double()[valid], found["old_log_std"].double()[valid].exp()
        new = policy(obs)
        mean, std = new.mean, new.log_std.exp()
        fitted = td.Normal(mean[:, None], old_std[:, None]).log_prob(drawn) + td.Normal(
            old_mean[:, None], std[:, None]
        ).log_prob(drawn)
        losses["loss/policy"] = -(weights * fitted.sum(-1)).sum(1).mean()
        old = td.Normal(old_mean, old_std)
        kls = [
            td.kl_divergence(old, td.Normal(mean, old_std)).mean(0),
            td.kl_divergence(old, td.Normal(old_mean, std)).mean(0),
        ]
        if not learner.config.per_dimension_kl:
            kls = [kl.sum() for kl in kls]
    losses["loss/kl"] = sum(
        (alpha().double().detach() * kl).sum() for alpha, kl in zip(learner.alphas.values(), kls, strict=True)
    )
    return losses, kls, policy, critics


@pytest.mark.parametrize(
    ("discrete", "settings"),
    [
        (False, {"use_retrace": True}),
        (False, {"use_retrace": False, "per_dimension_kl": False, "action_penalty": False}),
        (False, {"use_retrace": True, "twin_critic": True}),
        (True, {"use_retrace": True}),
    ],
)
def test_losses_and_gradients_are_those_of_the_paper(discrete, settings):
    learner = moved(make_learner(discrete, init_log_alpha_stddev=20.0, **SGD, **settings))
    batch = make_batch(learner)
    torch.manual_seed(3)
    losses, kls, policy, critics = reference(learner, batch, learner._targets(batch))
    (losses["loss/q"] + losses["loss/policy"] + losses["loss/kl"]).backward()
    alphas = [alpha().detach().clone() for alpha in learner.alphas.values()]
    before = copy.deepcopy((learner.policy, learner.critics))
    torch.manual_seed(3)
    metrics = update(learner, batch)
    for name in ("loss/q", "loss/kl"):
        assert metrics[name] == pytest.approx(losses[name].item(), rel=1e-3), name
    for old, new, expected in zip(before, (learner.policy, learner.critics), (policy, critics), strict=True):
        for a, b, wanted in zip(old.parameters(), new.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a - b, wanted.grad.float(), rtol=2e-3, atol=2e-5)
    for alpha, old, kl in zip(learner.alphas.values(), alphas, kls, strict=True):
        moves = (alpha().detach() - old).double()
        assert torch.equal(moves > 0, kl > alpha.bound)  # a multiplier rises where its bound is broken


@both_kinds
def test_rows_that_are_no_transition_change_nothing(discrete):
    learners = [make_learner(discrete, use_retrace=True) for _ in range(2)]
    batch = make_batch(learners[0])
    poisoned = copy.deepcopy(batch)
    poisoned.rewards[~batch.valid] = 1e9
    poisoned.extras["behaviour_logp"][~batch.valid] = -1e3
    torch.manual_seed(1)
    first = update(learners[0], batch)
    torch.manual_seed(1)
    assert update(learners[1], poisoned) == first


@both_kinds
def test_the_kl_is_zero_right_after_the_targets_were_renewed(discrete):
    learner = make_learner(discrete)
    metrics = update(learner, make_batch(learner))
    assert (
        max(abs(value) for name, value in metrics.items() if name.startswith("kl/")) < 1e-7
    )  # 0 but for rounding


def test_several_policy_steps_use_one_e_step():
    learner = make_learner(target_networks_update_period=1_000)
    batch = make_batch(learner)
    torch.manual_seed(1)
    metrics = update(learner, batch, m_steps=5)
    assert metrics["kl/mean"] > 0 and learner.updates == 1
    assert learner.temperature().item() == pytest.approx(1.0 - 1e-2, abs=1e-4)  # Adam moved it once


def test_targets_follow_only_after_their_period():
    learner = make_learner(target_networks_update_period=3)
    batch = make_batch(learner)
    for number in range(1, 7):
        update(learner, batch)
        same = all(
            torch.equal(a, b)
            for a, b in zip(learner.policy.parameters(), learner.target_policy.parameters(), strict=True)
        )
        assert same == (number % 3 == 0)


def test_the_penalty_brings_means_back_within_the_bounds():
    """A critic that knows nothing leaves the mean where it is, outside; the penalty does not."""
    settings = {
        "policy_lr": 1e-2,
        "q_lr": 1e-12,
        "target_networks_update_period": 5,
        "log_std_init": np.log(0.3),
    }
    distances = {}
    for penalty in (False, True):
        learner = make_learner(
            action_penalty=penalty,
            mstep_kl_epsilon=0.1,
            init_log_alpha_mean=0.0,
            temperature_init=0.05,
            **settings,
        )
        with torch.no_grad():
            learner.policy.head.bias[:ACT] = 2.0
            learner.critics[0].head.weight.zero_()
        learner._renew_targets()
        for seed in range(60):
            update(learner, make_batch(learner, seed=seed))
        distances[penalty] = learner.policy(torch.zeros(1, OBS)).mean.mean().item() - 1.0
    assert distances[False] > 0.8 and distances[True] < 0.5


def test_multipliers_and_temperatures_start_in_real_units_and_stay_positive():
    learner = make_learner(
        temperature_init=0.3,
        init_log_alpha_mean=10.0,
        init_log_alpha_stddev=0.0,
        temperature_lr=1.0,
        lambda_lr=1.0,
    )
    assert learner.temperature().item() == pytest.approx(0.3)
    assert learner.alphas["mean"]()[0].item() == pytest.approx(10.0, abs=1e-3)
    assert learner.alphas["std"]()[0].item() == pytest.approx(
        np.log(2.0)
    )  # softplus of the documented raw value
    batch = make_batch(learner)
    for _ in range(30):
        update(learner, batch)
    assert all((dual() > 0).all() and torch.isfinite(dual()).all() for dual in learner._multipliers())


# ------------------------------------------------------------------------------------------- trouble


def test_a_batch_that_is_not_finite_is_skipped_counted_and_named():
    learner = make_learner()
    good, bad = make_batch(learner), make_batch(learner)
    bad.rewards[0, 0] = float("inf")
    before = copy.deepcopy(learner.policy.state_dict())
    with pytest.warns(RuntimeWarning, match="MPO: targets not finite, a batch is left out; 1 so far"):
        update(learner, bad)
    for _ in range(MOST_SKIPPED - 1):
        assert update(learner, bad)["train/skipped"] > 0
    assert (
        all(torch.equal(value, before[name]) for name, value in learner.policy.state_dict().items())
        and learner.updates == 0
    )
    with pytest.raises(NonFiniteError, match="targets not finite in 101 batches in a row"):
        update(learner, bad)
    update(learner, good)
    with pytest.warns(RuntimeWarning, match="102 so far"):
        update(learner, bad)  # the row of failures was broken


def test_a_loss_that_overflows_is_a_skipped_batch_too():
    learner = make_learner()
    batch = make_batch(learner)
    batch.rewards[0, 0] = 1e20
    before = copy.deepcopy(learner.critics.state_dict())
    with pytest.warns(RuntimeWarning, match="loss/q"):
        assert update(learner, batch)["train/skipped"] == 1
    assert (
        all(torch.equal(value, before[name]) for name, value in learner.critics.state_dict().items())
        and learner.updates == 0
    )


def test_limits_of_the_deviation_hide_nothing_and_hold_nothing():
    policy = GaussianPolicy(OBS, ACT, (8,))
    obs = torch.zeros(1, OBS)
    with torch.no_grad():
        policy.head.bias[ACT:] = torch.tensor([float("inf"), float("nan"), 5.0])
    log_std = policy(obs).log_std[0]
    assert torch.isposinf(log_std[0]) and torch.isnan(log_std[1]) and log_std[2] == 2.0
    for sign, gradient in ((1.0, 1.0), (-1.0, 0.0)):  # minimising σ leads back, maximising it leads away
        policy.head.bias.grad = None
        (sign * policy(obs).log_std[0, 2]).backward()
        assert policy.head.bias.grad[-1] == gradient


def test_the_policy_has_derivatives_by_torch_func():
    learner, obs = make_learner(), torch.randn(4, OBS)

    def spread(x):
        policy = learner.policy(x)
        return policy.log_std.sum() + policy.mean.sum()

    leaf = obs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(spread(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(spread)(obs), expected)
    tangent = torch.randn_like(obs)
    torch.testing.assert_close(torch.func.jvp(spread, (obs,), (tangent,))[1], (expected * tangent).sum())


def test_both_critics_of_a_twin_start_alike_in_size_but_not_equal():
    critics = make_learner(twin_critic=True).critics
    heads = [critic.head.weight.abs().max().item() for critic in critics]
    assert (
        max(heads) < 0.02
        and heads[0] != heads[1]
        and all(critic.head.bias.item() == 0.0 for critic in critics)
    )


def test_more_actions_for_the_expected_value_leave_the_e_step_as_it_was():
    learner = make_learner(use_retrace=True, action_samples=4, retrace_mc_actions=50)
    found = learner._targets(make_batch(learner))
    assert found["q_values"].shape == (40, 4) and found["actions"].shape == (40, 4, ACT)


@both_kinds
def test_an_agent_goes_on_exactly_from_its_state(discrete):
    first, second = make_learner(discrete, use_retrace=True), make_learner(discrete, use_retrace=True)
    batch = make_batch(first)
    for _ in range(3):
        update(first, batch)
    first.skipped = 4  # stands among the metrics
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    results = []
    for learner in (first, second):
        torch.manual_seed(5)
        results.append([update(learner, batch) for _ in range(3)])
    assert results[0] == results[1] and second.updates == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action_samples": 0}, "action_samples must be at least 1"),
        ({"retrace_steps": 0}, "retrace_steps must be at least 1"),
        ({"kl_epsilon": 0.0}, "kl_epsilon must be finite and above 0"),
        ({"optimizer_type": "adm"}, "did you mean 'adam'"),
        ({"policy_layer_sizes": ()}, "policy_layer_sizes"),
        ({"retrace_lambda": 1.5}, "retrace_lambda must be in"),
        ({"log_std_init": 4.0}, r"log_std_init must be in \[-18, 2\]"),
        ({"init_log_alpha_mean": -200.0}, "init_log_alpha_mean must be in"),
        ({"temperature_init": 1e-50}, "temperature_init must be in"),
        ({"lambda_init": 1e39}, "lambda_init must be"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        make_learner(**settings)


def test_one_observation_will_do_and_other_shapes_are_refused_by_name():
    agent = MPOAgent.of(make_learner())
    obs = np.random.default_rng(0).normal(size=(4, OBS)).astype(np.float32)
    many = agent.act(obs, deterministic=True)
    one_by_one = np.stack([agent.act(row, deterministic=True) for row in obs])
    np.testing.assert_allclose(one_by_one, many, rtol=1e-5, atol=1e-7)
    for wrong in (torch.zeros(OBS + 1), torch.zeros(2, OBS + 1), torch.zeros(1, 2, OBS)):
        message = rf"MPOAgent.act_with_logp: obs must have shape \[{OBS}\] or \[B, {OBS}\], got"
        with pytest.raises(ValueError, match=message):
            agent.act_with_logp(wrong)
