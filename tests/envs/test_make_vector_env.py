"""From ids, objects and factories to vector environments; wrong ones in one sentence."""

import subprocess
import sys

import envpool
import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import list_env_ids, make_vector_env
from fastrl.envs.adapters.envpool import EnvPoolEnv
from fastrl.envs.adapters.gymnasium import GymnasiumEnv
from fastrl.envs.adapters.gymnasium_vector import GymnasiumVectorEnv
from fastrl.envs.make import make_gymnasium_env
from fastrl.envs.single import SingleEnv
from fastrl.envs.toys import TOYS
from fastrl.envs.toys.vector import ToyVectorEnv
from fastrl.errors import SettingError


@pytest.fixture
def own_id():
    def make(length=30):
        return SingleEnv("Counter-v0", length=length)

    gym.register("OnlyInGymnasium-v0", entry_point=make, max_episode_steps=20)
    yield "OnlyInGymnasium-v0"
    del gym.registry["OnlyInGymnasium-v0"]


def test_ids_go_to_fastrl_then_envpool_then_gymnasium(own_id):
    assert isinstance(make_vector_env("Identity-v0", 2), ToyVectorEnv)
    assert isinstance(make_vector_env("CartPole-v1", 2), EnvPoolEnv)
    assert isinstance(make_vector_env(own_id, 2), GymnasiumEnv)
    sources = {entry.env_id: entry.source for entry in list_env_ids()}
    assert (sources["Identity-v0"], sources["CartPole-v1"], sources[own_id]) == (
        "fastrl",
        "envpool",
        "gymnasium",
    )


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPol-v1", "no environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        ("cartpole-v1", "did you mean 'CartPole-v1'"),
        ("ProofOfMemory-v0", "did you mean 'ProofofMemory-v0'"),
        ("dm_control/cheetah-rum", "did you mean 'CheetahRun-v1'"),
    ],
)
def test_unknown_ids_name_the_nearest(env_id, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(env_id)


def test_listing_filters_without_regard_to_case():
    memory = {entry.env_id for entry in list_env_ids("memory")}
    assert {"ProofofMemory-v0", "MiniGrid-MemoryS7-v0"} <= memory
    assert all("memory" in env_id.lower() for env_id in memory)
    listed = [entry.env_id for entry in list_env_ids()]
    assert len(listed) == len(set(listed)) and set(TOYS) <= set(listed)


@pytest.mark.parametrize("limit", [5, 40])
def test_time_limits_can_be_changed_everywhere(own_id, limit):
    factories = {
        "id": own_id,
        "factory": lambda: gym.make(own_id),
        "unlimited": lambda: SingleEnv("Counter-v0", length=100),
    }
    for env in ("Counter-v0", "CartPole-v1", *factories.values()):
        made = make_vector_env(env, 1, max_episode_steps=limit)
        made.reset()
        for _ in range(41):
            made.step(torch.zeros(1, dtype=torch.int64))
        assert max(episode.length for episode in made.pop_episodes()) <= limit
        assert made.max_episode_steps == limit
    with pytest.raises(SettingError, match="max_episode_steps"):
        make_vector_env(
            gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("CartPole-v1", 2)),
            max_episode_steps=limit,
        )


def test_a_limit_that_a_vector_environment_does_not_tell_can_be_said():
    unlimited = gym.vector.SyncVectorEnv([lambda: SingleEnv("Counter-v0", length=3)] * 2)
    assert (
        make_vector_env(
            gym.wrappers.vector.RecordEpisodeStatistics(unlimited), max_episode_steps=7
        ).max_episode_steps
        is None
    )
    limited = make_vector_env("Counter-v0", 2, max_episode_steps=7)
    assert (
        make_vector_env(limited, max_episode_steps=7)
        is make_vector_env(lambda: limited, max_episode_steps=7)
        is limited
    )
    with pytest.raises(
        SettingError, match="max_episode_steps is 8, but Counter-v0 is already made, with a limit of 7 steps"
    ):
        make_vector_env(limited, max_episode_steps=8)


@pytest.mark.parametrize(
    ("env", "options", "limit"),
    [
        ("Counter-v0", {"length": 3}, 3),
        ("Counter-v0", {"length": 30}, 5),
        ("CartPole-v1", {}, 5),
        ("CartPole-v1", {"num_actions": 1}, 5),
        ("OnlyInGymnasium-v0", {"length": 3}, 3),
        ("OnlyInGymnasium-v0", {"length": 30}, 5),
        (lambda length: SingleEnv("Counter-v0", length=length), {"length": 3}, 3),
        (lambda length: SingleEnv("Counter-v0", length=length), {"length": 30}, 5),
        (lambda length: SingleEnv("Counter-v0", length=length), {"length": 30, "num_actions": 1}, 5),
    ],
)
def test_a_single_environment_has_the_options_and_the_limit_it_is_given(own_id, env, options, limit):
    single = make_gymnasium_env(env, options=options, max_episode_steps=5)
    assert single.action_space.n == options.get("num_actions", single.action_space.n)
    single.reset(seed=1)
    ends = [any(single.step(0)[2:4]) for _ in range(limit)]
    assert ends == [False] * (limit - 1) + [True]


