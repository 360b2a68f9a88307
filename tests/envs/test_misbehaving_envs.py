"""Environments that misbehave or hang: one sentence with environment, step and seed."""

import signal
import time
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import EnvironmentFailure, make_vector_env
from fastrl.envs.deadline import NoAnswer, within
from fastrl.envs.toolkit.wrapped import make_wrapped_envs
from fastrl.errors import NonFiniteError

ZEROS = np.zeros(3, np.float32)
GOOD = (ZEROS, 1.0, False, False, {})


class Odd(gym.Env):
    """Its second step does what `act` returns or raises; `begin` likewise for the second reset."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, act=lambda: GOOD, begin=lambda: (ZEROS, {})):
        self.act, self.begin, self.steps, self.resets = act, begin, 0, 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return (ZEROS, {}) if self.resets == 1 else self.begin()

    def step(self, action):
        self.steps += 1
        return GOOD if self.steps == 1 else self.act()


def step_twice(faulty, **settings):
    """Two steps of two environments, the second one faulty; what the last step returned."""
    made = []

    def factory():
        made.append(faulty() if made else Odd())
        return made[-1]

    with make_vector_env(factory, 2, seed=3, **settings) as env:
        env.reset()
        env.step(torch.zeros(2, dtype=torch.int64))
        return env.step(torch.zeros(2, dtype=torch.int64))


def returns(obs=ZEROS, reward=1.0, terminated=False):
    return lambda: (obs, reward, terminated, False, {})


def raises(error):
    def act():
        raise error

    return act


def recurse():
    return recurse()


OBSERVATION = "its observation should be numbers of shape [3], it is "
REWARD = "its reward must be one number, it is "
FLAG = "its terminated must be True or False, it is "
FIVE_VALUES = "step must return five values (observation, reward, terminated, truncated, info); it returned "


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (returns(np.zeros(4, np.float32)), OBSERVATION + "an array of float32 of shape [4]"),
        (returns(np.zeros((1, 3), np.float32)), OBSERVATION + "an array of float32 of shape [1, 3]"),
        (returns(np.float32(0)), OBSERVATION + "a float32 0.0"),
        (returns(None), OBSERVATION + "None"),
        (returns("hello"), OBSERVATION + "the text 'hello'"),
        (returns(np.array(["1", "2", "3"])), OBSERVATION + "an array of <U1"),
        (returns(np.array([None, 1, 2], object)), OBSERVATION + "an array of object"),
        (returns(np.zeros(3, np.complex64)), OBSERVATION + "an array of complex64"),
        (returns([[1.0], [1.0, 2.0]]), OBSERVATION + "a list of 2"),
        (returns(reward=None), REWARD + "None"),
        (returns(reward="1.5"), REWARD + "the text '1.5'"),
        (returns(reward=1 + 2j), REWARD + "a complex (1+2j)"),
        (returns(reward=np.array([1.0, 2.0])), REWARD + "an array of float64 of shape [2]"),
        (returns(terminated=None), FLAG + "None"),
        (returns(terminated="False"), FLAG + "the text 'False'"),
        (returns(terminated=0.5), FLAG + "a float 0.5"),
        (returns(terminated=float("nan")), FLAG + "a float nan"),
        (returns(terminated=np.array([True, False])), FLAG + "an array of bool of shape [2]"),
        (
            lambda: (ZEROS, 1.0, False, {}),
            FIVE_VALUES + "4 values, as old Gym did",
        ),
        (lambda: (*GOOD, {}), FIVE_VALUES + "6 values"),
        (lambda: None, FIVE_VALUES + "None"),
        (raises(ZeroDivisionError("joint 3")), "ZeroDivisionError: joint 3"),
        (raises(SystemExit(5)), "SystemExit: 5"),
        (raises(GeneratorExit()), "GeneratorExit"),
        (raises(StopIteration()), "StopIteration"),
        (raises(MemoryError("no memory")), "MemoryError: no memory"),
        (raises(BrokenPipeError(32, "Broken pipe")), "BrokenPipeError: [Errno 32] Broken pipe"),
        (recurse, "RecursionError"),
    ],
)
def test_a_faulty_step_is_named(act, words):
    with pytest.raises(EnvironmentFailure) as caught:
        step_twice(lambda: Odd(act))
    assert words in str(caught.value)
    assert str(caught.value).startswith("environment 1 of Odd failed at step 1 (seed ")


@pytest.mark.parametrize("obs", [[1.0, 1.0, 1.0], np.ones(3, np.int64), np.ones(3)])
def test_numbers_of_other_kinds_are_taken(obs):
    assert step_twice(lambda: Odd(returns(obs))).obs.tolist() == [[0.0] * 3, [1.0] * 3]


@pytest.mark.parametrize(
    "reward", [True, 1, np.array([1.0]), np.float64(1.0), torch.tensor(1.0), torch.tensor([1.0])]
)
def test_a_reward_may_be_whatever_is_one_number(reward):
    assert step_twice(lambda: Odd(returns(reward=reward))).reward.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("flag", [True, 1, np.bool_(True), np.array([True])])
def test_a_flag_may_be_whatever_is_true_or_false(flag):
    assert step_twice(lambda: Odd(returns(terminated=flag))).terminated.tolist() == [False, True]


@pytest.mark.parametrize("result", [None, ZEROS, {"a": ZEROS}, (ZEROS, 1.0), (ZEROS, {}, {})])
def test_a_reset_without_info_is_named(result):
    with make_vector_env(Odd(begin=lambda: result)) as env:
        env.reset()
        with pytest.raises(
            EnvironmentFailure,
            match=r"environment 0 of Odd failed at step 0 .* reset must return two values, "
            r"\(observation, info\)",
        ):
            env.reset()


def test_old_gyms_returns_inside_of_wrappers_are_named_too():
    with pytest.raises(EnvironmentFailure, match=r"expected 5, got 4\) \(step must return five values"):
        step_twice(lambda: Odd(lambda: (ZEROS, 1.0, False, {})), max_episode_steps=10)
    with pytest.raises(EnvironmentFailure, match=r"NoneType object \(step must return five values"):
        step_twice(lambda: Odd(lambda: None), max_episode_steps=10)


def test_entries_of_a_dict_observation_are_named():
    space = gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (2,)), b=gym.spaces.Discrete(3))
    for obs, words in (
        (
            {"a": np.zeros(2, np.float32)},
            "the observation lacks 'b', which its space declares; it is a dict of 'a'",
        ),
        ({"a": np.zeros(3, np.float32), "b": 1}, "observation 'a' has shape [3], its space declares [2]"),
        (None, "the observation lacks 'a', which its space declares; it is NoneType"),
        (
            {"a": "near", "b": 1},
            "entry 'a' of its observation should be numbers of shape [2], it is the text 'near'",
        ),
        (
            {"a": np.zeros(2, np.float32), "b": 3},
            "observation 'b' is 3, but its space declares choices from 0 to 2",
        ),
    ):
        env = type("Dicts", (Odd,), {"observation_space": space})(begin=lambda obs=obs: (obs, {}))
        env.resets = 1
        with pytest.raises(EnvironmentFailure) as caught:
            make_vector_env(env).reset()
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (returns(reward=float("inf")), r"reward at step 1, step 2 of its episode: it is inf"),
        (returns(reward=1e300), r"reward at step 1, .*: it is 1e\+300, too large for float32"),
        (returns(np.array([0, np.nan, 0])), r"observation at step 1, .*: observation\[1\] is nan"),
        (returns(np.full(3, 1e300)), r"observation at step 1, .*: observation\[0\] is inf"),
    ],
)
def test_a_number_that_is_not_finite_is_named(act, words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            NonFiniteError, match=r"environment 1 of Odd \(seed \d+\) returned a non-finite " + words
        ):
            step_twice(lambda: Odd(act))


def test_huge_numbers_are_no_fault():
    step = step_twice(lambda: Odd(returns(np.full(3, 3e38), 3e38)))
    assert step.obs[1].tolist() == pytest.approx([3e38] * 3) and step.reward[1].item() == pytest.approx(3e38)


def test_an_environment_made_of_another_vector_environment_is_named_itself():
    inner = Odd(returns(reward=float("nan")))

    class Outer(Odd):
        def __init__(self):
            super().__init__()
            self.env = make_vector_env(inner)

        def step(self, action):
            if self.steps == 0:
                self.env.reset()
            self.steps += 1
            self.env.step(torch.zeros(1, dtype=torch.int64))
            return GOOD

    with pytest.raises(
        NonFiniteError,
        match="environment 1 of Odd failed at step 1 .*: environment 0 of Odd .* non-finite reward at step 1",
    ):
        step_twice(Outer)


def test_ctrl_c_and_what_a_signal_handler_raises_are_the_processs_own(monkeypatch):
    with pytest.raises(KeyboardInterrupt):  # Python's own handler: a real Ctrl-C
        step_twice(lambda: Odd(lambda: signal.raise_signal(signal.SIGINT)))

    def leave(number, frame):
        raise SystemExit(7)

    before = signal.signal(signal.SIGINT, leave)
    try:
        with pytest.raises(SystemExit, match="7"):
            step_twice(lambda: Odd(lambda: signal.raise_signal(signal.SIGINT)))
        with pytest.raises(
            EnvironmentFailure, match="environment 1 of Odd failed at step 1 .*: KeyboardInterrupt"
        ):
            step_twice(lambda: Odd(raises(KeyboardInterrupt())))
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_environments_own_grad_mode_stays_its_own():
    def act():
        torch.set_grad_enabled(False)
        return GOOD

    step_twice(lambda: Odd(act))
    assert torch.is_grad_enabled()


def test_an_environment_that_does_not_close_is_a_warning_and_the_others_are_closed():
    closed = []

    class Stuck(Odd):
        def close(self):
            closed.append(self)
            raise RuntimeError("port in use")

    env = make_vector_env(Stuck, 2)
    with pytest.warns(
        RuntimeWarning, match="environment 1 of Stuck could not be closed: RuntimeError: port in use"
    ):
        env.close()
    assert len(closed) == 2


def patient():
    """Takes every exception for one of its own."""
    try:
        time.sleep(60)
    except Exception:
        return GOOD


@pytest.mark.parametrize("act", [lambda: time.sleep(60), patient])
def test_an_environment_that_hangs_is_named_when_the_time_is_up(act):
    env = make_vector_env(Odd(act), seed=3)
    env.timeout = 0.05
    env.reset()
    env.step(torch.zeros(1, dtype=torch.int64))
    with pytest.raises(
        EnvironmentFailure,
        match=r"environment 0 of Odd failed at step 1 \(seed \d+\): no answer within 0.05 s \(env_timeout\)",
    ):
        env.step(torch.zeros(1, dtype=torch.int64))


def test_a_time_limit_leaves_handler_and_timer_as_they_were():
    def ring(number, frame):
        raise AssertionError("not before its time")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 1_000)
    try:
        assert within(5, lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(NoAnswer, match="within 0.01 s"):
            within(0.01, time.sleep, 60)
        assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1_000
        assert signal.getsignal(signal.SIGALRM) is ring
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (returns(reward=None), REWARD + "None"),
        (lambda: (ZEROS, 1.0, False, {}), FIVE_VALUES + "4 values, as old Gym did"),
    ],
)
def test_wrapped_environments_are_spoken_of_in_the_same_words(act, words):
    with make_wrapped_envs(lambda: Odd(act), 1, [], seed=0) as env:
        env.reset()
        env.step(torch.zeros(1, dtype=torch.int64))
        with pytest.raises(EnvironmentFailure) as failure:
            env.step(torch.zeros(1, dtype=torch.int64))
    assert str(failure.value).startswith("environment 0 of Odd failed at step 1") and words in str(
        failure.value
    )
