"""MaskedCartPole-v1: CartPole-v1 without its velocities."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import list_env_ids, make_vector_env
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError

NAME = "MaskedCartPole-v1"


def test_it_is_cartpole_with_position_and_angle_only():
    masked, whole = (
        make_vector_env(env_id, 3, seed=5, max_episode_steps=15, num_threads=2)
        for env_id in (NAME, "CartPole-v1")
    )
    assert (masked.name, masked.obs_shape, masked.max_episode_steps, masked.num_threads) == (
        NAME,
        (2,),
        15,
        2,
    )
    assert (masked.action.kind, masked.action.num_actions, masked.seeds) == ("discrete", 2, whole.seeds)
    obs = masked.reset()
    assert obs.dtype == torch.float32 and torch.equal(obs, whole.reset()[:, [0, 2]])
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        actions = torch.randint(2, (3,), generator=generator)
        step, expected = masked.step(actions), whole.step(actions)
        assert step.obs.is_contiguous() and torch.equal(step.obs, expected.obs[:, [0, 2]])
        assert all(torch.equal(a, b) for a, b in zip(step[1:], expected[1:], strict=True))
    episodes = masked.pop_episodes()
    assert episodes == whole.pop_episodes() and {episode.env_index for episode in episodes} == {0, 1, 2}


def test_it_is_listed_as_fastrls_and_made_as_a_gymnasium_environment():
    assert [entry.source for entry in list_env_ids(NAME)] == ["fastrl"]
    env = make_gymnasium_env(NAME)
    seen = np.array([4.8, np.float32(24 * np.pi / 180)], np.float32)
    assert env.observation_space == gym.spaces.Box(
        -seen, seen, (2,), np.float32
    ) and env.action_space == gym.spaces.Discrete(2)
    obs, _ = env.reset(seed=3)
    assert obs.shape == (2,) and env.step(1)[0].shape == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_kwargs": {"gravity": 3}}, "no option 'gravity'"),
        ({"env_kwargs": {"num_actions": 3}}, "num_actions"),
        ({"obs_keys": ["a"]}, "obs_keys is for dict"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ],
)
def test_unusable_settings_are_one_sentence(options, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(NAME, **options)
    with pytest.raises(SettingError, match=f"did you mean '{NAME}'"):
        make_vector_env("MaskedCartpole-v1")


def test_without_envpool_it_is_not_listed_and_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    assert list_env_ids(NAME) == []
    for make in (make_vector_env, make_gymnasium_env):
        with pytest.raises(
            SettingError, match=f"{NAME} is made from CartPole-v1 of EnvPool.*pip install envpool"
        ):
            make(NAME)
