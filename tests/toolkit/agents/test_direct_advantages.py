"""PGAgent with direct advantage estimation: whole environments, the policy that acted, learning, going on
exactly, mistakes."""

import pytest
import torch
from torch import nn

from fastrl.envs import GymEnv
from fastrl.errors import SettingError
from fastrl.losses.dae import advantage_scale, advantage_variance, centred_advantages, dae_loss
from fastrl.nn.distributions import Categorical
from fastrl.toolkit.agents import PGAgent, agent_from_config
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.models import A2CModel, AdvantageModel, PPOClipModel, ValueModel
from fastrl.toolkit.optimizers import JointOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.estimators.advantage import DAE

ENVS = 4


def network():
    return Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=16), dict(func=nn.Tanh)]))


def make_agent(
    cls=PPOClipModel, env="Identity-v0", *, gamma=0.9, share=False, passes=None, policy_passes=2, **settings
):
    torch.manual_seed(0)
    batcher = RolloutBatcher(env, 64, num_envs=ENVS, seed=1)
    policy, value = (
        cls.from_config(network(), batcher=batcher),
        ValueModel.from_config(network(), batcher=batcher),
    )
    body = value.body if share else None
    advantage = AdvantageModel.from_config(
        network(), batcher=batcher, body=body, value_model=value, gamma=gamma
    )
    opt = {"opt_params": {"lr": 0.01}, "clip_grad_norm": 0.5}
    estimator = DAE(SingleOpt(advantage, **opt | (passes or {"num_epochs": 4, "num_mini_batches": 2})))
    given = {
        "optimizer": SingleOpt(policy, num_epochs=policy_passes, num_mini_batches=policy_passes, **opt),
        "advantage": estimator,
    } | settings
    return PGAgent(batcher, policy_model=policy, value_model=value, log_dir=None, **given)


def weights(agent):
    return [value.clone() for model in agent.models.values() for value in model.state_dict().values()]


@pytest.mark.parametrize("cls", [A2CModel, PPOClipModel])
@pytest.mark.parametrize("env", ["Identity-v0", "IdentityContinuous-v0"])
def test_the_identity_is_learned(cls, env, capsys):
    agent = make_agent(
        cls, env, gamma=0.0, share=cls is A2CModel, policy_passes=1 if cls is A2CModel else 2
    )  # nothing holds A2C back
    before = agent.evaluate(GymEnv(env, seed=5), 8)["eval/return_mean"]
    agent.train(max_steps=16_000, log_freq=1_000)
    after = agent.evaluate(GymEnv(env, seed=5), 8)["eval/return_mean"]
    optimum = 16.0 if env == "Identity-v0" else 0.0
    assert after >= optimum - 0.25 * (optimum - before) and after > before


@pytest.mark.parametrize("env", ["ProofofMemory-v0", "IdentityContinuous-v0"])
def test_advantages_are_those_of_the_policy_that_acted_after_the_fit(env):
    agent = make_agent(env=env)
    rollout = agent.collect()
    policy, model = agent.models.policy, agent.models.advantage
    start = weights(agent)
    with torch.no_grad():
        acted = policy.create_dist(policy(rollout.state_t.flatten(0, 1)).unflatten(0, rollout.reward.shape))
    flat = agent.estimate(rollout)
    moved = [not torch.equal(*pair) for pair in zip(start, weights(agent), strict=True)]
    of_policy = len(policy.state_dict())
    assert not any(moved[:of_policy]) and all(
        moved[of_policy:]
    )  # the critic is fitted first, the policy waits
    with torch.no_grad():
        outputs = model(rollout.state_t.flatten(0, 1)).unflatten(0, rollout.reward.shape)
    raw = centred_advantages(outputs, acted, rollout.action)
    valid = rollout.valid
    scale = advantage_variance(outputs, acted)[valid].mean().sqrt()
    torch.testing.assert_close(flat.advantage, (raw / scale)[valid])  # and no mean taken out
    torch.testing.assert_close(advantage_scale(outputs, acted, valid), scale)
    assert rollout.advantage[~valid].eq(0.0).all()
    if env == "ProofofMemory-v0":
        assert not valid.all()


