"""V-MPO's agent and the learner in it: documented shapes, the update against a plain reference, invariants,
errors."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributions as td

from fastrl.errors import NonFiniteError, SettingError
from fastrl.trainers.vmpo import gradients
from fastrl.trainers.vmpo.agent import CategoricalPolicy, DiagonalGaussianPolicy, VMPOAgent
from fastrl.trainers.vmpo.batch import rows_from_batch

OBS, ACT = 5, 3
CPU = torch.device("cpu")


def make_agent(discrete=False, **settings):
    torch.manual_seed(0)
    settings = {
        "obs_dim": OBS,
        "act_dim": ACT,
        "policy_layer_sizes": (16,),
        "value_layer_sizes": (16,),
    } | settings
    return VMPOAgent(device=CPU, action_kind="discrete" if discrete else "continuous", **settings)


def make_batch(agent, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(rows, OBS)).astype(np.float32)
    action, _, first, second = agent.act(obs)
    acted = {"old_logits": first} if agent.learner.discrete else {"old_means": first, "old_log_stds": second}
    returns, advantages = rng.normal(size=(2, rows)).astype(np.float32)
    return {"obs": obs, "actions": action, "returns": returns, "advantages": advantages} | acted


both_kinds = pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])


# -------------------------------------------------------------------------------------------- acting


@pytest.mark.parametrize("shared", [False, True])
def test_gaussian_policy_has_its_documented_shapes(shared):
    policy = DiagonalGaussianPolicy(OBS, ACT, (8,), (8,), shared_encoder=shared)
    obs = torch.randn(7, OBS)
    mean, log_std, value = policy.forward_all(obs)
    assert mean.shape == log_std.shape == (7, ACT) and value.shape == (7, 1)
    torch.testing.assert_close(policy(obs)[0], mean)
    torch.testing.assert_close(policy.get_value(obs), value)
    assert policy.policy_logstd.shape == (1, ACT) and policy.policy_logstd_parameters() == [
        policy.policy_logstd
    ]
    action, log_prob = policy.sample_action(mean, log_std, deterministic=True)
    assert torch.equal(action, mean) and log_prob.shape == (7, 1)
    torch.testing.assert_close(policy.log_prob(mean, log_std, action), log_prob)
    assert mean.abs().max() < 0.1  # the mean head starts small


def test_parameters_belong_to_exactly_one_group():
    for shared in (False, True):
        policy = DiagonalGaussianPolicy(OBS, ACT, (8,), (8,), shared_encoder=shared)
        groups = policy.policy_parameters() + policy.value_parameters()
        assert sorted(map(id, groups)) == sorted(map(id, policy.parameters()))
        assert len(policy.value_parameters()) == (2 if shared else 4)


@both_kinds
def test_act_takes_one_observation_or_a_batch(discrete):
    agent = make_agent(discrete)
    obs = np.random.default_rng(0).normal(size=(4, OBS)).astype(np.float32)
    action, value, first, second = agent.act(obs, deterministic=True)
    assert (
        action.shape == ((4,) if discrete else (4, ACT)) and value.shape == (4,) and first.shape == (4, ACT)
    )
    assert second.shape == ((4, 0) if discrete else (4, ACT))
    one_action, one_value, one_first, _ = agent.act(obs[2], deterministic=True)
    np.testing.assert_allclose(one_action, action[2], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(one_first, first[2], rtol=1e-5, atol=1e-7)
    assert isinstance(one_value, float) and one_value == pytest.approx(float(value[2]), rel=1e-5)
    assert agent.value(obs[2]) == pytest.approx(one_value) and agent.value(obs).shape == (4,)


@pytest.mark.parametrize("method", ["act", "value"])
def test_the_shape_of_observations_is_named(method):
    with pytest.raises(ValueError, match=rf"{method}: obs must have shape \[5\] or \[B, 5\], got \[4\]"):
        getattr(make_agent(), method)(np.zeros(4))


def test_an_action_out_of_range_is_named():
    agent = make_agent(discrete=True)
    with pytest.raises(ValueError, match="actions must be 0 to 2, got 0 to 7"):
        agent.update(make_batch(agent) | {"actions": np.array([7] + [0] * 39)})


def test_categorical_policy_maps_to_logits():
    assert CategoricalPolicy(OBS, ACT, (8,))(torch.zeros(2, OBS)).shape == (2, ACT)


# ---------------------------------------------------------------------------------------- the update


def reference(agent, batch):
    """Losses of the first M-step and the policy they are gradients of, from the paper's formulas in
    float64."""
    tensors = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in batch.items()}
    policy = copy.deepcopy(agent.policy).double()
    advantages = tensors["advantages"]
    advantages = (advantages - advantages.mean()) / advantages.std(correction=0)
    best = advantages.argsort(descending=True)[
        : max(1, math.floor(agent.learner.config.topk_fraction * len(advantages)))
    ]
    eta = agent.learner.temperature().item()
    exponentials = torch.exp(advantages[best] / eta)
    if agent.learner.discrete:
        new = td.Categorical(logits=policy(tensors["obs"]))
        kls = [td.kl_divergence(td.Categorical(logits=tensors["old_logits"]), new).mean()]
    else:
        mean, log_std = policy(tensors["obs"])
        new = normal(mean, log_std.exp())
        old_mean, old_std = tensors["old_means"], tensors["old_log_stds"].exp()
        kls = [
            td.kl_divergence(normal(old_mean, old_std), normal(mean, old_std)).mean(),
            td.kl_divergence(normal(old_mean, old_std), normal(old_mean, log_std.exp())).mean(),
        ]
    losses = {
        "loss/policy": -(exponentials / exponentials.sum() * new.log_prob(tensors["actions"])[best]).sum(),
        "loss/value": 0.5
        * (policy.get_value(tensors["obs"]).squeeze(-1) - tensors["returns"]).square().mean(),
        "loss/kl": sum(
            alpha().item() * kl for alpha, kl in zip(agent.learner.alphas.values(), kls, strict=True)
        ),
        "loss/dual": eta * agent.learner.config.epsilon_eta + eta * torch.log(exponentials.mean()),
    }
    return losses, policy


def normal(mean, std):
    return td.Independent(td.Normal(mean, std), 1)


@both_kinds
@pytest.mark.parametrize("block", [1024, 7], ids=["one block", "several blocks"])
def test_losses_and_gradients_are_those_of_the_paper(discrete, block, monkeypatch):
    monkeypatch.setattr(gradients, "ROWS_PER_BLOCK", block)
    agent = make_agent(
        discrete, max_grad_norm=1e9, optimizer_type="sgd", sgd_momentum=0.0, policy_lr=1.0, value_lr=1.0
    )
    batch = make_batch(agent)
    with torch.no_grad():  # away from π_old, so that the KL has a gradient
        for parameter in agent.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    losses, policy = reference(agent, batch)
    (losses["loss/policy"] + losses["loss/value"] + losses["loss/kl"]).backward()
    before = copy.deepcopy(agent.policy)
    metrics = agent.update(batch)
    for name, loss in losses.items():
        assert metrics[name] == pytest.approx(loss.item(), rel=1e-4), name
    for old, new, expected in zip(
        before.parameters(), agent.policy.parameters(), policy.parameters(), strict=True
    ):
        torch.testing.assert_close(
            old - new, expected.grad.float(), rtol=1e-3, atol=1e-5
        )  # plain SGD with rate 1 moves by the gradient


@both_kinds
def test_kl_is_zero_before_the_first_step_of_every_update(discrete):
    agent = make_agent(discrete)
    for seed in range(3):
        metrics = agent.update(make_batch(agent, seed=seed))
        kls = [value for name, value in metrics.items() if name.startswith("kl/")]
        assert len(kls) == len(agent.learner.alphas)
        assert max(map(abs, kls)) < 1e-10


@both_kinds
@pytest.mark.parametrize("m_steps", [1, 3])
def test_leaving_out_a_kl_that_is_zero_changes_nothing(discrete, m_steps):
    """Rows marked `unmoved` give the step that evaluating the policy on all rows gives."""
    settings = dict(optimizer_type="sgd", sgd_momentum=0.0, m_steps=m_steps)
    agents = [make_agent(discrete, **settings) for _ in range(2)]
    rows = rows_from_batch(make_batch(agents[0]), obs_dim=OBS, act_dim=ACT, discrete=discrete, device=CPU)
    metrics = [agents[0].learner.learn(rows), agents[1].learner.learn(replace(rows, unmoved=True))]
    for name, value in metrics[0].items():
        torch.testing.assert_close(value, metrics[1][name], rtol=1e-4, atol=1e-6, msg=name)
    for one, other in zip(agents[0].policy.parameters(), agents[1].policy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@both_kinds
def test_rows_that_are_no_transition_change_nothing(discrete):
    agents = [make_agent(discrete, m_steps=3) for _ in range(2)]
    batch = make_batch(agents[0])
    valid = np.arange(40) % 4 != 1
    poisoned = {name: value.copy() for name, value in batch.items()} | {"valid": valid}
    for name in ("obs", "returns", "advantages"):
        poisoned[name][~valid] = np.nan if name == "obs" else 1e9
    clean = {name: value[valid] for name, value in batch.items()}
    assert agents[0].update(clean) == agents[1].update(poisoned)
    for one, other in zip(agents[0].policy.parameters(), agents[1].policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_policy_moves_towards_the_better_actions():
    agent = make_agent(policy_lr=1e-2)
    obs = np.zeros((64, OBS), dtype=np.float32)
    actions, _, means, log_stds = agent.act(obs)
    advantages = actions[:, 0]  # a larger first component is better, the others do not matter
    for _ in range(20):
        agent.update(
            dict(
                obs=obs,
                actions=actions,
                returns=np.zeros(64),
                advantages=advantages,
                old_means=means,
                old_log_stds=log_stds,
            )
        )
    assert agent.act(obs[0], deterministic=True)[0][0] > means[0, 0] + 0.2


def test_importance_weights_of_zero_effect_and_of_large_effect():
    base, ones, skewed = make_agent(), make_agent(), make_agent()
    batch = make_batch(base)
    metrics = base.update(batch)
    assert ones.update(batch | {"importance_weights": np.ones(40)})["loss/policy"] == pytest.approx(
        metrics["loss/policy"], rel=1e-6
    )
    weights = np.full(40, 1e-6)
    weights[int(np.argmax(batch["advantages"]))] = 1.0  # all of ψ on the best row
    assert skewed.update(batch | {"importance_weights": weights})["vmpo/ess"] == pytest.approx(
        1 / 20, rel=1e-3
    )


def test_multipliers_follow_the_kl():
    agent = make_agent(m_steps=30, policy_lr=1e-2, alpha_lr=0.1, epsilon_mu=1e-4, epsilon_sigma=1e3)
    metrics = agent.update(make_batch(agent))
    assert metrics["kl/mean"] > 1e-4 and agent.learner.alphas["mean"]().item() > 1.0  # far above its bound
    assert agent.learner.alphas["std"]().item() < 1.0  # far below its bound
    assert all(alpha().item() > 0 for alpha in agent.learner.alphas.values())


def test_kl_stop_leaves_out_the_remaining_steps():
    stopped = make_agent(m_steps=50, policy_lr=1e-3, kl_stop=1.0, epsilon_mu=1e-3)
    free = make_agent(m_steps=50, policy_lr=1e-3, epsilon_mu=1e-3)
    batch = make_batch(stopped)
    metrics = stopped.update(batch)
    assert 1 < metrics["vmpo/m_steps"] < 50
    assert (
        metrics["vmpo/kl_mean_rel"] > 1.0
    )  # the KL that was found above its bound, on which no step was taken
    again = make_agent(m_steps=int(metrics["vmpo/m_steps"]), policy_lr=1e-3, epsilon_mu=1e-3)
    again.update(batch)
    assert all(
        torch.equal(one, other)
        for one, other in zip(stopped.policy.parameters(), again.policy.parameters(), strict=True)
    )
    assert free.update(batch)["vmpo/m_steps"] == 50


def test_the_first_step_is_taken_however_far_the_policy_is_from_the_one_that_acts():
    agent = make_agent(m_steps=3, policy_lr=1e-2, kl_stop=1.0, epsilon_mu=1e-6, target_update_period=10)
    batch = make_batch(agent)
    agent.update(batch)
    metrics = agent.update(batch)
    assert metrics["vmpo/kl_mean_rel"] > 1.0 and metrics["vmpo/m_steps"] == 1


def test_a_policy_that_another_one_replaces_lends_its_statistics_to_the_one_that_acts():
    learner = make_agent(target_update_period=2).learner
    learner.policy = copy.deepcopy(learner.policy)
    learner.follow()
    assert learner.acting_policy.obs_normalizer is learner.policy.obs_normalizer


def test_act_returns_copies():
    agent = make_agent()
    action, _, mean, log_std = agent.act(np.zeros((2, OBS)), deterministic=True)
    action += 5.0
    log_std += 5.0
    assert abs(mean).max() < 1.0 and agent.policy.policy_logstd.abs().max() == 0.0


@pytest.mark.parametrize("period", [1, 4])
def test_the_standard_deviation_starts_where_it_is_told_to(period):
    agent = make_agent(log_std_init=-1.5, target_update_period=period)
    np.testing.assert_array_equal(agent.act(np.zeros((2, OBS)))[3], np.full((2, ACT), -1.5, dtype=np.float32))
    assert agent.policy.policy_logstd.tolist() == [[-1.5] * ACT]
    make_agent(discrete=True, log_std_init=-1.5)  # has none, and says nothing


def test_observations_pass_unclipped_until_somebody_normalises():
    agent = make_agent()
    far, farther = (agent.act(np.full(OBS, size), deterministic=True)[2] for size in (0.2, 40.0))
    assert not np.array_equal(far, farther)
    assert agent.policy.obs_normalizer(torch.full((1, OBS), 1e4)).max() > 9e3


def test_statistics_first_used_while_acting_can_be_learned_through():
    agent = make_agent()
    with torch.inference_mode():
        agent.policy.distribution(torch.zeros(1, OBS))
    obs = torch.zeros(1, OBS, requires_grad=True)
    agent.policy.distribution(obs).mean.sum().backward()
    assert obs.grad is not None


def test_explained_variance_is_that_of_the_value_function_whatever_the_advantages():
    agent = make_agent()
    batch = make_batch(agent)
    residuals = batch["returns"] - agent.value(batch["obs"])
    expected = 1 - residuals.var() / batch["returns"].var()
    for scale in (1.0, 100.0):
        fresh = make_agent()
        assert fresh.update(batch | {"advantages": scale * batch["advantages"]})[
            "train/explained_variance"
        ] == pytest.approx(expected, rel=1e-4)


def test_a_learning_rate_given_anew_holds_after_loading():
    source = make_agent(policy_lr=1e-3, alpha_lr=1e-3)
    source.update(make_batch(source))
    changed = make_agent(policy_lr=1e-5, alpha_lr=1e-1)
    changed.load_state_dict(copy.deepcopy(source.state_dict()))
    assert (
        changed.learner.optimizer.param_groups[0]["lr"] == 1e-5
        and changed.learner.alpha_optimizer.param_groups[0]["lr"] == 1e-1
    )


def test_acting_policy_stays_for_its_period_and_shares_the_observation_statistics():
    agent = make_agent(target_update_period=3)
    obs = np.ones(OBS, dtype=np.float32)
    first = agent.act(obs, deterministic=True)[0]
    batch = make_batch(agent)
    for update in range(1, 4):
        agent.update(batch)
        assert np.array_equal(agent.act(obs, deterministic=True)[0], first) == (update < 3)
    agent.policy.obs_normalizer.update(torch.randn(50, OBS) * 5)
    assert agent.learner.acting_policy.obs_normalizer is agent.policy.obs_normalizer


# ---------------------------------------------------------------------------------- state and errors


@both_kinds
@pytest.mark.parametrize("period", [1, 2])
def test_state_dict_continues_bit_for_bit(discrete, period):
    source = make_agent(discrete, target_update_period=period)
    batches = [make_batch(source, seed=seed) for seed in range(4)]
    for batch in batches[:2]:
        source.update(batch)
    copied = make_agent(discrete, target_update_period=period)
    copied.update(batches[3])  # its own history must not matter
    copied.load_state_dict(copy.deepcopy(source.state_dict()))
    for batch in batches[2:]:
        assert source.update(batch) == copied.update(batch)
    for one, other in zip(source.policy.parameters(), copied.policy.parameters(), strict=True):
        assert torch.equal(one, other)


@both_kinds
def test_a_number_that_is_not_finite_stops_before_the_parameters_change(discrete):
    agent = make_agent(discrete)
    batch = make_batch(agent)
    agent.update(batch)
    before, temperature = copy.deepcopy(agent.policy.state_dict()), agent.learner.temperature().item()
    with pytest.raises(NonFiniteError, match="loss/value.* in update 1"):
        agent.update(batch | {"returns": np.full(40, np.nan, dtype=np.float32)})
    with pytest.raises(NonFiniteError, match="loss/dual"):
        agent.update(batch | {"advantages": np.full(40, np.inf, dtype=np.float32)})
    assert all(torch.equal(value, before[name]) for name, value in agent.policy.state_dict().items())
    assert agent.learner.temperature().item() == temperature


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dae_epochs": 0}, "dae_epochs"),
        ({"advantage_estimator": "gea"}, "did you mean 'gae'"),
        ({"optimizer_type": "adm"}, "optimizer_type.*did you mean 'adam'"),
        ({"topk_fraction": 0.0}, "topk_fraction"),
        ({"gamma": 1.5}, "gamma"),
        ({"gae_lambda": -0.1}, "gae_lambda"),
        ({"m_steps": 0}, "m_steps"),
        ({"obs_dim": 0}, "obs_dim"),
        ({"target_update_period": 0}, "target_update_period"),
        ({"temperature_init": 0.0}, "temperature_init"),
        ({"alpha_mu_init": -1.0}, "alpha_mu_init"),
        ({"epsilon_mu": 0.0}, "epsilon_mu"),
        ({"policy_lr": -1.0}, "policy_lr"),
    ],
)
def test_bad_settings_are_one_sentence_naming_the_setting(setting, message):
    with pytest.raises(SettingError, match=message):
        make_agent(**setting)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((40, 4))}, r"obs must have shape \[40, 5\], got \[40, 4\]"),
        ({"actions": np.zeros(40)}, r"actions must have shape \[40, 3\]"),
        ({"old_log_stds": np.zeros((2, 3))}, r"old_log_stds must have shape \[40, 3\] or \[1, 3\]"),
        ({"valid": np.zeros(40, dtype=bool)}, "valid marks no row"),
        ({"importance_weights": np.zeros(40)}, "importance_weights must be above 0"),
    ],
)
def test_bad_batches_are_named(change, message):
    agent = make_agent()
    with pytest.raises(ValueError, match=message):
        agent.update(make_batch(agent) | change)


def test_a_missing_key_is_named():
    agent = make_agent()
    batch = make_batch(agent)
    del batch["advantages"]
    with pytest.raises(ValueError, match="no 'advantages'"):
        agent.update(batch)


def test_state_independent_log_std_may_come_as_one_row():
    agent = make_agent()
    batch = make_batch(agent)
    rows = rows_from_batch(
        batch | {"old_log_stds": batch["old_log_stds"][:1]},
        obs_dim=OBS,
        act_dim=ACT,
        discrete=False,
        device=CPU,
    )
    assert len(rows) == 40 and rows.acted.log_std.shape == (40, ACT)
