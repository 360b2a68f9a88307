"""The toolkit's environments: BaseEnv, GymEnv, RoboschoolEnv."""

import importlib
import json
import warnings
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import BaseEnv, GymEnv, RoboschoolEnv, make_vector_env
from fastrl.envs.single import SingleEnv
from fastrl.envs.space_info import SpaceInfo
from fastrl.envs.toolkit.roboschool import SUCCESSORS
from fastrl.errors import SettingError


class Probe(gym.Env):
    """Counts what is done to it; five steps, then terminated. Its reward is 2."""

    observation_space = gym.spaces.Box(-3, 3, (2,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}
    made: list["Probe"] = []

    def __init__(self, actions=2, render_mode=None):
        self.action_space = gym.spaces.Discrete(actions) if isinstance(actions, int) else actions
        self.render_mode = render_mode
        self.resets, self.taken = 0, []
        Probe.made.append(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets, self.taken = self.resets + 1, []
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.full(2, len(self.taken), np.float32), 2.0, len(self.taken) == 5, False, {}


@pytest.fixture
def probe():
    Probe.made = []
    gym.register("Probe-v0", entry_point=Probe, max_episode_steps=3)
    yield "Probe-v0"
    del gym.registry["Probe-v0"]


class Recorded:
    """As much of a configuration as `update_config` needs."""

    def new_section(self, name, **entries):
        setattr(self, name, entries)


def from_section(section):
    """The environment of a section that has been in a file."""
    entries = json.loads(json.dumps(section))
    module, _, name = entries.pop("func").rpartition(".")
    return getattr(importlib.import_module(module), name)(**entries)


def section_of(env):
    config = Recorded()
    env.update_config(config)
    return config.env


def play(env, steps):
    """States and rewards of random play, resets included."""
    seen = [env.reset()]
    for _ in range(steps):
        state, reward, done, _ = env.step(env.sample_random_action())
        seen += [state, np.array([reward])]
        if done:
            seen.append(env.reset())
    return np.concatenate([np.ravel(part) for part in seen])


# ------------------------------------------------------------------------------------------- BaseEnv


class Doubling(BaseEnv):
    """An environment of one's own."""

    simulator = "paper"

    def _create_env(self):
        return [self.env_name]

    def reset(self):
        return np.ones(1)

    def step(self, action):
        return np.ones(1), 0.0, False, {}

    def get_state_info(self):
        return SpaceInfo(
            shape=(1,), space="continuous", dtype="float64", low_bound=np.zeros(1), high_bound=np.ones(1)
        )

    def get_action_info(self):
        return SpaceInfo(shape=3, space="discrete", dtype="int64")


def test_base_env_is_abstract_and_makes_its_environment_once():
    with pytest.raises(TypeError, match="abstract"):
        BaseEnv("anything")
    env = Doubling("mine")
    assert env.env_name == "mine" and env.env == ["mine"]


def test_a_class_of_ones_own_is_written_by_its_own_name_and_without_bounds():
    section = section_of(Doubling("mine"))
    assert section == {
        "func": f"{__name__}.Doubling",
        "env_name": "mine",
        "state_info": {"shape": [1], "space": "continuous", "dtype": "float64"},
        "action_info": {"shape": 3, "space": "discrete", "dtype": "int64"},
    }


# ------------------------------------------------------------------------ what reset and step return


@pytest.mark.parametrize(
    ("env_id", "shape", "simulator"),
    [("CartPole-v1", (4,), "envpool"), ("Identity-v0", (4,), "fastrl"), ("Probe-v0", (2,), "gymnasium")],
)
def test_reset_and_step_return_plain_numbers_and_arrays(env_id, shape, simulator, probe):
    with GymEnv(env_id) as env:
        assert env.env_name == env_id and env.simulator == simulator
        state = env.reset()
        assert isinstance(state, np.ndarray) and state.shape == shape and state.dtype == np.float32
        state, reward, done, info = env.step(1)
        assert state.shape == shape and type(reward) is float and done is False
        assert info == {"terminated": False, "truncated": False}


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_terminated_and_truncated_are_apart_and_the_last_state_is_the_true_one(end):
    env = GymEnv("Counter-v0", end=end)
    env.reset()
    for count in range(1, 9):
        state, reward, done, info = env.step(0)
        assert state.tolist() == [count] and reward == count - 1 and done is (count == 8)
    other = {"terminated": "truncated", "truncated": "terminated"}[end]
    assert info[end] is True and info[other] is False
    assert info["episode"] == {"r": 28.0, "l": 8}
    assert env.reset().tolist() == [0]


def test_a_time_limit_truncates(probe):
    for env, steps in ((GymEnv(probe), 3), (GymEnv("CartPole-v1", max_episode_steps=2), 2)):
        env.reset()
        done, taken = False, 0
        while not done:
            _, _, done, info = env.step(0)
            taken += 1
        assert taken == steps and info["truncated"] and not info["terminated"]


def test_an_ended_episode_is_not_stepped_on():
    env = GymEnv("Counter-v0", length=1)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(0)
    env.reset()
    env.step(0)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(0)
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


# ------------------------------------------------------------------------------------------- actions


@pytest.mark.parametrize(
    "action",
    [1, 1.0, np.int64(1), np.array(1), np.array([1]), torch.tensor(1), torch.tensor([1.0]), True + 0],
)
def test_discrete_actions_become_int(action, probe):
    env = GymEnv(probe)
    env.reset()
    env.step(action)
    assert Probe.made[-1].taken == [1] and Probe.made[-1].taken[0].dtype == np.int64


def test_a_continuous_action_is_a_vector_without_an_axis_of_environments(probe):
    env = GymEnv(probe, actions=gym.spaces.Box(-1, 1, (3,), np.float32))
    env.reset()
    for action in (
        np.array([0.5, -2.0, 0.0]),
        [0.5, -2, 0],
        torch.tensor([0.5, -2.0, 0.0], requires_grad=True),
    ):
        env.reset()
        env.step(action)
        assert Probe.made[-1].taken[0].tolist() == [0.5, -1.0, 0.0]  # clipped to the bounds
    with pytest.raises(ValueError, match=r"action must have shape \[3\] \(continuous\), got \[1, 3\]"):
        env.step(np.zeros((1, 3)))


def test_a_number_is_an_action_of_one_dimension():
    env = GymEnv("Pendulum-v1")
    env.reset()
    assert env.step(0.5)[0].shape == (3,) and env.step(np.array([0.5]))[0].shape == (3,)


@pytest.mark.parametrize(
    ("env_id", "action", "message"),
    [
        ("CartPole-v1", 2, "0 to 1"),
        ("CartPole-v1", -1, "0 to 1"),
        ("CartPole-v1", 0.5, "action must be whole numbers"),
        ("CartPole-v1", float("nan"), "action must be whole numbers"),
        ("CartPole-v1", [0, 1], r"action must have shape \[\] \(discrete\), got \[2\]"),
        ("CartPole-v1", "left", "action must be numbers"),
        ("CartPole-v1", None, "action must be numbers"),
        ("Pendulum-v1", [0.0, 1.0], r"action must have shape \[1\]"),
        ("Pendulum-v1", float("nan"), "must not be NaN"),
        ("BinPack-v2", [40, 0], "below"),
        ("BinPack-v2", 3, r"action must have shape \[2\] \(multi_discrete\)"),
    ],
)
def test_other_actions_are_refused(env_id, action, message):
    with GymEnv(env_id) as env:
        env.reset()
        with pytest.raises(ValueError, match=message):
            env.step(action)


def test_random_actions_are_of_the_space_and_follow_the_seed():
    one, many, floats = (GymEnv(env_id, seed=3) for env_id in ("CartPole-v1", "BinPack-v2", "Pendulum-v1"))
    assert {one.sample_random_action() for _ in range(30)} == {0, 1} and type(
        one.sample_random_action()
    ) is int
    assert many.sample_random_action().shape == (2,) and many.sample_random_action().dtype == np.int64
    actions = [floats.sample_random_action() for _ in range(30)]
    assert all(
        action.shape == (1,) and action.dtype == np.float32 and abs(action[0]) <= 2 for action in actions
    )
    floats.seed(3)
    assert np.array_equal(actions, [floats.sample_random_action() for _ in range(30)])


# -------------------------------------------------------------------------------------------- spaces


def test_what_a_space_is():
    box = GymEnv.get_space_info(gym.spaces.Box(-2, 3, (4, 2), np.float32))
    assert box.shape == (4, 2) and box.space == "continuous" and box.dtype == "float32"
    assert box.low_bound.shape == (4, 2) and (box.low_bound == -2).all() and (box["high_bound"] == 3).all()
    assert GymEnv.get_space_info(gym.spaces.Discrete(5)) == {
        "shape": 5,
        "space": "discrete",
        "dtype": "int64",
    }
    several = RoboschoolEnv.get_space_info(gym.spaces.MultiDiscrete([3, 4]))
    assert several == {"shape": (2,), "space": "multi_discrete", "dtype": "int64", "nvec": (3, 4)}
    assert not hasattr(several, "low_bound")
    with pytest.raises(
        AttributeError, match="there is no 'low_bound' of a space that is multi_discrete; it has shape"
    ):
        several.low_bound  # noqa: B018  # read for its error
    with pytest.raises(SettingError, match="space must be Box, Discrete or MultiDiscrete, got Text"):
        GymEnv.get_space_info(gym.spaces.Text(3))


def test_infos_of_an_environment():
    env = GymEnv("Pendulum-v1")
    state, action = env.get_state_info(), env.get_action_info()
    assert state.shape == (3,) and state.space == "continuous" and state.dtype == "float32"
    assert state.low_bound.tolist() == [-1, -1, -8] and state.high_bound.tolist() == [1, 1, 8]
    assert action.shape == (1,) and action.low_bound.tolist() == [-2] and action.high_bound.tolist() == [2]
    assert GymEnv("CartPole-v1").get_action_info() == {"shape": 2, "space": "discrete", "dtype": "int64"}
    image = GymEnv("MiniGrid-MemoryS7-v0", crop=3).get_state_info()
    assert (
        image.shape == (3, 3, 3) == image.high_bound.shape
        and image.dtype == "uint8"
        and image.high_bound.max() == 255
    )


def test_infos_do_not_touch_the_environment(probe):
    env = GymEnv(probe)
    env.reset()
    env.step(1)
    for _ in range(3):
        assert env.get_state_info().shape == (2,) and env.get_action_info().shape == 2
    assert Probe.made[-1].resets == 1 and env.step(0)[0].tolist() == [2, 2]
    assert len(Probe.made) == 1


def test_infos_belong_to_the_caller():
    env = GymEnv("Pendulum-v1")
    env.get_state_info().low_bound[:] = 99
    assert env.get_state_info().low_bound.tolist() == [-1, -1, -8]


# ------------------------------------------------------------------------ seeds, vector environments


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ProofofMemory-v0"])
def test_the_seed_decides(env_id):
    expected = play(GymEnv(env_id, seed=5), 60)
    env = GymEnv(env_id, seed=6)
    assert not np.array_equal(play(env, 60)[:4], expected[:4])
    env.seed(5)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    assert np.array_equal(play(env, 60), expected)


def test_vector_environments_have_the_same_id_and_options():
    env = GymEnv("MiniGrid-MemoryS7-v0", crop=3, num_actions=3, max_episode_steps=9, seed=2)
    with env.vector(4, seed=2) as vector:
        assert vector.num_envs == 4 and vector.obs_shape == (3, 3, 3) and vector.action.num_actions == 3
        assert vector.max_episode_steps == 9 and vector.name == "MiniGrid-MemoryS7-v0"
    with env.vector(1, 2) as vector:
        assert np.array_equal(vector.reset()[0].numpy(), env.reset())
    assert env.vector(2, 0, num_threads=2).num_threads == 2


# -------------------------------------------------------------------------- episodes are whole games


class Lives(gym.Wrapper):
    """Ends an episode every third step; only a game that is over is started anew."""

    over = True

    def reset(self, **kwargs):
        if self.over:
            self.state, _ = self.env.reset(**kwargs)
            self.steps, self.over = 0, False
        return self.state, {}

    def step(self, action):
        self.state, reward, terminated, truncated, info = self.env.step(action)
        self.steps, self.over = self.steps + 1, terminated or truncated
        return self.state, reward, terminated or self.steps % 3 == 0, truncated, info


def clipped(env):
    """Rewards of 1 at most."""
    return gym.wrappers.TransformReward(env, lambda reward: min(1.0, float(reward)))


@pytest.mark.parametrize(("env_id", "game"), [("Counter-v0", (28.0, 8)), ("Probe-v0", (10.0, 5))])
def test_games_are_reported_whole_and_before_wrappers(env_id, game, probe):
    env = GymEnv(env_id, wrappers=[Lives, clipped], **({"max_episode_steps": 8} if env_id == probe else {}))
    ends, games = 0, []
    for _ in range(3 * game[1]):
        if not env._playing:
            env.reset()
        _, reward, done, info = env.step(0)
        ends += done
        assert reward <= 1.0
        games += [info["episode"]] if "episode" in info else []
    assert games == [{"r": game[0], "l": game[1]}] * 3 and ends > 5

    with env.vector(2) as vector:
        vector.reset()
        for _ in range(15):
            vector.step(np.zeros(2, np.int64))
            returns, lengths = vector.unfinished_episodes()
            assert (lengths < game[1]).all() and (returns <= game[0]).all()
        found = vector.pop_episodes()
        assert {episode.env_index for episode in found} == {0, 1} and {episode[1:] for episode in found} == {
            game
        }


@pytest.mark.parametrize("wrappers", [[], [clipped]])
def test_atari_games_are_reported_whole_though_lives_end_episodes(wrappers):
    env = GymEnv("Breakout-v5", episodic_life=True, reward_clip=True, wrappers=wrappers)
    lives = 0
    env.reset()
    for _ in range(3000):
        _, _, done, info = env.step(env.sample_random_action())
        lives += done
        if "episode" in info:
            break
        if done:
            env.reset()
    assert lives == 5 and info["episode"]["l"] > 100


# ------------------------------------------------------------------------------------------ wrappers


def test_wrappers_go_around_in_order(probe):
    def plus(env):
        return gym.wrappers.TransformReward(env, lambda reward: float(reward) + 1)

    def times(env):
        return gym.wrappers.TransformReward(env, lambda reward: float(reward) * 10)

    seen = []
    for env_id in (probe, "Counter-v0"):
        env = GymEnv(env_id, wrappers=[lambda env: seen.append(env.unwrapped) or env, plus, times])
        env.reset()
        assert env.step(0)[1] == (30 if env_id == probe else 10)
    assert type(seen[0]) is Probe and type(seen[1]) is SingleEnv


def test_a_wrapper_may_change_the_spaces():
    def few(env):
        return gym.wrappers.TransformObservation(
            env, lambda obs: obs[:2], gym.spaces.Box(-1, 1, (2,), np.float32)
        )

    env = GymEnv("Pendulum-v1", wrappers=[few])
    assert env.get_state_info().shape == env.reset().shape == (
        2,
    ) and env.get_state_info().high_bound.tolist() == [1, 1]
    assert env.vector(3).reset().shape == (3, 2)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0", "Acrobot-v1"])
def test_wrappers_that_do_nothing_change_nothing(env_id):
    bare, wrapped = GymEnv(env_id, seed=1), GymEnv(env_id, seed=1, wrappers=[lambda env: env])
    assert str(bare.get_state_info()) == str(wrapped.get_state_info()) and str(bare.get_action_info()) == str(
        wrapped.get_action_info()
    )
    assert bare.simulator == wrapped.simulator
    many, others = bare.vector(3, 4), wrapped.vector(3, 4)
    assert others.reset().shape == many.reset().shape and others.max_episode_steps == many.max_episode_steps
    assert torch.equal(others.reset(), wrapped.vector(3, 4).reset()) is False  # a second episode
    assert torch.equal(wrapped.vector(3, 4).reset(), wrapped.vector(3, 4).reset())
    assert np.array_equal(play(wrapped, 20), play(GymEnv(env_id, seed=1, wrappers=[lambda env: env]), 20))


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        (clipped, "wrappers must be a list of functions"),
        ([clipped, 3], "wrappers must be a list of functions"),
        ("clipped", "wrappers must be a list of functions"),
        ([lambda env: None], "wrappers: <lambda> must return a Gymnasium environment, it returned NoneType"),
    ],
)
def test_what_is_no_list_of_wrappers_is_refused(wrappers, message):
    with pytest.raises(SettingError, match=message):
        GymEnv("Counter-v0", wrappers=wrappers)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPol-v1", {}, "did you mean 'CartPole-v1'"),
        (3, {}, "env_name must be the id of an environment, a factory or an environment, got int"),
        ("CartPole-v1", {"gravity": 3}, "no option 'gravity'"),
        ("CartPole-v1", {"scale_reward": True}, "scale_reward is no option of an environment"),
        ("CartPole-v1", {"seed": -1}, "seed must be at least 0"),
        ("CartPole-v1", {"obs_keys": ["a"]}, "obs_keys is for dict observations"),
    ],
)
def test_bad_settings_are_one_sentence(env_id, options, message):
    with pytest.raises(SettingError, match=message):
        GymEnv(env_id, **options)