def test_mini_batches_are_whole_environments_and_the_loss_is_that_of_the_rollout():
    """What the model makes of the environments one by one, against the loss of the rollout as it lies."""
    agent = make_agent(env="ProofofMemory-v0", gamma=0.8, passes={"num_mini_batches": ENVS})
    model, seen = agent.models.advantage, []
    model.callbacks["mini_batch_start"].append(
        lambda batch: seen.append({key: batch[key].clone() for key in (*model.batch_keys, "idxs")})
    )
    rollout = agent.collect()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    agent.estimate(rollout)
    assert sorted(int(batch["idxs"]) for batch in seen) == list(range(ENVS))
    for batch in seen:
        env = int(batch["idxs"])
        assert torch.equal(batch["reward"][0], rollout.reward[:, env]) and torch.equal(
            batch["valid"][0], rollout.valid[:, env]
        )
        assert torch.equal(batch["state_t"][0], rollout.state_t[:, env])
        assert torch.equal(batch["state_value_t_and_tp1"][0], rollout.state_value_t_and_tp1[:, env])
    model.load_state_dict(before)
    with torch.no_grad():
        states = rollout.state_t.flatten(0, 1)
        outputs, values = (
            found.unflatten(0, rollout.reward.shape)
            for found in (model(states), model.value_model(states).flatten())
        )
        advantages = centred_advantages(outputs, Categorical(rollout.policy_t), rollout.action)
        given = (rollout.reward, rollout.state_value_t_and_tp1, rollout.terminated, rollout.truncated)
        expected, _ = dae_loss(advantages, values, *given, gamma=0.8, valid=rollout.valid)
        together = {key: torch.cat([batch[key] for batch in seen]) for key in model.batch_keys}
        found = model.dae_loss(type(rollout)(together))
    torch.testing.assert_close(found, expected)


def test_without_a_trace_every_sum_stops_at_the_next_value():
    """`dae_lambda` 0 against the sums of a rollout that is truncated at every step."""
    agent = make_agent(env="ProofofMemory-v0")
    model = agent.models.advantage
    rollout = agent.collect()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    agent.estimate(rollout)
    model.load_state_dict(before)
    found = {}
    everywhere = torch.ones_like(rollout.truncated)
    for name, dae_lambda, truncated in (
        ("none", 0.0, rollout.truncated),
        ("cut", 1.0, everywhere),
        ("whole", 1.0, rollout.truncated),
    ):
        model.dae_lambda = dae_lambda
        with torch.no_grad():
            found[name] = model.dae_loss(model.by_environment(rollout | {"truncated": truncated})).item()
    assert (
        found["none"] == pytest.approx(found["cut"], rel=1e-5) and abs(found["none"] - found["whole"]) > 1e-3
    )


def test_a_batch_without_a_transition_moves_nothing():
    agent = make_agent(env="ProofofMemory-v0")
    agent.estimate(agent.collect())
    rollout, start = agent.collect(), weights(agent)
    rollout.valid.zero_()
    assert len(agent.estimate(rollout)) == 0
    assert all(torch.equal(*pair) for pair in zip(start, weights(agent), strict=True))


def test_a_mini_batch_without_a_transition_moves_nothing(monkeypatch):
    agent = make_agent(passes={"num_epochs": 1, "num_mini_batches": ENVS})
    optimizer, steps = agent.advantage.optimizer, []
    monkeypatch.setattr(optimizer, "optimizer_step", lambda batch: steps.append(bool(batch.valid.any())))
    rollout = agent.collect()
    rollout.valid[:, 1] = False
    agent.estimate(rollout)
    assert steps == [True] * (ENVS - 1)


def test_rewards_on_reset_rows_count_for_nothing():
    found = []
    for reward in (0.0, 1e9):
        agent = make_agent(env="ProofofMemory-v0")
        rollout = agent.collect()
        rollout.reward[~rollout.valid] = reward
        agent.estimate(rollout)
        found.append(weights(agent))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_an_agent_goes_on_exactly_from_its_checkpoint(tmp_path, capsys):
    whole, first, second = (make_agent(env="ProofofMemory-v0") for _ in range(3))
    torch.manual_seed(7)
    whole.train(max_iters=4)
    torch.manual_seed(7)
    first.train(max_iters=2)
    first.save(tmp_path)
    second.load(tmp_path)
    second.train(max_iters=4)
    assert all(torch.equal(*pair) for pair in zip(weights(second), weights(whole), strict=True))


