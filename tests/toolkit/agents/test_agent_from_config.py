"""An agent from one configuration: all defaults train, files make the same agent again, and mistakes are laid
at the right entry."""

import pytest
import torch

from fastrl.envs import GymEnv, make_vector_env
from fastrl.errors import SettingError
from fastrl.toolkit.agents import PGAgent, agent_from_config
from fastrl.toolkit.batchers.transforms import RewardConstScaler, StateRunNorm
from fastrl.toolkit.models import PPOClipModel, ValueModel
from fastrl.toolkit.optimizers import JointOpt, ListOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.estimators import advantage
from fastrl.toolkit.utils.utils import env_from_config

NAMES = ["A2C", "PPOAdaptive", "PPOClip", "SurrogatePG", "VanillaPG"]

TEXT = """
seed: 5
env: {func: fastrl.envs.GymEnv, env_name: Identity-v0, num_envs: 4}
batch_size: 32
transforms:
  - {func: fastrl.batchers.transforms.StateRunNorm, clip_range: 3.0}
  - {func: fastrl.batchers.transforms.RewardConstScaler, factor: 0.5}
policy_nn_config:
  body: [{func: torch.nn.Linear, out_features: 8}, {func: torch.nn.Tanh}]
policy_model:
  func: fastrl.models.PPOClipModel
  ppo_clip_range: {func: fastrl.utils.utils.linear_schedule, initial: 0.2, final: 0.1, final_step: 1000}
value_nn_config:
  body: [{func: torch.nn.Linear, out_features: 6}, {func: torch.nn.Tanh}]
value_model: {func: fastrl.models.ValueModel, clip_range: 0.2}
optimizer:
  num_epochs: 2
  num_mini_batches: 2
  opt_fn: torch.optim.RMSprop
  opt_params: {lr: 0.01}
  lr_schedule: {func: fastrl.utils.utils.linear_schedule, initial: 0.01, final: 0.0, final_step: 1000}
  loss_coef: [1.0, 0.5]
advantage: {func: fastrl.utils.estimators.advantage.GAE, gamma: 0.5, gae_lambda: 0.9}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(TEXT)
    return path


def make(file, **changes):
    config = Config.load(file)
    config.update(changes)
    return agent_from_config(config, log_dir=None)


def weights(agent):
    return [value for model in agent.models.values() for value in model.state_dict().values()]


def parameters(agent):
    return [value for model in agent.models.values() for value in model.parameters()]


def same(one, other):
    return all(torch.equal(mine, its) for mine, its in zip(weights(one), weights(other), strict=True))


STRANGER = """
import gymnasium as gym
from pathlib import Path
from fastrl.envs.single import SingleEnv
Path("canary").write_text("")
def make():
    return SingleEnv("Identity-v0")