def test_no_single_environment_is_made_of_many():
    with pytest.raises(SettingError, match="factory of CartPoleVectorEnv; for a single environment"):
        make_gymnasium_env(lambda: gym.make_vec("CartPole-v1", 2))


def test_objects_and_factories():
    single = make_vector_env(gym.make("CartPole-v1"))
    assert isinstance(single, GymnasiumEnv) and single.num_envs == 1 and single.max_episode_steps == 500
    many = make_vector_env(lambda length: SingleEnv("Counter-v0", length=length), 3, env_kwargs={"length": 2})
    assert many.num_envs == 3 and len({id(env) for env in many.envs}) == 3
    vector = make_vector_env(
        lambda: gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("CartPole-v1", 4)), 4
    )
    assert isinstance(vector, GymnasiumVectorEnv) and vector.num_envs == 4
    assert make_vector_env(many, 3) is many
    assert make_vector_env(lambda: many, 3) is many


@pytest.mark.filterwarnings("ignore:.*precision lowered.*")
def test_an_envpool_object_is_taken_as_it_is():
    env = make_vector_env(envpool.make_gymnasium("CartPole-v1", num_envs=3, seed=4), 3)
    expected = envpool.make_gymnasium("CartPole-v1", num_envs=3, seed=4).reset()[0]
    assert env.num_envs == 3 and env.reset().tolist() == expected.tolist()
    for _ in range(30):
        step = env.step(torch.zeros(3, dtype=torch.int64))
    assert step.reward.shape == (3,) and env.pop_episodes()


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (3, {}, "factory, got int"),
        (lambda: 3, {}, "it returned int"),
        ("CartPole-v1", {"num_envs": 0}, "num_envs must be at least 1"),
        ("Identity-v0", {"obs_keys": ["a"]}, "obs_keys"),
        ("CartPole-v1", {"env_kwargs": {"gravity": 3}}, "no option 'gravity'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(env, options, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(env, **options)


def test_counts_that_contradict_the_object_are_refused(own_id):
    with pytest.raises(SettingError, match="num_envs must be 1 for a single environment"):
        make_vector_env(gym.make("CartPole-v1"), 2)
    with pytest.raises(SettingError, match="num_envs is 3, but .* has 2"):
        make_vector_env(gym.make_vec("CartPole-v1", 2), 3)
    with pytest.raises(SettingError, match="already made"):
        make_vector_env(gym.make("CartPole-v1"), env_kwargs={"gravity": 3})
    with pytest.raises(SettingError, match="env_kwargs: OnlyInGymnasium-v0"):
        make_vector_env(own_id, env_kwargs={"nonsense": 3})


def test_importing_the_room_loads_no_simulator():
    check = "import sys, fastrl.envs; assert not {'envpool', 'gymnasium'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    "env", ["CartPole-v1", "gymnasium:CartPole-v1", "Identity-v0", lambda: gym.make("CartPole-v1")]
)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_envs": 2.0}, "num_envs must be a whole number, got 2.0"),
        ({"num_envs": True}, "num_envs must be a whole number, got True"),
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
        ({"max_episode_steps": 2.5}, "max_episode_steps must be a whole number, got 2.5"),
        ({"env_kwargs": {1: 2}}, "env_kwargs must be options by name, got {1: 2}"),
        ({"env_kwargs": ["sutton_barto_reward"]}, "env_kwargs must be options by name, got"),
    ],
)
def test_arguments_of_another_kind_are_named(env, given, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(env, **given)


def test_numbers_of_numpy_are_taken():
    for env_id in ("CartPole-v1", "gymnasium:CartPole-v1", "Identity-v0"):
        with make_vector_env(env_id, np.int64(2), seed=np.int32(3), max_episode_steps=np.int64(9)) as env:
            assert env.num_envs == 2 and env.max_episode_steps == 9 and len(env.reset()) == 2


def test_what_is_asked_of_gymnasium_is_looked_for_among_its_ids():
    with pytest.raises(
        SettingError,
        match=r"there is no environment 'gymnasium:Taxi-v1'; did you mean 'gymnasium:Taxi-v\d'\?",
    ):
        make_vector_env("gymnasium:Taxi-v1")