def test_what_does_not_fit_together_is_named():
    agent = make_agent()
    policy, value, estimator = agent.models.policy, agent.models.value, agent.advantage
    given = {"policy_model": policy, "advantage": estimator, "log_dir": None}
    with pytest.raises(SettingError, match="optimizer trains a parameter of the advantage or value model"):
        PGAgent(agent.batcher, value_model=value, optimizer=JointOpt([policy, value]), **given)
    with pytest.raises(
        SettingError, match="value_model must be the one that the advantage model is fitted together with"
    ):
        PGAgent(
            agent.batcher,
            value_model=ValueModel.from_config(network(), batcher=agent.batcher),
            optimizer=SingleOpt(policy),
            **given,
        )
    with pytest.raises(SettingError, match="optimizer must be a SingleOpt over one AdvantageModel"):
        DAE(SingleOpt(value))
    with pytest.raises(SettingError, match=r"gamma must be a number in \[0, 1\], got 2"):
        AdvantageModel.from_config(network(), batcher=agent.batcher, value_model=value, gamma=2)
    with pytest.raises(SettingError, match=r"dae_lambda must be a number in \[0, 1\], got -0.1"):
        AdvantageModel.from_config(network(), batcher=agent.batcher, value_model=value, dae_lambda=-0.1)
    with pytest.raises(SettingError, match="value_model must be a ValueModel, got PPOClipModel"):
        AdvantageModel.from_config(network(), batcher=agent.batcher, value_model=policy)
    with pytest.raises(ValueError, match="batch must have 'policy_t'"):
        estimator(agent.collect() | {"state_value_t_and_tp1": torch.zeros(17, ENVS)})


# --------------------------------------------------------------------------------------- from a file

TEXT = """
seed: 5
env: {func: fastrl.envs.GymEnv, env_name: Identity-v0, num_envs: 4}
batch_size: 64
policy_model: {func: fastrl.models.PPOClipModel}
value_model: {func: fastrl.models.ValueModel}
advantage_model: {func: fastrl.models.AdvantageModel, gamma: 0.5}
advantage_nn_config:
  body: [{func: torch.nn.Linear, out_features: 6}, {func: torch.nn.Tanh}]
optimizer: {num_epochs: 2, opt_params: {lr: 0.01}}
advantage_optimizer: {num_epochs: 3, num_mini_batches: 4, opt_params: {lr: 0.02}}
"""


def from_text(tmp_path, **changes):
    (tmp_path / "agent.yaml").write_text(TEXT)
    config = Config.load(tmp_path / "agent.yaml")
    config.update(changes)
    return agent_from_config(config, log_dir=None)


def test_a_file_describes_it(tmp_path, capsys):
    agent = from_text(tmp_path)
    model, optimizer = agent.models.advantage, agent.advantage.optimizer
    assert (
        model.gamma == 0.5
        and model.value_model is agent.models.value
        and model.body.layers[0].out_features == 6
    )
    assert (optimizer.num_epochs, optimizer.num_mini_batches) == (3, 4) and agent.opt.models == [
        agent.models.policy
    ]
    start = weights(agent)
    agent.train(max_iters=1)
    assert not any(torch.equal(*pair) for pair in zip(start, weights(agent), strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value_model": None}, "advantage_model: there is no value_model"),
        ({"advantage": {"func": "fastrl.utils.estimators.advantage.GAE"}}, "advantage must be left out"),
        ({"value_optimizer": {"num_epochs": 1}}, "value_optimizer must be left out"),
        (
            {"vtarget": {"func": "fastrl.utils.estimators.value.TDTarget", "gamma": 0.9}},
            "vtarget must be left out",
        ),
        (
            {"shared_body": True, "policy_nn_config": {"body": [{"func": "torch.nn.Tanh"}]}},
            "shared_body must be false",
        ),
        (
            {"advantage_model": {"func": "fastrl.models.ValueModel"}},
            "advantage_model: func must be a subclass of AdvantageModel",
        ),
        (
            {"advantage_model": {"func": "fastrl.models.AdvantageModel", "gamma": 2}},
            r"advantage_model: gamma must be a number in \[0, 1\]",
        ),
        ({"advantage_optimizer": {"num_epochs": 0}}, "advantage_optimizer: num_epochs must be at least 1"),
    ],
)
def test_the_entry_at_fault_is_named(tmp_path, changes, message):
    with pytest.raises(SettingError, match=f"^{message}"):
        from_text(tmp_path, **changes)
