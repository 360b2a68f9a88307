"""Environments that cannot be made: one sentence with the cause, and what helps."""

import gymnasium as gym
import numpy as np
import pytest

from fastrl.envs import list_env_ids, make_vector_env
from fastrl.envs.adapters import envpool as envpool_room
from fastrl.envs.adapters.envpool_options import _of_type, description
from fastrl.envs.make import make_gymnasium_env
from fastrl.errors import SettingError


class Fails(gym.Env):
    """Raises when it is made."""

    def __init__(self, error, render_mode=None):
        raise error


ERRORS: list[BaseException] = [
    AssertionError("no licence"),
    AttributeError("x"),
    ValueError("a\nb"),
    KeyError("k"),
    ImportError("Qt"),
    OSError("lib"),
    SystemExit(3),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_constructor_raises_is_a_sentence_with_its_type_and_text(error, monkeypatch):
    monkeypatch.setitem(
        gym.registry,
        "Fails-v0",
        gym.envs.registration.EnvSpec("Fails-v0", entry_point=Fails, kwargs={"error": error}),
    )
    text = type(error).__name__ + ": " + " ".join(str(error).split())
    for make in (
        lambda: make_vector_env("Fails-v0"),
        lambda: make_gymnasium_env("Fails-v0"),
        lambda: make_vector_env(lambda: Fails(error)),
    ):
        with pytest.raises(SettingError) as caught:
            make()
        assert (
            text in str(caught.value)
            and "cannot be made" in str(caught.value)
            and "\n" not in str(caught.value)
        )


def test_what_envpool_raises_is_a_sentence(monkeypatch):
    import envpool

    def missing(env_id, **options):
        raise ImportError("libQt5Core.so.5: cannot open shared object file")

    monkeypatch.setattr(envpool, "make_spec", missing)
    with pytest.raises(SettingError, match="CartPole-v1 cannot be made: ImportError: libQt5Core"):
        make_vector_env("CartPole-v1")


@pytest.mark.parametrize(
    ("env_id", "option", "its_id"),
    [
        ("FrozenLake-v1", "is_slippery", "FrozenLake-v1"),
        ("LunarLander-v3", "continuous", "LunarLander-v3"),
        ("Taxi-v3", "is_rainy", r"Taxi-v\d"),
    ],
)
def test_options_that_only_gymnasium_has_name_its_id(env_id, option, its_id):
    with pytest.raises(
        SettingError, match=f"EnvPool's {env_id} has no option '{option}'.*give the id gymnasium:{its_id}"
    ):
        make_vector_env(env_id, env_kwargs={option: True})


def test_gymnasiums_environment_of_a_shared_id():
    with make_vector_env("gymnasium:FrozenLake-v1", 2, env_kwargs={"is_slippery": False}) as env:
        env.reset()
        for action in (2, 2, 1, 1, 1):  # on ice without slipping the way is certain
            step = env.step(np.full(2, action))
        assert not step.terminated.any() and env.max_episode_steps == 100
        assert env.step(np.full(2, 2)).reward.tolist() == [1.0, 1.0]
    listed = list_env_ids("gymnasium:frozenlake-")
    assert [(entry.env_id, entry.source) for entry in listed] == [("gymnasium:FrozenLake-v1", "gymnasium")]
    assert make_gymnasium_env("gymnasium:CartPole-v1").spec.id == "CartPole-v1"


def test_render_mode_is_not_ignored():
    with pytest.raises(SettingError, match="render_mode is not for CartPole-v1; .*gymnasium:CartPole-v1"):
        make_vector_env("CartPole-v1", env_kwargs={"render_mode": "human"})
    with make_vector_env("gymnasium:CartPole-v1", env_kwargs={"render_mode": "rgb_array"}) as env:
        assert env.envs[0].render_mode == "rgb_array"


@pytest.mark.parametrize("env_id", ["Cig-v1", "MultiDuel-v1"])
def test_ids_that_end_the_process_are_refused_and_not_listed(env_id):
    assert not list_env_ids(env_id)
    with pytest.raises(SettingError, match=f"{env_id} cannot be used: .* ends the process"):
        make_vector_env(env_id)


# -------------------------------------------------------------------------------- options of EnvPool


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("Pong-v5", {"stack_num": -3}, "stack_num of Pong-v5 must be a whole number from 0 to"),
        ("Pong-v5", {"img_height": 2**40}, "img_height of Pong-v5 must be a whole number"),
        ("Pong-v5", {"img_height": 84.0}, "img_height of Pong-v5 must be a whole number"),
        ("Pong-v5", {"episodic_life": 2}, "episodic_life of Pong-v5 must be true or false"),
        ("Pong-v5", {"task": 3}, "task of Pong-v5 must be text"),
        (
            "Ant-v5",
            {"reset_noise_scale": float("nan")},
            "reset_noise_scale of Ant-v5 must be a finite number",
        ),
        (
            "MiniGrid-Empty-5x5-v0",
            {"agent_start_pos": [1]},
            "agent_start_pos of .* must be a list of 2 entries",
        ),
        ("Pong-v5", {"num_threads": 3}, "num_threads has an argument of its own"),
    ],
)
def test_options_are_checked_against_their_description(env_id, options, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(env_id, env_kwargs=options)


def test_a_death_in_a_trial_is_a_sentence_and_said_once_for_all(monkeypatch):
    for _ in range(2):
        with pytest.raises(
            SettingError,
            match="MiniGrid-Empty-5x5-v0 cannot be used with {'size': 0}: in a trial EnvPool ended the "
            "process",
        ):
            make_vector_env("MiniGrid-Empty-5x5-v0", env_kwargs={"size": 0})
        monkeypatch.setattr("subprocess.run", None)  # the second time nothing is tried


def test_numbers_of_numpy_are_plain():
    assert type(_of_type("stack_num", np.int64(2), description("Pong-v5")["stack_num"])) is int


# ------------------------------------------------------------------------- entries that are left out


@pytest.mark.parametrize(
    ("env_id", "size", "entry", "with_it"),
    [
        ("FingerSpin-v1", 9, "dist_to_target", 1),
        ("HumanoidRun-v1", 67, "position", 28),
        ("dm_control/quadruped-run", 78, "rangefinder", 20),
        ("DogWalk-v1", 223, "ball_state", 6),
        ("Go1Getup-v1", 42, "privileged_state", 91),
    ],
)
def test_entries_that_are_not_a_policys_are_left_out_and_said(env_id, size, entry, with_it, monkeypatch):
    monkeypatch.setattr(envpool_room, "_SAID", set())
    with (
        pytest.warns(UserWarning, match=f"{entry}.* left out.*obs_keys") as said,
        make_vector_env(env_id) as env,
    ):
        assert env.obs_shape == (size,)
        make_vector_env(env_id).close()
        assert len(said) == 1
    with make_vector_env(env_id, obs_keys=[entry]) as env:
        assert env.obs_shape == (with_it,)


def test_action_masks_are_spoken_of(monkeypatch):
    monkeypatch.setattr(envpool_room, "_SAID", set())
    with pytest.warns(UserWarning, match="Snake-v1 tells in action_mask which actions are allowed"):
        make_vector_env("Snake-v1").close()


# ---------------------------------------------------------------------------- choices without bounds


class Wide(gym.Env):
    """An action or observation space of more choices than can be told apart."""

    def __init__(self, obs, act):
        self.observation_space, self.action_space = obs, act


UNBOUNDED = gym.spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64)
SMALL = gym.spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    "space",
    [UNBOUNDED, gym.spaces.Discrete(2**40), gym.spaces.MultiDiscrete([2**30, 2])],
    ids=lambda s: type(s).__name__,
)
def test_too_many_choices_are_refused_by_name(space):
    with pytest.raises(SettingError, match=r"actions of Wide are (Box|Discrete|MultiDiscrete)\(.*choices"):
        make_vector_env(Wide(SMALL, space))
    if space is UNBOUNDED:  # as an observation it is a number like any other
        assert np.isinf(make_vector_env(Wide(space, gym.spaces.Discrete(2))).obs_bounds).all()
    else:
        with pytest.raises(SettingError, match=r"observations of Wide are .*choices"):
            make_vector_env(Wide(space, gym.spaces.Discrete(2)))


def test_environments_are_made_as_long_as_there_is_memory(monkeypatch):
    closed = []

    class Small(gym.Env):
        observation_space, action_space = SMALL, gym.spaces.Discrete(2)

        def close(self):
            closed.append(self)

    monkeypatch.setattr("fastrl.envs.construction.available_memory", lambda: 2**29)
    with pytest.raises(
        SettingError,
        match="num_envs too large: after 255 environments of the factory only 536.9 MB of memory are left",
    ):
        make_vector_env(Small, 1000)
    assert len(closed) == 255
