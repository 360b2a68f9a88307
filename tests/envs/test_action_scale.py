"""Actions in policy units and an environment's own: the map between them, and who speaks which."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import GymEnv, VectorEnv, make_vector_env
from fastrl.envs.action_scale import ActionScale, RawActionsWarning, require_same_scale
from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.adapters.masked import MaskedEnv
from fastrl.envs.base import Advance
from fastrl.envs.bounds import inward_float32
from fastrl.envs.single import SingleEnv
from fastrl.envs.toolkit.wrapped import make_wrapped_envs
from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.errors import CheckpointError, SettingError
from fastrl.toolkit.utils.config import Config

INF = np.inf


def box(low, high, dtype=np.float32):
    return gym.spaces.Box(
        np.atleast_1d(np.asarray(low, dtype)), np.atleast_1d(np.asarray(high, dtype)), dtype=dtype
    )


class Recorder(gym.Env):
    """Keeps the actions that it gets; every observation is 0."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space
        self.taken = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.zeros(1, np.float32), 0.0, False, False, {}


def executed(space, *actions, **options):
    """What an environment of that space gets for actions of `VectorEnv.step`; each lies inside."""
    recorder = Recorder(space)
    env = make_vector_env(recorder, **options)
    env.reset()
    for action in actions:
        env.step(torch.tensor(np.array([action], np.float32)))
    assert all(space.contains(action) for action in recorder.taken)
    return np.array(recorder.taken)


# ------------------------------------------------------------------------------------------- the map


def test_the_ends_of_any_bounds_lie_inside_them():
    random = np.random.default_rng(0)
    low = random.uniform(-1, 1, 1000)
    high = low + 10 ** random.uniform(-3, 6, 1000)  # wide and narrow ones: float64 rounds some ends outwards
    scale = ActionScale(low, high)
    for end in (-1, 1):
        own = scale.to_environment(np.full((1, 1000), end, np.float32))
        assert (own >= low).all() and (own <= high).all()


