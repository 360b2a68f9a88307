"""EnvPool's environments through the adapter, against EnvPool itself."""

import envpool
import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.adapters.envpool import EnvPoolEnv, default_num_threads
from fastrl.envs.adapters.envpool_ids import dm_control_id
from fastrl.envs.base import environment_seeds
from fastrl.errors import SettingError

pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered.*")


def raw_pool(env_id, num_envs, seed, **options):
    return envpool.make_gymnasium(
        env_id, num_envs=num_envs, seed=environment_seeds(seed, num_envs), **options
    )


def actions_for(env, generator):
    if env.action.kind == "continuous":
        return torch.randn(env.num_envs, env.action.dim, generator=generator) * 2
    return torch.randint(env.action.num_actions, (env.num_envs,), generator=generator)


def own_units(actions, space):
    """Actions between −1 and 1 between bounds that are as far below 0 as above."""
    if not isinstance(space, gym.spaces.Box):
        return actions
    assert np.array_equal(space.low, -space.high)
    return np.clip(actions, -1, 1).astype(space.dtype) * space.high


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"])
def test_the_stream_is_envpools_with_reset_rows_marked(env_id):
    limit = 30
    env = make_vector_env(env_id, 3, seed=9, max_episode_steps=limit)
    pool = raw_pool(env_id, 3, 9, max_episode_steps=limit)
    assert np.array_equal(env.reset().numpy(), pool.reset()[0].astype(np.float32))
    generator, done = torch.Generator().manual_seed(1), np.zeros(3, bool)
    for _ in range(100):
        actions = actions_for(env, generator)
        obs, reward, terminated, truncated, info = pool.step(own_units(actions.numpy(), pool.action_space))
        step = env.step(actions)
        assert step.obs.dtype == torch.float32 and np.array_equal(step.obs.numpy(), obs.astype(np.float32))
        assert np.array_equal(step.valid.numpy(), ~done)
        assert np.array_equal(~step.valid.numpy(), info["elapsed_step"] == 0)
        assert np.array_equal(step.reward.numpy(), np.where(done, 0, reward))
        assert np.array_equal(step.terminated.numpy(), terminated) and np.array_equal(
            step.truncated.numpy(), truncated
        )
        done = terminated | truncated
    assert env.max_episode_steps == limit
    assert max(episode.length for episode in env.pop_episodes()) <= limit


def test_dm_control_repeats_rewards_on_reset_rows_and_they_are_masked():
    env = make_vector_env("dm_control/cartpole-swingup", 2, seed=0, max_episode_steps=20)
    pool = raw_pool("CartpoleSwingup-v1", 2, 0, max_episode_steps=20)
    env.reset()
    pool.reset()
    repeated, masked, total = 0.0, 1.0, 0.0
    for index in range(21):
        raw = pool.step(np.zeros((2, 1)))[1]
        step = env.step(torch.zeros(2, 1))
        total += float(step.reward[0])
        if index == 20:
            repeated, masked = float(raw[0]), float(step.reward[0])
    assert repeated != 0.0 and masked == 0.0
    episode = env.pop_episodes()[0]
    assert episode.length == 20 and episode.episode_return == pytest.approx(total)


def test_dict_observations_are_concatenated_in_alphabetical_order_or_as_chosen():
    pool = raw_pool("FishSwim-v1", 2, 5)
    raw = pool.reset()[0]
    parts = [
        raw[key].reshape(2, -1) for key in ("joint_angles", "target", "upright", "velocity")
    ]  # `upright` has shape (2,)
    env = make_vector_env("FishSwim-v1", 2, seed=5)
    obs = env.reset()
    assert env.obs_shape == (24,) and obs.dtype == torch.float32
    assert np.array_equal(obs.numpy(), np.concatenate(parts, axis=1).astype(np.float32))
    chosen = make_vector_env("FishSwim-v1", 2, seed=5, obs_keys=["velocity", "upright"])
    assert np.array_equal(
        chosen.reset().numpy(), np.concatenate([parts[3], parts[2]], axis=1).astype(np.float32)
    )


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MiniGrid-MemoryS7-v0", "CheetahRun-v1"])
def test_returned_tensors_are_never_written_again(env_id):
    env = make_vector_env(env_id, 2, seed=0)
    kept = [env.reset()]
    copies = [kept[0].clone()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        step = env.step(actions_for(env, generator))
        kept += step
        copies += [tensor.clone() for tensor in step]
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))