# ------------------------------------------------------------------------- environments of one's own


def single(**options):
    return gym.wrappers.TimeLimit(Probe(**options), 3)


@pytest.mark.parametrize("wrappers", [[], [clipped]])
def test_a_factory_in_place_of_an_id(wrappers):
    env = GymEnv(single, wrappers=wrappers, actions=3)
    assert env.get_action_info().shape == 3 and env.simulator == "gymnasium" and "single" in env.env_name
    env.reset()
    assert [env.step(2)[1:3] for _ in range(3)] == [(1.0 if wrappers else 2.0, False)] * 2 + [
        (1.0 if wrappers else 2.0, True)
    ]
    env.seed(3)
    with env.vector(2) as many:
        assert many.reset().shape == (2, 2)
    section = section_of(env)
    assert section["env_name"] is single and GymEnv(
        **{key: value for key, value in section.items() if key != "func"}
    ).reset().shape == (2,)


@pytest.mark.parametrize("wrappers", [[], [clipped]])
def test_an_environment_in_place_of_an_id(wrappers):
    inside = single()
    env = GymEnv(inside, wrappers=wrappers)
    env.reset()
    assert env.step(0)[1] == (1.0 if wrappers else 2.0)
    env.seed(3)
    assert env.reset().shape == (2,)
    with pytest.raises(
        SettingError, match="is already made, so no others of its kind can be: give GymEnv a factory"
    ):
        env.vector(2)
    with pytest.raises(SettingError, match="record needs an environment that Gymnasium can draw"):
        env.record("videos")


