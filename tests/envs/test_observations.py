"""`ObservationMap`: what an observation becomes, what is left out of it, and what does not fit its space."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from fastrl.envs import EnvironmentFailure, VectorEnv, make_vector_env
from fastrl.envs.failures import ObservationFault
from fastrl.envs.first_look import FIRST_STEPS
from fastrl.envs.observations import ObservationMap
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import StateRunNorm

FLOATS, BYTES = spaces.Box(-1, 1, (2,)), spaces.Box(0, 255, (3,), np.uint8)
IMAGE = spaces.Box(0, 255, (6, 6, 3), np.uint8)
ZEROS = np.zeros(2, np.float32)


# --------------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("space", "given", "message"),
    [
        (spaces.Discrete(5), 5, "the observation is 5, but its space declares choices from 0 to 4"),
        (spaces.Discrete(5), -1, "the observation is -1, but its space declares choices from 0 to 4"),
        (
            spaces.Discrete(3, start=-1),
            2,
            "the observation is 2, but its space declares choices from -1 to 1",
        ),
        (
            spaces.MultiDiscrete([3, 2]),
            np.array([0, 2]),
            "the observation is 2 in place 1, but its space declares choices from 0 to 1",
        ),
        (
            spaces.Dict(a=FLOATS, b=spaces.Discrete(2)),
            {"a": ZEROS, "b": -1},
            "observation 'b' is -1, but its space declares choices from 0 to 1",
        ),
        (
            spaces.Discrete(5),
            1.5,
            r"the observation is .*1.5.* \(float64\), but its space declares choices, whole numbers",
        ),
        (spaces.Discrete(5), np.nan, "declares choices, whole numbers"),
        (
            IMAGE,
            np.full((6, 6, 3), 0.5),
            r"is float64, but its space declares bytes.* declare Box\(0.0, 1.0, \(6, 6, 3\), np.float32\)",
        ),
        (BYTES, np.ones(3), "the observation is float64, but its space declares bytes"),
        (
            spaces.Dict(a=FLOATS, b=BYTES),
            {"a": ZEROS, "b": np.ones(3, np.float32)},
            "observation 'b' is float32, but its space declares bytes",
        ),
        (IMAGE, np.full((6, 6, 3), 256), "the observation has 256, but its space declares bytes, 0 to 255"),
        (BYTES, np.array([1, -1, 3]), "the observation has -1, but its space declares bytes, 0 to 255"),
        (
            spaces.Dict(a=FLOATS, b=BYTES),
            {"a": ZEROS},
            "the observation lacks 'b', which its space declares; it is a dict of 'a'",
        ),
        (
            spaces.Dict(a=FLOATS, b=BYTES),
            None,
            "the observation lacks 'a', which its space declares; it is NoneType",
        ),
        (FLOATS, None, r"the observation is object, its space declares float32 \[2\]"),
        (
            spaces.Dict(a=FLOATS, b=FLOATS),
            {"a": ZEROS, "b": np.zeros((2, 2))},
            r"observation 'b' has shape \[2, 2\], its space declares \[2\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(space, given, message):
    with pytest.raises(ObservationFault, match=message):
        ObservationMap(space).stack([given])


def test_the_row_is_told():
    seen = ObservationMap(spaces.Discrete(5))
    with pytest.raises(ObservationFault) as caught:
        seen.batch(np.array([0, 4, 9, 1]))
    assert caught.value.env_index == 2
    with pytest.raises(
        ObservationFault, match=r"the observation has shape \[3\], its space declares \[2\]"
    ) as caught:
        ObservationMap(FLOATS).stack([ZEROS, np.zeros(3), ZEROS])
    assert caught.value.env_index == 1


def test_harmless_differences_are_cast():
    assert ObservationMap(spaces.Discrete(5)).stack([3.0]).tolist() == [
        [0, 0, 0, 1, 0]
    ]  # a whole number all the same
    assert ObservationMap(spaces.Discrete(2)).stack([True]).tolist() == [[0, 1]]
    assert ObservationMap(FLOATS).stack([np.array([0, 1])]).dtype == np.float32
    image = ObservationMap(IMAGE).stack([np.full((6, 6, 3), 255)])  # a list of Python's numbers is int64
    assert image.dtype == np.uint8 and image.min() == 255
    assert ObservationMap(spaces.MultiBinary(2)).stack([np.array([True, False])]).tolist() == [[1, 0]]


class _Late(gym.Env):
    """Its fifth observation is not in its space."""

    observation_space, action_space = spaces.Discrete(3), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        return 3 * (self.steps == 5), 0.0, False, False, {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_vector_env(_Late, 2),
        lambda: make_vector_env(gym.vector.AsyncVectorEnv([_Late] * 2, shared_memory=False)),
    ],
)
def test_an_environment_and_its_step_are_named(make):
    with make() as env:
        env.reset()
        actions = torch.zeros(2, dtype=torch.int64)
        for _ in range(4):
            env.step(actions)
        with pytest.raises(
            EnvironmentFailure,
            match=r"^environment 0 of \w+ failed at step 4 \(seed \d+\): the observation is 3, but",
        ):
            env.step(actions)


class _Own(VectorEnv):
    """Gives what it is told to, whatever it declares."""

    def __init__(self, obs, dtype):
        self.obs = obs
        action, more = make_vector_env("Identity-v0").action, {"max_episode_steps": None, "device": "cpu"}
        super().__init__(
            name="Own", num_envs=len(obs), obs_shape=obs.shape[1:], obs_dtype=dtype, action=action, **more
        )

    def _reset_all(self):
        return self.obs

    def _advance(self, actions):
        raise NotImplementedError


def test_a_vector_environment_of_ones_own_has_the_dtype_it_declares():
    with pytest.raises(
        EnvironmentFailure, match="Own failed at step 0 .*its observations should be uint8, they are float64"
    ):
        _Own(np.full((2, 4, 4, 3), 0.5), torch.uint8).reset()
    assert _Own(np.ones((2, 3)), torch.float32).reset().dtype == torch.float32
    assert _Own(np.ones((2, 3), np.int64), torch.float32).reset().tolist() == [[1] * 3] * 2
    with pytest.raises(EnvironmentFailure, match="its observations should be float32, they are object"):
        _Own(np.full((2, 3), None), torch.float32).reset()


# ----------------------------------------------------------------------------------- what it becomes


def test_bytes_that_become_float32_are_parts_of_255():
    assert ObservationMap(BYTES).stack([np.array([0, 51, 255], np.uint8)]).tolist() == [
        pytest.approx([0, 0.2, 1])
    ]
    both = ObservationMap(spaces.Dict(a=FLOATS, b=BYTES, c=spaces.Discrete(2)))
    assert both.stack([{"a": np.float32([-1, 1]), "b": np.array([0, 51, 255], np.uint8), "c": 1}])[
        0
    ].tolist() == pytest.approx([-1, 1, 0, 0.2, 1, 0, 1])
    assert both.bounds()[1].tolist() == [1] * 7 and both.bounds()[0].tolist() == [-1, -1, 0, 0, 0, 0, 0]
    image = ObservationMap(spaces.Dict(a=FLOATS, image=IMAGE), obs_keys=["image", "a"])
    assert image.stack([{"a": ZEROS, "image": np.full((6, 6, 3), 255, np.uint8)}]).max() == 1


def test_bytes_of_another_range_and_images_alone_stay_as_they_are():
    symbols = ObservationMap(spaces.Dict(a=FLOATS, b=spaces.Box(0, 10, (2,), np.uint8)))
    assert symbols.stack([{"a": ZEROS, "b": np.array([3, 10], np.uint8)}])[0].tolist() == [0, 0, 3, 10]
    assert symbols.bounds()[1].tolist() == [1, 1, 10, 10]
    image = ObservationMap(IMAGE)
    assert image.stack([np.full((6, 6, 3), 200, np.uint8)]).max() == 200 and image.bounds()[1].max() == 255


def test_what_is_left_out_of_a_dict_is_named_with_the_setting_that_chooses():
    space = spaces.Dict(speed=FLOATS, screen=IMAGE, note=spaces.Text(3))
    with pytest.warns(UserWarning) as caught:
        ObservationMap(space, name="Mine")
    assert [str(warning.message) for warning in caught] == [
        "observations of Mine: 'note' (no numbers) and 'screen' (an image, bytes [6, 6, 3]) left out; seen "
        "is 'speed' alone. "
        "obs_keys chooses other entries"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ObservationMap(space, obs_keys=["speed"])  # was meant
        ObservationMap(
            spaces.Dict(image=IMAGE, mission=spaces.Text(3), direction=spaces.Discrete(4))
        )  # MiniGrid's image is all of it
        ObservationMap(spaces.Dict(a=FLOATS, b=BYTES))


def test_places_are_named_as_the_environment_names_them():
    both = ObservationMap(
        spaces.Dict(a=spaces.Box(-1, 1, (2, 2)), b=spaces.Discrete(3), c=spaces.Box(0, 1, ()))
    )
    assert [both.place(column) for column in (1, 3, 5, 7)] == [
        "observation 'a' at [0, 1]",
        "observation 'a' at [1, 1]",
        "observation 'b' at [1]",
        "observation 'c'",
    ]
    assert (
        ObservationMap(IMAGE).place(19) == "the observation at [1, 0, 1]"
        and ObservationMap(spaces.Box(0, 1, (1,))).place(0) == "the observation"
    )
    with pytest.raises(IndexError):
        both.place(8)


# ----------------------------------------------------------------------------------- the first steps


class _Given(gym.Env):
    """Returns what it is told to, forever."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, values, reward=1.0):
        self.observation_space, self.values, self.reward, self.count = space, values, reward, 0

    def _next(self):
        self.count += 1
        return self.values[self.count % len(self.values)]

    def reset(self, *, seed=None, options=None):
        return self._next(), {}

    def step(self, action):
        return self._next(), self.reward, False, False, {}


