"""Gymnasium environments of every kind: valid transitions do not depend on the autoreset mode."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from fastrl.envs import EnvironmentFailure, make_vector_env
from fastrl.envs.adapters.gymnasium import GymnasiumEnv
from fastrl.envs.adapters.gymnasium_vector import GymnasiumVectorEnv
from fastrl.envs.single import SingleEnv
from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.envs.toys.vector import ToyVectorEnv
from fastrl.errors import SettingError

MODES = list(AutoresetMode)
LENGTHS = [3, 5, 4]


def transitions(env, count):
    """The first `count` valid transitions of each: (obs, action, reward, terminated, truncated, next obs)."""
    found = [[] for _ in range(env.num_envs)]
    obs = env.reset()
    while min(map(len, found)) < count:
        actions = (obs.abs().sum(1) * 7).long() % 2
        step = env.step(actions)
        assert (
            not step.reward[~step.valid].any() and not (step.terminated | step.truncated)[~step.valid].any()
        )
        for i in torch.nonzero(step.valid).flatten().tolist():
            row = (
                obs[i].tolist(),
                actions[i].item(),
                step.reward[i].item(),
                step.terminated[i].item(),
                step.truncated[i].item(),
            )
            found[i].append((*row, step.obs[i].tolist()))
        obs = step.obs
    return [rows[:count] for rows in found]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("Counter-v0", {"length": LENGTHS}),
        ("Counter-v0", {"length": LENGTHS, "end": "truncated"}),
        ("ProofofMemory-v0", {}),
        ("Identity-v0", {"max_episode_steps": 3}),
    ],
)
def test_valid_transitions_are_the_same_in_every_autoreset_mode(mode, env_id, options):
    env = make_vector_env(ToyVectorGym(env_id, 3, mode, **options), 3, seed=6)
    assert isinstance(env, GymnasiumVectorEnv)
    native = ToyVectorEnv(env_id, 3, seeds=env.seeds, env_kwargs=options)
    assert transitions(env, 40) == transitions(native, 40)
    episodes = [
        [episode[1:] for episode in each.pop_episodes() if episode.env_index == 0][:2]
        for each in (env, native)
    ]
    assert episodes[0] == episodes[1] and len(episodes[0]) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_reward_of_1e9_on_the_reset_row_never_shows(mode):
    raw = ToyVectorGym("Counter-v0", 3, mode, length=LENGTHS, reset_reward=1e9)
    env = make_vector_env(raw, 3)
    env.reset()
    for _ in range(50):
        assert env.step(torch.zeros(3, dtype=torch.int64)).reward.max() < 5
    assert max(episode.episode_return for episode in env.pop_episodes()) == 10.0


def test_the_native_stream_next_step_has_no_held_rows_and_the_others_hold_only_after_ends():
    for mode, expected in (
        (AutoresetMode.NEXT_STEP, 3),
        (AutoresetMode.SAME_STEP, 3 + 6),
        (AutoresetMode.DISABLED, 3 + 6),
    ):
        env = make_vector_env(ToyVectorGym("Counter-v0", 3, mode, length=[2, 50, 50]))
        env.reset()
        rows = [
            env.step(torch.zeros(3, dtype=torch.int64)) for _ in range(9)
        ]  # three episodes of environment 0
        assert sum(int((~row.valid).sum()) for row in rows) == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_synchronous_vector_environment_is_stepped_directly(mode):
    vector = SyncVectorEnv([lambda: SingleEnv("ProofofMemory-v0")] * 3, autoreset_mode=mode)
    env = make_vector_env(vector, seed=6)
    assert isinstance(env, GymnasiumEnv) and env.num_envs == 3
    reference = make_vector_env(lambda: SingleEnv("ProofofMemory-v0"), 3, seed=6)
    assert transitions(env, 20) == transitions(reference, 20)


@pytest.mark.parametrize("mode", MODES)
def test_wrapped_and_buffer_reusing_vector_environments_give_exact_last_observations(mode):
    vector = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3, copy=False, autoreset_mode=mode)
    env = make_vector_env(gym.wrappers.vector.RecordEpisodeStatistics(vector), 3, seed=6)
    assert isinstance(env, GymnasiumVectorEnv)
    reference = make_vector_env(lambda: gym.make("CartPole-v1"), 3, seed=6)
    assert transitions(env, 60) == transitions(reference, 60)


def test_worker_processes_in_same_step_mode_with_dict_observations():
    def factory():
        return gym.wrappers.TransformObservation(
            SingleEnv("Counter-v0", length=3),
            lambda obs: {"a": obs, "b": obs + 1},
            gym.spaces.Dict({"a": gym.spaces.Box(0, 9, (1,)), "b": gym.spaces.Box(0, 9, (1,))}),
        )

    with make_vector_env(AsyncVectorEnv([factory] * 2, autoreset_mode=AutoresetMode.SAME_STEP)) as env:
        env.reset()
        rows = [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(4)]
    assert [row.obs[0].tolist() for row in rows] == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [0.0, 1.0]]
    assert [row.valid[0].item() for row in rows] == [True, True, True, False]


def test_a_missing_last_observation_is_an_error():
    class Forgetful(ToyVectorGym):
        def step(self, actions):
            return *super().step(actions)[:4], {}

    env = make_vector_env(Forgetful("Counter-v0", 2, AutoresetMode.SAME_STEP, length=1))
    env.reset()
    with pytest.raises(EnvironmentFailure, match="final_obs"):
        env.step(torch.zeros(2, dtype=torch.int64))


def test_an_unknown_mode_is_refused():
    odd = ToyVectorGym("Counter-v0", 2, length=3)
    odd.metadata = {"autoreset_mode": "sometimes"}
    with pytest.raises(
        SettingError, match=r"metadata\['autoreset_mode'\] of ToyVectorGym must be .* got 'sometimes'"
    ):
        make_vector_env(odd)


class Everything(gym.Env):
    """Odd spaces: tuple observations, shifted choices, integer rewards, one buffer for all."""

    observation_space = gym.spaces.Tuple(
        (
            gym.spaces.Discrete(3, start=-1),
            gym.spaces.Box(-1, 1, (2,), np.float64),
            gym.spaces.MultiDiscrete([2, 3]),
        )
    )
    action_space = gym.spaces.MultiDiscrete([2, 4], start=[10, -1])

    def __init__(self):
        self.buffer, self.actions = np.zeros(2), []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        return (-1, self.buffer, np.array([0, 2])), {}

    def step(self, action):
        self.actions.append(action)
        self.buffer += 0.25
        return (1, self.buffer, np.array([1, 0])), 1, False, False, {}


def test_odd_spaces_are_encoded_and_actions_shifted():
    env = make_vector_env(Everything())
    assert env.action.nvec == (2, 4)
    first = env.reset()
    assert first.tolist() == [[1, 0, 0, 0, 0, 1, 0, 0, 0, 1]]
    actions = torch.tensor([[1, 3]])
    assert env.step(actions).obs.tolist() == [[0, 0, 1, 0.25, 0.25, 0, 1, 1, 0, 0]]
    assert first[0, 3].item() == 0.0
    actions[:] = 0
    assert env.envs[0].actions[0].tolist() == [11, 2]


class Breaks(SingleEnv):
    def step(self, action):
        step = super().step(action)
        if step[0][0] == 2:
            raise FloatingPointError("joint limit")
        return step


def test_the_broken_environment_is_named_with_step_and_seed():
    made = []

    def factory():
        made.append(
            Breaks("Counter-v0", length=10 if made else 1)
        )  # environment 0 never gets as far as a second step
        return made[-1]

    env = make_vector_env(factory, 2, seed=3)
    env.reset()
    env.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(
        EnvironmentFailure,
        match=rf"environment 1 of .* failed at step 1 \(seed {env.seeds[1]}\): FloatingPointError: joint",
    ):
        env.step(torch.zeros(2, dtype=torch.int64))


def test_environments_must_have_equal_spaces():
    envs = [gym.make("CartPole-v1"), gym.make("Pendulum-v1")]
    with pytest.raises(ValueError, match="environment 1 .* other spaces"):
        GymnasiumEnv(envs)


def test_continuous_actions_arrive_scaled_clipped_and_in_the_environments_dtype():
    seen = []

    class Recorder(gym.Wrapper):
        def step(self, action):
            seen.append(action)
            return super().step(action)

    env = make_vector_env(lambda: Recorder(gym.make("Pendulum-v1")), 2, seed=0)
    env.reset()
    env.step(torch.tensor([[9.0], [-0.5]]))
    assert [action.tolist() for action in seen] == [[2.0], [-1.0]]
    assert seen[0].dtype == np.float32 and env.max_episode_steps == 200
