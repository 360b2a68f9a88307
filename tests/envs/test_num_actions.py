"""`num_actions`: only the first choices of discrete actions, for EnvPool and Gymnasium alike."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.single import SingleEnv
from fastrl.errors import SettingError


class Recorder(gym.Env):
    """Keeps the actions it was given; they are numbered from 5."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, action_space=None):
        self.action_space = gym.spaces.Discrete(4, start=5) if action_space is None else action_space
        self.taken = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(int(action))
        return np.zeros(1, np.float32), 0.0, False, False, {}


def vector_env():
    return gym.wrappers.vector.RecordEpisodeStatistics(gym.vector.SyncVectorEnv([Recorder, Recorder]))


@pytest.mark.parametrize("env", ["MiniGrid-MemoryS7-v0", Recorder, vector_env, vector_env()])
def test_the_first_choices_are_left_and_others_refused(env):
    made = make_vector_env(env, 2, env_kwargs={"num_actions": 3})
    assert made.action.kind == "discrete" and made.action.num_actions == 3
    made.reset()
    made.step(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="0 to 2"):
        made.step(torch.tensor([0, 3]))


def test_gymnasium_ids_and_single_environments_take_it():
    gym.register("Recorder-v0", entry_point=Recorder)
    try:
        assert make_vector_env("Recorder-v0", 2, env_kwargs={"num_actions": 1}).action.nvec == (1,)
    finally:
        del gym.registry["Recorder-v0"]
    assert make_vector_env(Recorder(), env_kwargs={"num_actions": 4}).action.nvec == (4,)
    single = SingleEnv("MiniGrid-MemoryS7-v0", num_actions=3, crop=3)
    assert single.action_space == gym.spaces.Discrete(3) and single.observation_space.shape == (3, 3, 3)


def test_the_numbering_of_the_environment_stays():
    recorder = Recorder()
    env = make_vector_env(recorder, env_kwargs={"num_actions": 2})
    env.reset()
    for action in (0, 1):
        env.step(torch.tensor([action]))
    assert recorder.taken == [5, 6]


def test_they_are_the_same_actions_as_without_it():
    few, all_of_them = (
        make_vector_env("MiniGrid-MemoryS7-v0", 4, seed=2, env_kwargs=options)
        for options in ({"num_actions": 3}, {})
    )
    assert torch.equal(few.reset(), all_of_them.reset())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        actions = torch.randint(few.action.num_actions, (4,), generator=generator)
        assert all(
            torch.equal(a, b) for a, b in zip(few.step(actions), all_of_them.step(actions), strict=True)
        )


@pytest.mark.parametrize("number", [0, -1, 8, 2.0, "3", True])
def test_numbers_out_of_range_are_refused(number):
    for env, most in (("MiniGrid-MemoryS7-v0", 7), (Recorder, 4)):
        with pytest.raises(
            SettingError, match=f"num_actions of .* must be a whole number from 1 to {most}, got {number!r}"
        ):
            make_vector_env(env, env_kwargs={"num_actions": number})


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ("Pendulum-v1", "continuous"),
        ("BinPack-v2", "multi_discrete"),
        (lambda: Recorder(gym.spaces.MultiDiscrete([3, 3])), "multi_discrete"),
        (lambda: Recorder(gym.spaces.Box(-1, 1, (2,))), "continuous"),
    ],
)
def test_actions_of_other_kinds_are_refused(env, kind):
    with pytest.raises(SettingError, match=f"num_actions is for discrete actions; those of .* are {kind}"):
        make_vector_env(env, env_kwargs={"num_actions": 1})


def test_what_is_not_mapped_here_refuses_it():
    with pytest.raises(SettingError, match="Identity-v0 has no option 'num_actions'"):
        make_vector_env("Identity-v0", env_kwargs={"num_actions": 2})
    made = make_vector_env("Identity-v0", 2)
    for env in (made, lambda: made):
        with pytest.raises(
            SettingError, match="num_actions cannot be given to a VectorEnv that is already made"
        ):
            make_vector_env(env, 2, env_kwargs={"num_actions": 2})
        assert make_vector_env(env, 2, env_kwargs=None) is made