def test_bounds_that_are_whole_numbers_lose_no_fractions():
    for low, high in ((np.array([5]), np.array([35])), ([5], [35])):
        assert ActionScale(low, high).to_environment(np.array([[0.01]], np.float32)) == pytest.approx(20.15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("bounds", [(-1, 1), (-np.inf, np.inf), (0, np.inf), (-0.1, 0.1)])
def test_bounds_for_policies_are_float32_whatever_the_environment_has(dtype, bounds):
    space = box(*bounds, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RawActionsWarning)
        action = make_vector_env(Recorder(space)).action
        taken = executed(space, [0.3], [-7.0])
    assert action.low.dtype == action.high.dtype == torch.float32 and taken.dtype == dtype


@pytest.mark.parametrize(
    ("low", "high"), [(5, 35), (-2000, 2000), (0, 0.01), (-0.4, 0.4), (-3, 1e6), (-1e-30, 1e-30), (-1, 1)]
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ends_and_middle_arrive_where_they_belong(low, high, dtype):
    space = box(low, min(high, float(np.finfo(dtype).max) / 2), dtype)
    low, high = float(space.low[0]), float(space.high[0])
    taken = executed(space, [-1.0], [0.0], [1.0], [-7.0], [np.inf])
    assert taken.dtype == dtype
    rounding = float(np.finfo(dtype).eps)
    assert taken.ravel().tolist() == pytest.approx(
        [low, (low + high) / 2, high, low, high], rel=2 * rounding, abs=rounding * (high - low)
    )


def test_there_and_back_again():
    low, high = np.array([5, -2000, 0, -0.1, 3]), np.array([35, 2000, 0.01, 0.1, 3])
    scale = ActionScale(low, high)
    actions = np.random.default_rng(0).uniform(-1, 1, (50, 5)).astype(np.float32)
    own = scale.to_environment(actions)
    assert own.dtype == np.float64 and (own >= low).all() and (own <= high).all()
    assert np.allclose(scale.to_policy(own)[:, :4], actions[:, :4], atol=1e-7)
    assert (own[:, 4] == 3).all() and (
        scale.to_policy(own)[:, 4] == 0
    ).all()  # equal bounds: one action, whatever the policy does
    assert np.allclose(scale.to_environment(scale.to_policy(own)), own, rtol=1e-6, atol=1e-9)


def test_bounds_that_float32_rounds_outwards_are_kept():
    assert float(np.float32(0.1)) > 0.1
    assert executed(box(-0.1, 0.1, np.float64), [1.0], [-1.0]).tolist() == [[0.1], [-0.1]]
    assert executed(box(-0.1, 0.1, np.float64), [1.0], [0.1], scale_actions=False).tolist() == [[0.1], [0.1]]
    half_open = box(-INF, 0.1, np.float64)
    with pytest.warns(RawActionsWarning):
        assert executed(half_open, [1.0], [-7.5]).tolist() == [[0.1], [-7.5]]
    single = SingleEnv(lambda: Recorder(box(-0.1, 0.1, np.float64)))
    bounds = single.action_space.low, single.action_space.high
    assert bounds[0].dtype == np.float32 and -0.1 <= float(bounds[0][0]) <= float(bounds[1][0]) <= 0.1


def test_rounding_bounds_inwards():
    given = np.array([-0.1, 0.1, -1.0, -INF, 0.1]), np.array([0.1, 0.3, 1.0, INF, 0.1])
    low, high = inward_float32(*given)
    assert low.dtype == high.dtype == np.float32
    assert (low[:4] >= given[0][:4]).all() and (high[:4] <= given[1][:4]).all() and (low <= high).all()
    assert low[2:4].tolist() == [-1.0, -INF] and high[2:4].tolist() == [1.0, INF]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_between_minus_one_and_one_are_left_as_they_are(dtype):
    values = np.random.default_rng(0).uniform(-1.2, 1.2, (100, 3)).astype(np.float32)
    taken = executed(box([-1] * 3, [1] * 3, dtype), *values)
    assert np.array_equal(taken, np.clip(values, -1, 1).astype(dtype))
    assert make_vector_env(Recorder(box(-1, 1, dtype))).scaled_bounds() is None


def test_a_box_with_axes_keeps_its_shape():
    taken = executed(
        gym.spaces.Box(np.zeros((2, 2), np.float32), np.full((2, 2), 4, np.float32)), [-1, -0.5, 0, 1]
    )
    assert taken.tolist() == [[[0, 1], [2, 4]]]


# ------------------------------------------------------------------------------------ raw dimensions


def test_dimensions_without_two_finite_bounds_stay_raw_and_one_line_says_so():
    space = box([5, -INF, 0, -INF, -1e10], [35, INF, INF, 2, 1e10])
    with pytest.warns(RawActionsWarning) as said:
        env = make_vector_env(Recorder(space))
    assert [str(warning.message) for warning in said] == [
        "Recorder: actions without two finite bounds stay in the environment's own units, others are scaled "
        "to [-1, 1]: "
        "dimensions 1, 2, 3, 4 of 5"
    ]
    assert env.action.low.tolist() == [-1, -INF, 0, -INF, -1e10] and env.action.high.tolist() == [
        1,
        INF,
        INF,
        2,
        1e10,
    ]
    assert env.own_action.low.tolist() == space.low.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RawActionsWarning)
        taken = executed(space, [0.5, 100.0, -3.0, 7.0, 1234.5])
    assert taken.tolist() == [[27.5, 100.0, 0.0, 2.0, 1234.5]]


def test_long_lists_of_dimensions_are_cut_and_all_of_them_are_said_so():
    with pytest.warns(RawActionsWarning, match="dimensions 0, 1, 2, 3, 4, 5, 6, 7 and 4 more of 13$"):
        make_vector_env(Recorder(box([-INF] * 12 + [0], [INF] * 12 + [1])))
    with pytest.warns(RawActionsWarning, match="all 2 dimensions$"):
        env = make_vector_env(Recorder(box([-INF] * 2, [INF] * 2)))
    assert env.scaled_bounds() is None


def test_nothing_is_said_where_everything_is_scaled_or_nothing_is_asked_for():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RawActionsWarning)
        make_vector_env(Recorder(box([5, -1], [35, 1])))
        make_vector_env(Recorder(box(-INF, INF)), scale_actions=False)
        make_vector_env(Recorder(gym.spaces.Discrete(3)))


# ---------------------------------------------------------------------------- who speaks which units


class Own(VectorEnv):
    """A `VectorEnv` of a user's, with bounds of 5 and 35."""

    def __init__(self, **options):
        action = ActionSpec("continuous", (1,), (), torch.tensor([5.0]), torch.tensor([35.0]))
        fixed = {
            "name": "Own",
            "num_envs": 2,
            "obs_shape": (1,),
            "obs_dtype": torch.float32,
            "max_episode_steps": None,
            "device": "cpu",
        }
        super().__init__(action=action, **fixed, **options)
        self.taken = []

    def _reset_all(self):
        return np.zeros((2, 1), np.float32)

    def _advance(self, actions):
        self.taken.append(actions)
        no = np.zeros(2, bool)
        return Advance(np.zeros((2, 1), np.float32), np.zeros(2), no, no.copy())


def test_a_vector_environment_of_ones_own_gets_its_own_units():
    env = make_vector_env(Own(), 2)
    env.reset()
    env.step(torch.tensor([[-1.0], [0.5]]))
    assert env.taken[0].tolist() == [[5.0], [27.5]] and env.taken[0].dtype == np.float32
    raw = make_vector_env(Own(scale_actions=False), 2, scale_actions=False)
    raw.reset()
    raw.step(torch.tensor([[0.0], [20.0]]))
    assert raw.taken[0].tolist() == [[5.0], [20.0]] and raw.action.high.tolist() == [35.0]
    with pytest.raises(
        SettingError,
        match="scale_actions must be given where a VectorEnv is made; Own is already made, and scales",
    ):
        make_vector_env(Own(), 2, scale_actions=False)