def test_a_vector_environment_in_place_of_an_id():
    env = GymEnv(make_vector_env("Counter-v0"))
    assert env.reset().shape == (1,) and env.simulator == "fastrl" and env.step(0)[1] == 0.0
    with pytest.raises(SettingError, match="is already made, with its own seed"):
        env.seed(3)
    with pytest.raises(SettingError, match="env_name must be a single environment, Counter-v0 has 2"):
        GymEnv(make_vector_env("Counter-v0", 2))


# ------------------------------------------------------------------------------------ configurations


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("CartPole-v1", {}),
        ("BinPack-v2", {}),
        ("MiniGrid-MemoryS7-v0", {"crop": 3, "num_actions": 3, "max_episode_steps": 20}),
        ("CheetahRun-v1", {"obs_keys": ["velocity"]}),
    ],
)
def test_a_configuration_makes_the_same_environment_again(env_id, options):
    env = GymEnv(env_id, **options)
    section = section_of(env)
    assert (
        section["func"] == "fastrl.envs.GymEnv"
        and section["env_name"] == env_id
        and options.items() <= section.items()
    )
    again = from_section(section)
    assert type(again) is GymEnv and section_of(again) == section
    assert np.array_equal(play(env, 30), play(again, 30))


def test_an_environment_that_has_changed_since_is_noticed():
    section = section_of(GymEnv("CartPole-v1"))
    section["state_info"]["shape"] = [5]
    with pytest.raises(
        SettingError, match=r"state_info: the environment has shape \[4\], the configuration says \[5\]"
    ):
        from_section(section)
    with pytest.raises(
        SettingError, match="action_info: the environment has shape 2, the configuration says 3"
    ):
        GymEnv("CartPole-v1", action_info={"shape": 3})