"""


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"func": "fastrl.envs.GymEnv", "env_name": "stranger_module:make"}},
        {"env": {"func": "fastrl.envs.single.SingleEnv", "env_id": "stranger_module:make"}},
        {
            "env": {
                "func": "fastrl.envs.GymEnv",
                "env_name": "Identity-v0",
                "wrappers": [{"func": "fastrl.envs.GymEnv", "env_name": "stranger_module:make"}],
            }
        },
    ],
)
def test_a_configuration_imports_no_module_unless_it_is_trusted(file, change, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger_module.py").write_text(STRANGER)
    config = Config.load(file)
    config.update(change)
    with pytest.raises(SettingError):
        agent_from_config(config, log_dir=None)
    assert not (tmp_path / "canary").exists()


def test_a_module_that_the_user_names_or_trusts_is_imported(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger_module.py").write_text(STRANGER)
    config = Config.load(file)
    config.env = {"func": "fastrl.envs.GymEnv", "env_name": "stranger_module:make", "num_envs": 4}
    with pytest.raises(
        SettingError,
        match="env: .* would import the module 'stranger_module', which runs its code; .* say trust=True",
    ):
        agent_from_config(config, log_dir=None)
    with pytest.raises(SettingError, match="say trust=True"):
        env_from_config(config)
    for agent in (
        agent_from_config(config, log_dir=None, trust=True),
        agent_from_config(file, env="stranger_module:make", log_dir=None),
    ):
        agent.train(max_iters=1)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_default_trains(name, capsys):
    config = Config.from_default(name)
    config.seed = 1
    before = config.as_dict()
    agent = agent_from_config(config, env=GymEnv("CartPole-v1"), log_dir=None)
    start = [value.detach().clone() for value in parameters(agent)]
    agent.train(max_iters=3)
    assert config.as_dict() == before  # a configuration serves any number of agents
    assert (
        type(agent) is PGAgent
        and agent.models.policy.name == f"{name}Model"
        and agent.batcher.env.num_envs == config.env.num_envs
    )
    assert config.batch_size * 2 < agent.num_steps <= config.batch_size * 3
    moved = [not torch.equal(mine, its) for mine, its in zip(parameters(agent), start, strict=True)]
    assert all(moved) and all(torch.isfinite(value).all() for value in weights(agent))
    assert type(agent.opt) is (ListOpt if name in ("SurrogatePG", "VanillaPG") else JointOpt)


def test_every_entry_arrives(file):
    agent = agent_from_config(file, log_dir=None)
    first, second = agent.batcher.transforms
    assert (
        isinstance(first, StateRunNorm)
        and first.clip_range == 3.0
        and isinstance(second, RewardConstScaler)
        and second.factor == 0.5
    )
    assert (agent.batcher.batch_size, agent.batcher.env.num_envs, agent.batcher.env.name) == (
        32,
        4,
        "Identity-v0",
    )
    policy, value = agent.models.policy, agent.models.value
    assert (
        type(policy) is PPOClipModel
        and policy.body.layers[0].out_features == 8
        and policy.ppo_clip_range(500) == pytest.approx(0.15)
    )
    assert type(value) is ValueModel and value.body.layers[0].out_features == 6 and value.clip_range(0) == 0.2
    opt = agent.opt
    assert type(opt.optimizer) is torch.optim.RMSprop and opt.lr_schedule(500) == pytest.approx(0.005)
    assert (opt.num_epochs, opt.num_mini_batches, [coef(0) for coef in opt.loss_coefs]) == (2, 2, [1.0, 0.5])
    assert agent.advantage == advantage.GAE(0.5, 0.9) and agent.normalize_advantages is True


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_saved_configuration_makes_the_same_agent(file, tmp_path, suffix, capsys):
    Config.load(file).save(tmp_path / f"again{suffix}")
    one, other = (
        agent_from_config(file, log_dir=None),
        agent_from_config(tmp_path / f"again{suffix}", log_dir=None),
    )
    assert same(one, other)
    for agent in (one, other):
        torch.manual_seed(7)
        agent.train(max_iters=2)
    assert same(one, other)


def test_an_agent_of_the_same_configuration_takes_a_checkpoint(file, tmp_path, capsys):
    first, second = make(file), make(file)
    first.train(max_iters=2)
    second.train(max_iters=1)
    first.save(tmp_path)
    assert not same(first, second)
    second.load(tmp_path)
    assert same(first, second) and second.num_steps == first.num_steps
    for agent in (first, second):
        torch.manual_seed(7)
        agent.train(max_iters=4)
    assert same(first, second)


def test_a_body_can_be_shared(file, capsys):
    agent = make(file, shared_body=True)
    assert (
        agent.models.value.body is agent.models.policy.body
        and agent.models.value.head is not agent.models.policy.head
    )
    agent.train(max_iters=2)
    lonely = Config.load(file)
    del lonely.value_nn_config  # the value's body comes from the policy
    lonely.shared_body = True
    assert agent_from_config(lonely, log_dir=None).models.value.body.layers[0].out_features == 8


def test_without_a_value_model_the_policy_learns_alone(file, capsys):
    config = Config.load(file)
    for name in ("value_model", "value_nn_config"):
        config.pop(name)
    config.optimizer.loss_coef = 1.0
    config.advantage = {"func": "fastrl.utils.estimators.advantage.CompleteReturn", "gamma": 0.9}
    agent = agent_from_config(config, log_dir=None)
    agent.train(max_iters=2)
    assert "value" not in agent.models and type(agent.opt) is SingleOpt


def test_environments_can_be_given_in_place_of_the_configurations(file):
    config = Config.load(file)
    del config.env
    for env in ("CartPole-v1", GymEnv("CartPole-v1"), make_vector_env("CartPole-v1", 1, seed=1)):
        agent = agent_from_config(config, env=env, log_dir=None)
        assert agent.batcher.env.name == "CartPole-v1" and agent.batcher.get_state_info().shape == (4,)
    with pytest.raises(SettingError, match="^env: the configuration has no section 'env'"):
        agent_from_config(config, log_dir=None)


def test_bundles_of_transforms_go_by_name(file):
    assert [type(transform).__name__ for transform in make(file, transforms="mujoco").batcher.transforms] == [
        "StateRunNorm",
        "RewardRunScaler",
    ]


LINEAR = {"func": "torch.nn.Linear", "out_features": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"polcy_model": 1},
            "polcy_model is no entry of an agent's configuration; did you mean 'policy_model'?",
        ),
        ({"policy_model": None}, "policy_model is missing in the configuration"),
        ({"batch_size": 30}, "batch_size must be a multiple of the 4 environments, got 30"),
        ({"batch_size": 32.5}, "batch_size must be a whole number of at least 1, got 32.5"),
        ({"seed": -1}, "seed.* must be a whole number in"),
        ({"seed": "five"}, "seed.* must be a whole number in .*, got 'five'"),
        ({"device": "tea"}, "device: "),
        (
            {"env": {"func": "fastrl.envs.GymEnv", "env_name": "CartPol-v1"}},
            "env: .*did you mean 'CartPole-v1'",
        ),
        ({"env": {"func": "os.system", "env_name": "ls"}}, "env: 'os.system' must be the dotted name"),
        (
            {"env": {"func": "fastrl.envs.GymEnv", "env_name": "CartPole-v1", "num_envs": 0}},
            "env: num_envs must be a whole number",
        ),
        ({"transforms": "mujocco"}, "transforms: must be a list, or one of .*; did you mean 'mujoco'?"),
        ({"transforms": [LINEAR]}, "transforms: func must be a subclass of Transform, got Linear"),
        (
            {"policy_model": {"func": "fastrl.models.PPOClpModel"}},
            "policy_model: there is no 'fastrl.models.PPOClpModel'",
        ),
        (
            {"policy_model": {"func": "fastrl.models.ValueModel"}},
            "policy_model: func must be a subclass of BasePGModel, got ValueModel",
        ),
        ({"policy_model": {"func": "fastrl.models.PPOClipModel", "clip": 1}}, "policy_model: .*'clip'"),
        ({"value_model": "fastrl.models.ValueModel"}, "value_model: must be a mapping with 'func'"),
        (
            {"policy_nn_config": {"body": [dict(LINEAR, colour=1)]}},
            "policy_nn_config: body, layer 0: Linear cannot be made: .*colour",
        ),
        (
            {"value_nn_config": {"boddy": []}},
            "value_nn_config: config of a network has body and head, got 'boddy'",
        ),
        ({"optimizer": {"num_epochs": 0}}, "optimizer: num_epochs must be at least 1"),
        (
            {"optimizer": {"opt_fn": "torch.nn.Linear"}},
            "optimizer: opt_fn must be a class of torch.optim, got 'torch.nn.Linear'",
        ),
        ({"optimizer": {"opt_params": {"speed": 1}}}, "optimizer: .*'speed'"),
        (
            {"value_optimizer": {"num_mini_batches": 0}},
            "value_optimizer: num_mini_batches must be at least 1",
        ),
        (
            {"value_optimizer": {}, "shared_body": True},
            "value_optimizer: a shared body is trained by one optimizer",
        ),
        (
            {"shared_body": True, "value_model": None},
            "shared_body: there is no value_model to share the body with",
        ),
        ({"shared_body": "yes"}, "shared_body must be true or false, got 'yes'"),
        ({"normalize_advantages": "no"}, "normalize_advantages must be true or false, got 'no'"),
        (
            {"value_model": None, "optimizer": {}},
            "value_model must be given, since advantage GAE needs values",
        ),
        ({"env": LINEAR}, "env: .*Linear"),
        (
            {"advantage": {"func": "fastrl.utils.estimators.advantage.GAE", "gamma": 2}},
            r"advantage: gamma must be a number in \[0, 1\]",
        ),
        (
            {"vtarget": {"func": "torch.nn.Linear"}},
            "vtarget: func must be a subclass of Estimator, got Linear",
        ),
    ],
)
def test_the_entry_at_fault_is_named(file, changes, message):
    changes = dict(changes)
    if "value_optimizer" in changes:
        changes["optimizer"] = {}
    with pytest.raises(SettingError, match=f"^{message}"):
        make(file, **changes)