MADE = {
    "EnvPool": lambda **more: make_vector_env("Pendulum-v1", 2, **more),
    "Gymnasium": lambda **more: make_vector_env(lambda: gym.make("Pendulum-v1"), 2, **more),
    "a vector environment": lambda **more: make_vector_env(gym.make_vec("Pendulum-v1", num_envs=2), **more),
    "a toy": lambda **more: make_vector_env("LinearQuadratic-v0", 2, **more),
    "a toy of Gymnasium": lambda **more: make_vector_env(ToyVectorGym("LinearQuadratic-v0", 2), **more),
    "masked": lambda **more: MaskedEnv("Pendulum-v1", 2, name="Masked", columns=(0,), **more),
    "wrapped": lambda **more: make_wrapped_envs("Pendulum-v1", 2, [], seed=0, **more),
}


@pytest.mark.parametrize("kind", MADE)
def test_every_kind_scales_unless_told_otherwise(kind):
    scaled, raw = MADE[kind](), MADE[kind](scale_actions=False)
    assert scaled.action.low.tolist() == [-1] and scaled.action.high.tolist() == [1]
    assert scaled.scaled_bounds() == {"low": [-2.0], "high": [2.0]} and raw.scaled_bounds() is None
    assert raw.action.low.tolist() == [-2] and raw.action.high.tolist() == [2]
    assert torch.equal(scaled.reset(), raw.reset())
    for action in (-1.0, -0.25, 0.5, 3.0):
        steps = scaled.step(torch.full((2, 1), action)), raw.step(torch.full((2, 1), 2 * action))
        assert all(torch.equal(one, other) for one, other in zip(*steps, strict=True))


def test_what_has_gymnasiums_interface_speaks_the_environments_units():
    reference, single, toolkit = (
        make_vector_env("Pendulum-v1", seed=0),
        SingleEnv("Pendulum-v1", seed=0),
        GymEnv("Pendulum-v1", seed=0),
    )
    assert single.action_space.high.tolist() == [2] and toolkit.get_action_info().high_bound.tolist() == [2]
    seen, state = reference.reset(), toolkit.reset()
    assert np.array_equal(seen[0], single.reset()[0]) and np.array_equal(seen[0], state)
    for action in (2.0, -1.0, 0.5):
        seen = reference.step(torch.tensor([[action / 2]])).obs[0]
        assert np.array_equal(seen, single.step(np.array([action], np.float32))[0])
        assert np.array_equal(seen, toolkit.step(action)[0])
    with toolkit.vector(3) as many:  # for a batcher
        assert many.action.high.tolist() == [1]


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (None, "in the environment's own units"),
        ({"low": [-3.0], "high": [3.0]}, r"scaled from \[-1, 1\] to \[-3, 3\]"),
        ({"low": [0.0, -INF], "high": [1.5, 2.0]}, r"scaled from \[-1, 1\] to \[0, 1.5\], \[-inf, 2\]"),
        ({"low": ["x"], "high": [1.0]}, "in units that cannot be read"),
        (7, "in units that cannot be read"),
    ],
)
def test_a_policy_of_other_units_is_refused(saved, words):
    env = make_vector_env("Pendulum-v1")
    require_same_scale(env.scaled_bounds(), env)
    with pytest.raises(
        CheckpointError,
        match=rf"policy acts {words}, but actions of Pendulum-v1 are scaled from \[-1, 1\] to \[-2, 2\]$",
    ):
        require_same_scale(saved, env)


def test_wrappers_see_the_environments_units():
    seen = []

    class Look(gym.ActionWrapper):
        def action(self, action):
            seen.append(float(action[0]))
            return action

    with GymEnv("Pendulum-v1", wrappers=[Look]).vector(1) as env:
        env.reset()
        env.step(torch.tensor([[0.75]]))
    assert seen == [1.5]


def test_a_loop_by_hand_can_take_the_units_of_policies():
    def make():
        return Recorder(box(5, 35))

    with GymEnv(make, scale_actions=True) as env:
        assert env.get_action_info().low_bound == -1 and env.get_action_info().high_bound == 1
        config = Config()
        env.update_config(config)
        assert config.env.scale_actions is True
        env.reset()
        for action in (0.5, -3.0, [1.0]):
            env.step(action)
        assert np.ravel(env.env.envs[0].taken).tolist() == pytest.approx([27.5, 5, 35])
    with GymEnv(make) as env:
        env.reset()
        env.step(20.0)
        with pytest.warns(
            UserWarning,
            match=r"an action has 0.5 where bounds are 5 and 35, and is clipped; GymEnv\(..., scale_act",
        ):
            env.step(0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.step(0.5)  # it has been said
        assert np.ravel(env.env.envs[0].taken).tolist() == [20, 5, 5]