def watched(env, steps=FIRST_STEPS, **scales):
    """What is said in the first steps of an environment."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with make_vector_env(env) as vector:
            vector.look_at_first_steps(**scales)
            vector.reset()
            for _ in range(steps):
                vector.step(torch.zeros(1, dtype=torch.int64))
    return [str(warning.message) for warning in caught]


FREE = spaces.Box(-np.inf, np.inf, (2,))
PIXELS = spaces.Box(0, 255, (20, 20, 3), np.uint8)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (_Given(FLOATS, np.float32([[0, 0], [0.5, -1]])), []),
        (_Given(FREE, np.float32([[0, 9e3], [0.5, -1]])), []),
        (
            _Given(FLOATS, np.float32([[0, 0], [0.5, -2]])),
            ["_Given: the observation at [1] leaves its space: it is declared as -1 to 1 and was -2 to 0"],
        ),
        (
            _Given(FLOATS, np.float32([[5, 0], [0.5, -2]])),
            [
                "_Given: the observation at [0] leaves its space, and so do 1 other numbers: it is declared "
                "as -1 to 1 and was 0.5 to 5"
            ],
        ),
        (
            _Given(spaces.Dict(a=FLOATS, b=FLOATS), [{"a": ZEROS, "b": np.float32([0, x])} for x in (0, 7)]),
            ["_Given: observation 'b' at [1] leaves its space: it is declared as -1 to 1 and was 0 to 7"],
        ),
        (_Given(FLOATS, [ZEROS]), ["_Given: observations never changed, in 64 steps of every environment"]),
        (
            _Given(FREE, np.float32([[0, 1e6], [1, 0]])),
            [
                "_Given: the observation at [1] was 1e+06, more than networks learn well from: normalise "
                "observations, or scale them"
            ],
        ),
        (
            _Given(FREE, np.float32([[0, 1], [1, 0]]), reward=-5e4),
            [
                "_Given: a reward was -50000, more than networks learn well from: normalise rewards, or "
                "scale them"
            ],
        ),
        (
            _Given(
                PIXELS, [np.zeros((20, 20, 3), np.uint8), np.eye(20, dtype=np.uint8)[:, :, None].repeat(3, 2)]
            ),
            ["_Given: images, bytes [20, 20, 3], never exceed 1: were numbers from 0 to 1 made bytes?"],
        ),
    ],
)
def test_the_first_steps_say_each_thing_once(env, said):
    env.count = 0
    assert watched(env, steps=3 * FIRST_STEPS) == said


def test_what_is_normalised_anyway_is_no_finding_and_a_short_run_says_it_when_it_ends():
    large = _Given(FREE, np.float32([[0, 1e6], [1, 0]]), reward=-5e4)
    assert watched(large, scales_observations=True, scales_rewards=True) == []
    assert len(watched(large, steps=3)) == 2
    assert watched(_Given(FLOATS, [ZEROS]), steps=3) == []  # too few to say that nothing changes


def test_a_batcher_looks_too():
    env = make_vector_env(_Given(FREE, np.float32([[0, 1e6], [1, 0]])))
    with pytest.warns(UserWarning, match="normalise observations"):
        RolloutBatcher(env, FIRST_STEPS).get_batch(lambda states, step: torch.zeros(1, dtype=torch.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RolloutBatcher(env, FIRST_STEPS, transforms=[StateRunNorm()]).get_batch(
            lambda states, step: torch.zeros(1, dtype=torch.int64)
        )
