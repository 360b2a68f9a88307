"""The network of PPO-TrXL: observations of all kinds, branches, reconstruction, copies."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from trxl_cases import (
    counters,
    make_trainer,
    one_round,
)

from fastrl.errors import SettingError
from fastrl.trainers.ppo_trxl.trainer import TrXLAgent


class Pictures(gym.Env):
    """Random pictures, and two branches of actions."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 3), np.uint8)
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def __init__(self):
        self.spec = None
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.integers(0, 256, (84, 84, 3), dtype=np.uint8), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action))
        self.steps += 1
        return (
            self.np_random.integers(0, 256, (84, 84, 3), dtype=np.uint8),
            float(action[0] == 2),
            self.steps == 5,
            False,
            {},
        )


def test_pictures_branches_and_reconstruction():
    settings = {
        "reconstruction_coef": 0.1,
        "max_episode_steps": 6,
        "num_envs": 2,
        "num_steps": 8,
        "target_kl": 10.0,
    }
    with make_trainer(Pictures, **settings) as trainer:
        metrics = one_round(trainer)
        assert 0 < metrics["loss/reconstruction"] and metrics["train/epochs"] == 2
        assert trainer.rollout.extras["log_probs"].shape == (8, 2, 2)
        agent = trainer.learner.agent
        with pytest.raises(RuntimeError, match="call get_action_and_value first"):
            agent.reconstruct_observation()
        obs, nothing = trainer.collected.collector.obs, torch.zeros(2, 4, dtype=torch.bool)
        action, log_prob, entropy, value, memory = agent.get_action_and_value(
            obs, torch.zeros(2, 4, 2, 8), nothing, nothing.long()
        )
        assert (
            action.shape == log_prob.shape == (2, 2)
            and entropy.shape == value.shape == (2,)
            and memory.shape == (2, 2, 8)
        )
        seen = agent.reconstruct_observation()
        assert seen.shape == obs.shape and 0 <= seen.min() and seen.max() <= 1
        assert trainer.evaluate(2)["eval/length_mean"] == 5


SIZES = {
    "trxl_num_layers": 1,
    "trxl_num_heads": 1,
    "trxl_dim": 8,
    "trxl_positional_encoding": "none",
    "max_episode_steps": 5,
}


def look(agent, obs):
    """The modules on observations that have nothing in memory."""
    nothing = torch.zeros(len(obs), 2, dtype=torch.bool)
    return agent.get_action_and_value(obs, torch.zeros(len(obs), 2, 1, 8), nothing, nothing.long())


def test_an_agent_without_decoder_does_not_reconstruct():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Discrete(3)})
    sizes = {
        "trxl_num_layers": 1,
        "trxl_num_heads": 1,
        "trxl_dim": 4,
        "trxl_positional_encoding": "none",
        "max_episode_steps": 5,
    }
    agent = TrXLAgent(space, (2,), **sizes, reconstruction_coef=0.0)
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    agent.get_action_and_value(
        torch.zeros(3, 5), torch.zeros(3, 2, 1, 4), nothing, nothing.long(), deterministic=True
    )
    with pytest.raises(RuntimeError, match="no decoder"):
        agent.reconstruct_observation()
    with pytest.raises(ValueError, match=r"x must have shape \['B', 5\]"):
        agent._encode(torch.zeros(3, 4))
    with pytest.raises(SettingError, match="action_space_shape"):
        TrXLAgent(space, (), **sizes, reconstruction_coef=0.0)


@pytest.mark.parametrize("coefficient", [0.0, 0.1])
def test_an_agent_that_has_looked_can_be_copied_and_pickled(coefficient):
    agent = TrXLAgent(gym.spaces.Box(-1, 1, (3,)), (2,), **SIZES, reconstruction_coef=coefficient)
    look(agent, torch.zeros(2, 3))  # with gradients, so that the hidden state has a graph
    assert (agent._last_hidden is None) == (coefficient == 0)
    for copied in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert copied._last_hidden is None
        assert all(
            torch.equal(one, other)
            for one, other in zip(copied.parameters(), agent.parameters(), strict=True)
        )


def test_an_agent_that_has_counted_nothing_tells_large_numbers_apart():
    agent = TrXLAgent(gym.spaces.Box(-1000, 1000, (2,)), (3,), **SIZES, reconstruction_coef=0.0)
    assert not torch.equal(agent.encode(torch.full((1, 2), 15.0)), agent.encode(torch.full((1, 2), 500.0)))


def test_reconstruction_is_learned_normalised_and_shown_raw():
    """Otherwise one large number drowns the others, and the policy."""
    settings = {
        "reconstruction_coef": 0.1,
        "normalize_observation": True,
        "num_minibatches": 1,
        "update_epochs": 1,
        "init_lr": 0.0,
    }
    with make_trainer(counters([30, 25, 20, 15]), **settings, final_lr=0.0) as trainer:
        one_round(trainer)
        agent, normalizer = trainer.learner.agent, trainer.learner.agent.obs_normalizer
        normalizer.set_statistics(torch.tensor([1e4]), torch.tensor([1e6]), count=100)
        torch.nn.init.zeros_(agent.decoder.layer.weight)  # decodes 0: the mean
        torch.nn.init.zeros_(agent.decoder.layer.bias)
        metrics = one_round(trainer)
        torch.testing.assert_close(
            metrics["loss/reconstruction"], ((trainer.rows.obs - 1e4) / 1e3).clamp(-10, 10).square().mean()
        )
        nothing = torch.zeros(4, 4, dtype=torch.bool)
        normalizer.set_statistics(torch.tensor([1e4]), torch.tensor([1e6]), count=100)
        agent.get_action_and_value(
            trainer.collected.collector.obs, torch.zeros(4, 4, 2, 8), nothing, nothing.long()
        )
        torch.testing.assert_close(agent.reconstruct_observation(), torch.full((4, 1), 1e4))


class SmallPictures(Pictures):
    """Too small for convolutions, and no symbols."""

    observation_space = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0][:7, :7], {}

    def step(self, action):
        obs, *others = super().step(action)
        return obs[:7, :7], *others


def test_small_pictures_are_refused():
    with (
        make_trainer(SmallPictures, max_episode_steps=6) as trainer,
        pytest.raises(SettingError, match="taken for a grid of symbols"),
    ):
        trainer.collect()