def test_wrappers_are_in_the_section_as_functions():
    section = section_of(GymEnv("Counter-v0", wrappers=[clipped]))
    assert section["wrappers"] == [clipped]
    again = GymEnv(**{key: value for key, value in section.items() if key != "func"})
    again.reset()
    assert [again.step(0)[1] for _ in range(3)] == [0, 1, 1]


# -------------------------------------------------------------------------------------------- videos


class Camera(gym.Wrapper):
    """In place of RecordVideo."""

    def __init__(self, env, folder, episode_trigger):
        super().__init__(env)
        self.folder, self.trigger = folder, episode_trigger


def test_record_draws_with_gymnasium(monkeypatch, probe, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(gym.wrappers, "RecordVideo", Camera)
    env = GymEnv(probe, wrappers=[clipped])
    env.record(tmp_path)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(0)
    env.reset()
    assert env.step(0)[1] == 1.0 and Probe.made[-1].render_mode == "rgb_array"
    camera = env.env.envs[0].env.env
    assert (
        isinstance(camera, Camera)
        and camera.folder == str(tmp_path)
        and all(camera.trigger(episode) for episode in range(9))
    )
    assert env.vector(2).reset().shape == (2, 2) and Probe.made[-1].render_mode is None
    cartpole = GymEnv("CartPole-v1")
    cartpole.record(tmp_path)
    assert cartpole.simulator == "gymnasium" and cartpole.reset().shape == (4,)


def test_record_says_what_is_missing(monkeypatch, tmp_path):
    with pytest.raises(
        SettingError, match="record needs an environment that Gymnasium can draw; 'Identity-v0'"
    ):
        GymEnv("Identity-v0").record(tmp_path)
    env = GymEnv("CartPole-v1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingError, match="record needs the package moviepy"):
        env.record(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(name=name))
    odd = GymEnv("FrozenLake-v1", size=4)  # an option of EnvPool's
    with pytest.raises(SettingError, match="FrozenLake-v1 cannot be made with"):
        odd.record(tmp_path)
    assert odd.simulator == env.simulator == "envpool" and odd.reset().shape == (16,)


# ------------------------------------------------------------------------------------- RoboschoolEnv


@pytest.mark.parametrize(("old", "new"), SUCCESSORS.items())
def test_old_ids_become_their_successors(old, new):
    with pytest.warns(UserWarning, match=f"{old} is no longer maintained: {new} is used") as caught:
        env = RoboschoolEnv(old)
    assert env.env_name == new and caught[0].filename == __file__
    assert env.reset().shape == make_vector_env(new).obs_shape and env.simulator == "envpool"
    env.close()


def test_other_ids_have_no_successor():
    for env_id in ("RoboschoolPong-v1", "CartPole-v1"):
        with pytest.raises(
            SettingError,
            match=f"env_name: '{env_id}' has no maintained successor; .* RoboschoolAnt-v1, RoboschoolHalf",
        ):
            RoboschoolEnv(env_id)


def test_a_configuration_names_the_successor():
    with pytest.warns(UserWarning):
        env = RoboschoolEnv(env_name="RoboschoolHopper-v1", max_episode_steps=7)
    section = section_of(env)
    assert section["func"] == "fastrl.envs.RoboschoolEnv" and section["env_name"] == "Hopper-v5"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*no longer maintained")
        assert type(from_section(section)) is RoboschoolEnv
