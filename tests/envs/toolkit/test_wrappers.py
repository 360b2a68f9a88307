"""One normalised Gymnasium environment, and single environments of EnvPool's and fastrl's own."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from fastrl.envs.single import SingleEnv
from fastrl.envs.toolkit.wrappers import _find_wrapper, _make_env, _transform_observation, _transform_reward
from fastrl.errors import SettingError


def test_transformations_keep_the_space_and_change_the_values():
    env = _transform_reward(
        _transform_observation(SingleEnv("Counter-v0"), lambda obs: obs + 10), lambda reward: reward - 5
    )
    assert env.observation_space.shape == (1,)
    assert env.reset()[0].tolist() == [10.0]
    obs, reward, *_ = env.step(0)
    assert obs.tolist() == [11.0] and reward == -5.0


def test_find_wrapper_takes_the_outermost():
    inner = _transform_reward(SingleEnv("Counter-v0"), lambda reward: reward)
    outer = _transform_reward(inner, lambda reward: reward)
    assert _find_wrapper(outer, gym.wrappers.TransformReward) is outer
    assert isinstance(_find_wrapper(outer, SingleEnv), SingleEnv)
    assert _find_wrapper(outer, gym.wrappers.NormalizeReward) is None


def test_normalised_environment_reports_its_own_rewards():
    env = _make_env("CartPole-v1", seed=3, gamma=0.9, clip_observation=0.5, clip_reward=0.25)
    assert _find_wrapper(env, gym.wrappers.NormalizeReward).gamma == 0.9
    obs, ended, total, steps = env.reset()[0], False, 0.0, 0
    while not ended:
        assert np.abs(obs).max() <= 0.5
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert abs(reward) <= 0.25
        ended, total, steps = terminated or truncated, total + reward, steps + 1
    assert info["episode"]["r"] == steps != total


def test_each_normalisation_can_be_switched_off():
    env = _make_env("CartPole-v1", seed=3, normalize_observation=False, normalize_reward=False)
    assert _find_wrapper(env, gym.wrappers.NormalizeObservation) is None
    assert np.array_equal(env.reset(seed=5)[0], gym.make("CartPole-v1").reset(seed=5)[0])
    assert env.step(0)[1] == 1.0
    unclipped = _make_env("CartPole-v1", clip_observation=None, clip_reward=None)
    assert _find_wrapper(unclipped, gym.wrappers.TransformReward) is None


def test_the_seed_decides_episodes_and_sampled_actions():
    def play(seed):
        env = _make_env("Pendulum-v1", seed=seed)
        obs = [env.reset()[0]]
        obs += [env.step(env.action_space.sample())[0] for _ in range(20)]
        return np.stack(obs)

    assert np.array_equal(play(1), play(1)) and not np.array_equal(play(1), play(2))


@pytest.mark.parametrize(
    ("env_id", "size"),
    [("dm_control/cheetah/run", 17), ("dm_control/cartpole-balance", 5), ("MiniGrid-MemoryS7-v0", 147)],
)
def test_envpools_ids_work_without_further_packages(env_id, size):
    env = _make_env(env_id, seed=0)
    assert env.reset()[0].shape == env.observation_space.shape == (size,)
    assert len(env.step(env.action_space.sample())) == 5
    env.close()


def test_unknown_ids_are_one_sentence():
    with pytest.raises(SettingError, match="did you mean 'CheetahRun-v1'"):
        _make_env("dm_control/cheetah/rum")
    with pytest.raises(SettingError, match="did you mean 'CartPole-v1'"):
        _make_env("CartPol-v1")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("env_id", ["ProofofMemory-v0", "IdentityContinuous-v0", "FrozenLake-v1"])
def test_single_environments_pass_gymnasiums_own_check(env_id):
    check_env(SingleEnv(env_id), skip_render_check=True)


def test_toys_are_registered_with_gymnasium_by_their_module():
    env = gym.make("fastrl.envs.toys.gymnasium:ProofofMemory-v0")
    first, again = env.reset(seed=4)[0], env.reset(seed=4)[0]
    assert first.shape == (3,) and np.array_equal(first, again)
    assert any(not np.array_equal(env.reset()[0], first) for _ in range(10))
