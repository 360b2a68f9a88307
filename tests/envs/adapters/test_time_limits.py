"""What a time limit is told to be is what ends episodes, wherever it stands."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.adapters.time_limit import as_limit, time_limit
from fastrl.envs.single import SingleEnv
from fastrl.errors import SettingError
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy


class Walk(gym.Env):
    """Goes on for ever, unless `own` is a limit; keeps it where Memory Gym does."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)

    def __init__(self, own=-1):
        self.max_episode_steps = own

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == self.max_episode_steps, False, {}


class ToldLate(Walk):
    """Knows its limit from its first reset on, as Memory Gym's do."""

    def __init__(self):
        pass

    def reset(self, *, seed=None, options=None):
        self.max_episode_steps = 12
        return super().reset(seed=seed)


class Rooms(Walk):
    """Keeps its limit where MiniGrid does."""

    def __init__(self, max_steps=12):
        super().__init__()
        self.max_steps = max_steps

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, self.steps >= self.max_steps, info


@pytest.fixture
def registered():
    """An id whose entry point puts a limit of its own around the environment."""
    gym.register("Twice-v0", entry_point=lambda: gym.wrappers.TimeLimit(Walk(), 20), max_episode_steps=40)
    yield "Twice-v0"
    del gym.registry["Twice-v0"]


def looked_at():
    env = gym.make("MountainCar-v0")
    assert env.spec.max_episode_steps == 200  # Gymnasium's wrapper remembers what it answered
    return env


def nested(*limits):
    env = Walk()
    for limit in limits:
        env = gym.wrappers.TimeLimit(env, limit)
    return env


def told_and_done(factory, limit=None):
    with make_vector_env(factory, max_episode_steps=limit) as env:
        env.reset()
        for steps in range(1, 400):
            step = env.step(torch.ones(1, dtype=torch.int64))
            if step.terminated or step.truncated:
                return env.max_episode_steps, steps
        return env.max_episode_steps, None


@pytest.mark.parametrize(
    ("factory", "asked", "expected"),
    [
        (looked_at, 300, 300),
        (looked_at, None, 200),
        (lambda: nested(50, 20), None, 20),
        (lambda: nested(20, 50), None, 20),
        (lambda: nested(20, 50), 30, 30),
        (lambda: nested(50, 20), 60, 60),
        (lambda: Walk(12), None, 12),
        (lambda: gym.wrappers.TimeLimit(Walk(12), 30), None, 12),
        (lambda: Walk(12), 5, 5),
        (Walk, None, None),
        (lambda: Walk(0), None, None),
        (lambda: gym.make("CartPole-v1").unwrapped, 7, 7),
        (lambda: SingleEnv("Counter-v0", length=30, max_episode_steps=9), None, 9),
        (ToldLate, None, 12),
        (ToldLate, 5, 5),
        (Rooms, None, 12),
        (lambda: gym.wrappers.TimeLimit(Rooms(), 30), None, 12),
    ],
)
def test_told_is_done(factory, asked, expected):
    assert told_and_done(factory, asked) == (expected, expected)


@pytest.mark.parametrize("asked", [None, 30, 10])
def test_ids_whose_limits_are_nested(registered, asked):
    assert told_and_done(registered, asked) == (asked or 20,) * 2


def test_of_environments_with_several_limits_the_longest_is_told():
    limits = iter((12, 20))
    with make_vector_env(lambda: Rooms(next(limits)), num_envs=2) as env:
        assert env.max_episode_steps == 20


def test_an_evaluation_goes_by_a_limit_that_is_told_late(monkeypatch):
    monkeypatch.setattr("fastrl.runs.evaluation.LONGEST_EPISODE", 3)  # where no limit is told
    actor = MemorylessActor(lambda obs, _: torch.zeros(len(obs), dtype=torch.int64))
    with make_vector_env(ToldLate) as env:
        assert evaluate_policy(actor, env, 1)["eval/length_mean"] == 12


def test_a_spec_that_nothing_enforces_is_not_told():
    assert time_limit(gym.make("CartPole-v1").unwrapped) is None


def test_a_limit_that_cannot_be_lifted_is_said():
    with pytest.raises(
        SettingError, match="max_episode_steps is 30, but Walk ends its episodes after 12 steps by itself"
    ):
        make_vector_env(lambda: Walk(12), max_episode_steps=30)


def test_vector_environments_tell_the_longest_of_their_environments_or_their_spec():
    same = gym.vector.SyncVectorEnv([lambda: nested(20, 50), lambda: nested(30)])
    assert time_limit(same) == 30
    assert time_limit(gym.vector.SyncVectorEnv([lambda: nested(20), Walk])) is None
    assert time_limit(gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")) == 500


def test_envpool_tells_no_limit_where_it_depends_on_the_mission():
    with make_vector_env("BabyAI-GoToLocal-v0") as env:
        assert env.max_episode_steps is None
    with make_vector_env("BabyAI-GoToLocal-v0", max_episode_steps=5) as env:
        env.reset()
        ends = [bool(env.step(torch.zeros(1, dtype=torch.int64)).truncated) for _ in range(5)]
        assert env.max_episode_steps == 5 and ends == [False] * 4 + [True]
    with pytest.raises(SettingError, match="max_episode_steps must be from 1 to 2\\^31 - 1 for EnvPool"):
        make_vector_env("CartPole-v1", max_episode_steps=2**31)


@pytest.mark.parametrize(
    ("value", "limit"),
    [(5, 5), (np.int64(7), 7), (0, None), (-1, None), (None, None), (True, None), ("9", None)],
)
def test_what_counts_as_a_limit(value, limit):
    assert as_limit(value) == limit
