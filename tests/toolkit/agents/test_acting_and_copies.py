"""The toolkit's agents from outside: acting on raw observations, copies, schedules, torch's default dtype."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fastrl.envs import make_vector_env
from fastrl.errors import SettingError
from fastrl.toolkit.agents import PGAgent, agent_from_config
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import StateRunNorm
from fastrl.toolkit.models import PPOClipModel, ValueModel
from fastrl.toolkit.optimizers import JointOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.utils import linear_schedule


def make_agent(**settings):
    batcher = RolloutBatcher("CartPole-v1", 64, num_envs=2, **settings)
    network = Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=16), dict(func=nn.Tanh)]))
    models = [kind.from_config(network, batcher=batcher) for kind in (PPOClipModel, ValueModel)]
    return PGAgent(
        batcher, policy_model=models[0], value_model=models[1], optimizer=JointOpt(models), log_dir=None
    )


def test_raw_observations_are_acted_on_as_an_evaluation_acts():
    agent = make_agent(transforms=[StateRunNorm()])
    agent.train(max_iters=3)
    obs = 3.0 * torch.randn(5, 4)
    policy = agent.models.policy
    played = agent.batcher.actor(
        lambda state, deterministic: torch.as_tensor(policy.select_best_action(policy, state, 0))
    ).act(obs, deterministic=True)
    assert np.array_equal(agent.act(obs, deterministic=True), played.numpy())
    assert [int(agent.act(row.numpy(), deterministic=True)) for row in obs] == played.tolist()
    states = agent.batcher.transform_state(obs)
    assert np.array_equal(policy.select_best_action(policy, states[0], 0), played[0].numpy())
    torch.manual_seed(3)
    drawn = agent.act(obs)
    torch.manual_seed(3)
    assert np.array_equal(agent.select_action(states, 0), drawn)
    for wrong in (torch.zeros(3), torch.zeros(2, 5), torch.zeros(1, 2, 4)):
        with pytest.raises(ValueError, match=r"PGAgent.act: obs must have shape \[4\] or \[B, 4\], got"):
            agent.act(wrong)
        with pytest.raises(ValueError, match=r"select_action: state must have shape \[4\] or \[B, 4\], got"):
            agent.select_action(wrong, 0)


def test_copies_have_no_environments_until_they_are_given_some():
    agent = make_agent()
    other = copy.deepcopy(agent)
    with pytest.raises(
        SettingError, match="a copy has no environments, .* give it some by batcher.use_environments"
    ):
        other.train(max_iters=1)
    with pytest.raises(SettingError, match="env must have num_envs 2, got 1"):
        other.batcher.use_environments(make_vector_env("CartPole-v1", 1, seed=1))
    with pytest.raises(SettingError, match="env must have obs_shape"):
        other.batcher.use_environments(make_vector_env("Pendulum-v1", 2, seed=1))
    other.batcher.use_environments(make_vector_env("CartPole-v1", 2, seed=1))
    other.train(max_iters=1)
    assert (other.num_iters, agent.num_iters) == (1, 0)


def test_schedules_are_those_of_the_steps_before_the_rollout():
    agent = make_agent()
    agent.opt.lr_schedule = linear_schedule(1.0, 0.0, 1000)
    seen = []
    agent.models.policy.entropy_coef = lambda step: seen.append(step) or 0.0
    begun = []
    for _ in range(3):
        begun.append(agent.num_steps)
        agent.train(max_iters=agent.num_iters + 1)
        assert agent.opt.optimizer.param_groups[0]["lr"] == pytest.approx(1.0 - begun[-1] / 1000)
    assert sorted(set(seen)) == begun and begun[0] == 0


def test_another_default_dtype_is_refused():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(SettingError, match="torch.set_default_dtype"):
            agent_from_config(Config.from_default("PPOClip"), log_dir=None)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_network_that_is_compiled_while_it_is_trained_goes_on_learning_and_back():
    agent = make_agent()
    agent.train(max_iters=1)
    policy = agent.models.policy
    plain = policy.model
    for network in (torch.compile(plain, backend="eager"), plain):
        policy.model = network
        before = [parameter.detach().clone() for parameter in policy.parameters()]
        agent.train(max_iters=agent.num_iters + 1)
        assert not any(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
        assert "_network" not in dict(policy.named_children())