def test_minigrid_gives_its_image_and_crops_it_around_the_agent():
    pool = raw_pool("MiniGrid-MemoryS7-v0", 2, 4)
    image = pool.reset()[0]["image"]
    env = make_vector_env("MiniGrid-MemoryS7-v0", 2, seed=4)
    obs = env.reset()
    assert env.obs_dtype == obs.dtype == torch.uint8 and np.array_equal(obs.numpy(), image)
    for size, window in ((3, np.s_[:, 2:5, 4:7]), (5, np.s_[:, 1:6, 2:7]), (7, np.s_[:])):
        cropped = make_vector_env("MiniGrid-MemoryS7-v0", 2, seed=4, env_kwargs={"crop": size})
        assert cropped.obs_shape == (size, size, 3)
        assert np.array_equal(cropped.reset().numpy(), image[window])
    both = make_vector_env("MiniGrid-MemoryS7-v0", 2, seed=4, obs_keys=["image", "direction"])
    obs = both.reset()
    assert obs.shape == (2, 7 * 7 * 3 + 4) and obs[:, -4:].sum(1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_kwargs": {"agent_view_size": 3}}, "agent_view_size corrupts memory"),
        ({"env_kwargs": {"crop": 4}}, "crop must be"),
        ({"env_kwargs": {"sizee": 9}}, "sizee.*did you mean 'size'"),
        ({"env_kwargs": {"size": "large"}}, "size of MiniGrid-MemoryS7-v0 must be a whole number"),
        ({"env_kwargs": {"batch_size": 1}}, "batch_size"),
        ({"obs_keys": ["imagee"]}, "imagee.*did you mean 'image'"),
        ({"obs_keys": []}, "obs_keys"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_unusable_settings_are_one_sentence(options, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env("MiniGrid-MemoryS7-v0", 2, **options)


def test_several_players_and_crops_elsewhere_are_refused():
    with pytest.raises(SettingError, match="2 players"):
        make_vector_env("IntersectionMultiAgent-v0")
    with pytest.raises(SettingError, match="crop is for MiniGrid"):
        make_vector_env("CartPole-v1", env_kwargs={"crop": 3})
    with pytest.raises(SettingError, match="obs_keys is for dict"):
        make_vector_env("CartPole-v1", obs_keys=["image"])


def test_discrete_observations_are_one_hot_and_discrete_actions_checked():
    env = make_vector_env("FrozenLake-v1", 3, seed=0)
    assert env.reset().tolist() == [[1.0] + [0.0] * 15] * 3
    assert env.action.num_actions == 4
    with pytest.raises(ValueError, match="0 to 3"):
        env.step(torch.tensor([0, 4, 0]))


def test_bounds_that_mean_none_do_not_clip():
    """VizDoom's bounds are the smallest positive and the largest number: clipping would leave one side."""
    from fastrl.envs.actions import ActionMap

    spec = envpool.make_spec("D1Basic-v1")
    bounds = ActionMap(spec.gymnasium_action_space, name="D1Basic-v1").spec
    assert bounds.low.tolist() == [-torch.inf] * 3 and bounds.high.tolist() == [torch.inf] * 3


def test_boxes_of_integers_are_choices():
    env = make_vector_env("BinPack-v2", 2, seed=0)
    assert (env.action.kind, env.action.nvec) == ("multi_discrete", (40, 20))
    env.reset()
    assert env.step(torch.zeros(2, 2, dtype=torch.int64)).obs.shape == (2, *env.obs_shape)


def test_atari_reports_whole_games_and_unclipped_scores():
    env = make_vector_env("Breakout-v5", 2, seed=0, env_kwargs={"episodic_life": True, "reward_clip": True})
    assert env.reset().dtype == torch.uint8 and env.obs_shape == (4, 84, 84)
    generator, lives, episodes = torch.Generator().manual_seed(0), 0, []
    for _ in range(400):
        lives += int(env.step(actions_for(env, generator)).terminated.sum())
        episodes += env.pop_episodes()
    assert episodes and lives >= 5 * len(episodes)
    assert all(episode.length > 100 for episode in episodes)  # a life alone lasts some 20 steps


def test_threads_default_to_environments_and_cores_and_can_be_set():
    assert make_vector_env("CartPole-v1", 1).num_threads == 1
    assert make_vector_env("CartPole-v1", 4, num_threads=3).num_threads == 3


def test_no_more_threads_than_a_container_allows(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("fastrl.machine.CPU_LIMIT", tmp_path / "cpu.max")
    assert [default_num_threads(num_envs) for num_envs in (1, 4, 10_000)] == [1, 4, 8]
    (tmp_path / "cpu.max").write_text("300000 100000")
    assert [default_num_threads(num_envs) for num_envs in (1, 4, 10_000)] == [1, 3, 3]


@pytest.mark.parametrize(
    ("name", "env_id"),
    [
        ("dm_control/cheetah-run", "CheetahRun-v1"),
        ("dm_control/cheetah/run", "CheetahRun-v1"),
        ("dm_control/ball_in_cup-catch", "BallInCupCatch-v1"),
        ("dm_control/humanoid_CMU/run", "HumanoidCMURun-v1"),
        ("dm_control/finger-turn_easy-v0", "FingerTurnEasy-v1"),
        ("dm_control/stacker-stack_2", "StackerStack2-v1"),
        ("dm_control/cheetah-fly", None),
    ],
)
def test_dm_control_names(name, env_id):
    assert dm_control_id(name) == env_id


def test_state_cannot_be_saved_and_says_so():
    env = EnvPoolEnv("CartPole-v1", 1)
    assert env.state_dict() is None
    with pytest.raises(RuntimeError, match="cannot restore"):
        env.load_state_dict({})
