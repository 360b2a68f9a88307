"""`check_env`: a right environment has nothing but notes, and each fault its own plain sentence."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from fastrl.envs import VectorEnv, check_env, make_vector_env
from fastrl.envs.check import Finding, Report
from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.errors import SettingError

BOX = spaces.Box(-1, 1, (3,))
GOOD = np.zeros(3, np.float32)
BYTES = spaces.Box(0, 255, (40, 40, 3), np.uint8)


def env_class(
    obs=lambda env: env.np_random.uniform(-1, 1, 3).astype(np.float32),
    *,
    space=BOX,
    action=spaces.Discrete(2),  # noqa: B008  # spaces are not changed
    reward=lambda env: float(env.np_random.uniform()),
    length=7,
    **methods,
):
    """A class of environments that are right in everything not given; episodes of `length` steps.

    Args:
        obs, reward: from the environment to what it returns.
        space, action: its spaces.
        length: steps of an episode.
        methods: other members of the class.
    """

    class Env(gym.Env):
        observation_space, action_space = space, action

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return obs(self), {}

        def step(self, act):
            self.steps += 1
            return obs(self), reward(self), self.steps >= length, False, {}

    for name, member in methods.items():
        setattr(Env, name, member)
    return Env


def sentences(report, level):
    return [f"{finding.what}: {finding.sentence}" for finding in report.of(level)]


# ------------------------------------------------------------------------------------- nothing wrong


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "gymnasium:CartPole-v1",
        "Pendulum-v1",
        "gymnasium:Acrobot-v1",
        "Identity-v0",
        "MaskedCartPole-v1",
    ],
)
def test_nothing_is_wrong_with_well_known_environments(env_id):
    report = check_env(env_id, steps=300)
    assert report.ok and not report.broken and report.steps >= 300, str(report)
    assert "nothing wrong found" in str(report) and report.as_dict()["ok"] is True
    assert {"observations", "actions", "rewards", "limit"} - {f.what for f in report.findings} <= {"limit"}, (
        str(report)
    )


@pytest.mark.parametrize(
    "given",
    [env_class(), env_class()(), lambda: gym.vector.SyncVectorEnv([env_class()] * 2)],
    ids=["class", "object", "vector environment"],
)
def test_nothing_is_wrong_with_a_right_environment_of_ones_own(given):
    report = check_env(given, steps=50)
    assert report.ok, str(report)
    assert "limit: episodes of random actions last 7 to 7 steps; limit none" in sentences(report, "note")


def test_of_a_masked_environment_what_is_seen_is_told():
    assert "observations: float32 [2]" in sentences(check_env("MaskedCartPole-v1", steps=20), "note")


def test_an_object_stays_open_and_a_vector_environment_of_fastrl_is_taken_as_it_is():
    env = env_class(close=lambda self: setattr(self, "closed", True))()
    assert check_env(env, steps=20).ok and not hasattr(env, "closed")
    toy = make_vector_env("Counter-v0", 3)
    assert check_env(toy, steps=20).ok and toy.step(torch.zeros(3, dtype=torch.int64)).obs.shape == (3, 1)
    made = []

    def factory():
        made.append(env_class(close=lambda self: setattr(self, "closed", True))())
        return made[-1]

    assert check_env(factory, steps=20).ok and made and all(each.closed for each in made)


def test_options_reach_the_environment():
    report = check_env("Counter-v0", steps=40, env_kwargs={"length": 5})
    assert "limit: episodes of random actions last 5 to 5 steps; limit none" in sentences(report, "note")
    report = check_env("gymnasium:Pendulum-v1", steps=40, max_episode_steps=10)
    assert "limit: episodes of random actions last 10 to 10 steps; limit 10" in sentences(report, "note")
    space = spaces.Dict(a=BOX, b=spaces.Box(-1, 1, (2,)))
    report = check_env(
        env_class(lambda env: space.sample(), space=space, reset=_unseeded), steps=20, obs_keys=["b"]
    )
    assert any("'b' (float32 [2]): to policies float32 [2]" in text for text in sentences(report, "note"))


def _unseeded(self, *, seed=None, options=None):
    self.steps = 0
    return self.observation_space.sample(), {}


# ----------------------------------------------------------------------------------- one thing wrong


def _old_reset(self, *, seed=None, options=None):
    self.steps = 0
    return GOOD


def _raises(self, *args, **kwargs):
    raise RuntimeError("the simulator is gone")


def _exits(self, *args, **kwargs):
    raise SystemExit(3)


def _written_in_place(env):
    env.buffer = getattr(env, "buffer", GOOD.copy())
    env.buffer[:] = env.np_random.uniform(-1, 1, 3)
    return env.buffer


def _numbered_end(self, action):
    self.steps += 1
    return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, int(self.steps >= 7), False, {}


def _masked_step(self, action):
    self.wrong = getattr(self, "wrong", 0) + int(action == 0)
    self.steps += 1
    return (
        self.np_random.uniform(-1, 1, 3).astype(np.float32),
        1.0,
        self.steps >= 7,
        False,
        {"action_mask": np.array([0, 1], np.int8)},
    )


def _masked_reset(self, *, seed=None, options=None):
    gym.Env.reset(self, seed=seed)
    self.steps = 0
    return GOOD, {"action_mask": np.array([0, 1], np.int8)}


def _with_limit(self, *, seed=None, options=None):
    gym.Env.reset(self, seed=seed)
    self.steps, self.max_episode_steps = 0, 7
    return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}


def _truncating(steps):
    def step(self, action):
        self.steps += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), 1.0, False, self.steps >= steps, {}

    return step


def _returning(*values):
    return lambda self, action: values


SCREEN = spaces.Dict(screen=BYTES, speed=BOX)
PAIR = spaces.Tuple([spaces.Discrete(3), BOX])
FAULTS = {  # what is wrong, level, and what the sentence says
    "float image declared as bytes": (
        env_class(lambda env: env.np_random.random((40, 40, 3)), space=BYTES),
        "error",
        r"float64, but its space declares bytes.*np\.float32",
    ),
    "bytes out of range": (
        env_class(lambda env: np.full((40, 40, 3), -1), space=BYTES),
        "error",
        "has -1, but its space declares bytes, 0 to 255",
    ),
    "floats cast to bytes": (
        env_class(lambda env: env.np_random.random((40, 40, 3)).astype(np.uint8), space=BYTES),
        "warning",
        "never exceeds 0: were numbers from",
    ),
    "pixels as floats": (
        env_class(
            lambda env: env.np_random.uniform(0, 255, (40, 40, 3)).astype(np.float32),
            space=spaces.Box(0, 255, (40, 40, 3), np.float32),
        ),
        "warning",
        "give pixels as bytes, or from 0 to 1",
    ),
    "a choice that is not there": (
        env_class(lambda env: 4, space=spaces.Discrete(4)),
        "error",
        "is 4, but its space declares choices from 0 to 3",
    ),
    "-1 as a choice": (
        env_class(lambda env: np.array([1, -1]), space=spaces.MultiDiscrete([3, 2])),
        "error",
        "is -1 in place 1, but .* 0 to 1",
    ),
    "outside the box": (
        env_class(lambda env: GOOD + 7, length=3),
        "warning",
        r"the observation at \[0\] was 7 to 7, its space declares -1 to 1",
    ),
    "another shape": (env_class(lambda env: GOOD[:2]), "error", r"has shape \[2\], its space declares \[3\]"),
    "None": (env_class(lambda env: None), "error", "the observation is None"),
    "a missing entry": (
        env_class(lambda env: {"speed": GOOD}, space=SCREEN),
        "error",
        "lacks 'screen', which its space declares",
    ),
    "an entry too many": (
        env_class(
            lambda env: {"a": env.np_random.uniform(-1, 1, 3).astype(np.float32), "b": 1},
            space=spaces.Dict(a=BOX),
        ),
        "warning",
        "does not declare.*'b'",
    ),
    "another dtype": (
        env_class(lambda env: env.np_random.uniform(-1, 1, 3)),
        "note",
        "is float64, its space declares float32",
    ),
    "an image left out": (
        env_class(lambda env: SCREEN.sample(), space=SCREEN, reset=_unseeded),
        "warning",
        r"'screen' \(an image, bytes \[40, 40, 3\]\) left out",
    ),
    "text left out": (
        env_class(lambda env: {"a": GOOD, "t": "x"}, space=spaces.Dict(a=BOX, t=spaces.Text(5))),
        "warning",
        r"'t' \(no numbers\) left out",
    ),
    "bytes beside floats": (
        env_class(
            lambda env: {"a": env.np_random.random(3).astype(np.float32), "b": np.full(2, 255, np.uint8)},
            space=spaces.Dict(a=BOX, b=spaces.Box(0, 255, (2,), np.uint8)),
        ),
        "note",
        "divided by 255: b",
    ),
    "never changing": (env_class(lambda env: GOOD), "warning", "they never changed"),
    "some never change": (
        env_class(lambda env: np.float32([0, env.np_random.random(), 0])),
        "note",
        "2 of the 3 numbers",
    ),
    "a range of a million": (
        env_class(
            lambda env: 1e6 * env.np_random.random(3).astype(np.float32),
            space=spaces.Box(-np.inf, np.inf, (3,)),
        ),
        "warning",
        "normalise observations",
    ),
    "not finite": (env_class(lambda env: np.float32([np.nan, 0, 0])), "error", "not finite"),
    "written in place": (env_class(_written_in_place), "note", "written into the array of the one before"),
    "no numeric form": (env_class(lambda env: "x", space=spaces.Text(5)), "error", "no numeric form"),
    "no space": (env_class(space=None), "error", "the environment has no observation_space"),
    "a space of something else": (env_class(action=3), "error", "its action_space is int"),
    "actions of no kind": (env_class(action=spaces.Text(3)), "error", "neither Discrete, MultiDiscrete"),
    "bounds": (env_class(action=spaces.Box(5.0, 35.0, (2,))), "note", "bounds 5 to 35; policies act in"),
    "half-open bounds": (
        env_class(action=spaces.Box(np.float32([0, -1]), np.float32([np.inf, 1]))),
        "note",
        r"own units: number 0 \(0 to inf\)",
    ),
    "outside its bounds, accepted": (
        env_class(action=spaces.Box(-5.0, 5.0, (2,))),
        "note",
        "outside its bounds is accepted",
    ),
    "a reward that is no number": (
        env_class(reward=lambda env: None),
        "error",
        "its reward must be one number, it is None",
    ),
    "a reward of shape (1,)": (
        env_class(reward=lambda env: np.array([1.0])),
        "note",
        r"a reward is an array of float64 of shape \[1\], it should be",
    ),
    "a reward of shape (2,)": (
        env_class(reward=lambda env: np.ones(2)),
        "error",
        "its reward must be one number, it is an array",
    ),
    "a reward too large for float32": (
        env_class(reward=lambda env: 1e300),
        "error",
        "it is 1e\\+300, too large for float32",
    ),
    "too large for float32": (
        env_class(lambda env: np.full(3, 1e300)),
        "error",
        r"number\[0\] is 1e\+300, too large for float32",
    ),
    "an infinite reward": (
        env_class(reward=lambda env: np.inf),
        "error",
        "a reward is not finite, it is inf",
    ),
    "huge rewards": (env_class(reward=lambda env: 1e6), "warning", "normalise rewards"),
    "no reward": (env_class(reward=lambda env: 0.0), "note", "every reward was 0"),
    "old reset": (
        env_class(reset=_old_reset),
        "error",
        r"reset must return two values, .* it returned an array of float32 of shape \[3\]",
    ),
    "reset without a seed": (env_class(reset=lambda self: (GOOD, {})), "error", "it must take a seed"),
    "old step": (
        env_class(step=_returning(GOOD, 1.0, False, {})),
        "error",
        r"step must return five values .*; it returned 4 values, as old Gym did",
    ),
    "infos as a list": (
        env_class(step=_returning(GOOD, 1.0, False, False, [])),
        "warning",
        "an info that is a list of 0, it should be a dict",
    ),
    "a flag that is a number": (
        env_class(step=_numbered_end),
        "note",
        "terminated is of type int, it should be a bool",
    ),
    "a flag that is None": (
        env_class(step=_returning(GOOD, 1.0, False, None, {})),
        "error",
        "its truncated must be True or False, it is None",
    ),
    "step raises": (
        env_class(step=_raises),
        "error",
        r"raised RuntimeError: the simulator is gone, 0 steps in",
    ),
    "step exits": (env_class(step=_exits), "error", "raised SystemExit: 3"),
    "reset raises": (env_class(reset=_raises), "error", "reset raised RuntimeError: the simulator is gone"),
    "making it raises": (
        env_class(__init__=_raises),
        "error",
        "making it raised RuntimeError: the simulator is gone",
    ),
    "no environment": (lambda: 3, "error", "it is a int, not a gymnasium.Env"),
    "close raises": (env_class(close=_raises), "error", "close raised RuntimeError"),
    "seeds that do nothing": (
        env_class(lambda env: np.random.default_rng().random(3, np.float32)),
        "warning",
        "two resets with one seed differ",
    ),
    "steps without a seed": (
        env_class(lambda env: GOOD if env.steps == 0 else np.random.default_rng().random(3, np.float32)),
        "warning",
        "the same seed and actions give different",
    ),
    "a tuple that starts alike": (
        env_class(lambda env: (env.steps % 3, GOOD), space=PAIR),
        "note",
        "two seeds start alike",
    ),
    "starts alike": (
        env_class(lambda env: GOOD + 0.1 * np.float32(env.steps)),
        "note",
        "two seeds start alike",
    ),
    "no end": (
        env_class(length=10**9),
        "warning",
        "no episode ended within 60 steps, and no time limit is told",
    ),
    "a limit that is not told": (
        env_class(step=_truncating(9)),
        "note",
        "truncated after 9 steps at most, but no limit is told; give max_episode_steps=9",
    ),
    "a limit that is not kept": (
        env_class(_max_episode_steps=5, length=9),
        "warning",
        "a limit of 5 steps is told, but an episode lasted 9",
    ),
    "another limit": (
        env_class(step=_truncating(9), _max_episode_steps=20),
        "warning",
        "20 steps is told, but episodes are truncated after 9",
    ),
    "a limit that is told after a reset": (
        env_class(step=_truncating(7), reset=_with_limit),
        "note",
        "7 steps, which it tells only after",
    ),
    "no end, and a huge limit": (
        env_class(length=10**9, _max_episode_steps=2**31 - 1),
        "warning",
        "2,147,483,647 steps is as good as none",
    ),
    "masks of actions": (
        env_class(step=_masked_step, reset=_masked_reset),
        "note",
        "info has an action_mask",
    ),
    "a window": (env_class(render_mode="human"), "warning", "render_mode is 'human'"),
}


@pytest.mark.parametrize(("factory", "level", "said"), FAULTS.values(), ids=FAULTS)
def test_each_fault_has_its_sentence(factory, level, said):
    report = check_env(factory, steps=60)
    found = [text for text in sentences(report, level) if re.search(said, text)]
    assert len(found) == 1, str(report)
    assert report.ok == (level == "note"), str(report)  # and nothing else is wrong with it
    assert report.broken == (level == "error") and found[0].split(": ", 1)[1] in str(report)


def test_random_actions_keep_to_a_mask_while_one_environment_is_looked_at_alone():
    env = env_class(step=_masked_step, reset=_masked_reset)()
    assert check_env(env, steps=60, num_envs=1).ok
    assert 0 < env.wrong < 64  # only in the 64 steps as trainers make them


# ------------------------------------------------------------------------------- vector environments


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_autoreset_mode_that_is_told_is_found_by_stepping(mode):
    report = check_env(ToyVectorGym("Identity-v0", 2, mode), steps=120)
    assert f"autoreset: {mode.name}" in sentences(report, "note") and report.ok, str(report)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_an_autoreset_mode_that_is_not_told_or_not_true_is_a_warning(mode):
    env = ToyVectorGym("Identity-v0", 2, mode)
    env.metadata = {}
    said = sentences(check_env(env, steps=120), "warning")
    assert any(
        f"metadata['autoreset_mode'] is not there; stepping shows {mode.name}" in text for text in said
    ), said
    env = ToyVectorGym("Identity-v0", 2, mode)
    other = AutoresetMode.NEXT_STEP if mode != AutoresetMode.NEXT_STEP else AutoresetMode.SAME_STEP
    env.metadata = {"autoreset_mode": other}
    said = sentences(check_env(env, steps=120), "warning")
    assert f"autoreset: metadata['autoreset_mode'] tells {other.name}, stepping shows {mode.name}" in said, (
        said
    )


def test_infos_of_a_vector_environment_may_be_a_list_and_nothing_stranger():
    wrapped = gym.wrappers.vector.DictInfoToList(ToyVectorGym("Identity-v0", 2, AutoresetMode.SAME_STEP))
    assert check_env(wrapped, steps=40).ok

    class Silent(ToyVectorGym):
        def step(self, actions):
            return (*super().step(actions)[:4], None)

    said = sentences(check_env(Silent("Identity-v0", 2), steps=40), "error")
    assert any(
        "infos are a NoneType, neither a dict of arrays nor a list of dicts" in text for text in said
    ), said


class _Broken(VectorEnv):
    def _reset_all(self):
        return np.zeros((self.num_envs, 2), np.float32)

    def _advance(self, actions):
        raise ValueError("no more")


def test_a_vector_environment_of_fastrl_that_fails_is_a_finding():
    toy = make_vector_env("Identity-v0", 2)
    settings = {
        "name": "Mine",
        "num_envs": 2,
        "obs_shape": (2,),
        "obs_dtype": torch.float32,
        "max_episode_steps": None,
        "device": "cpu",
    }
    said = sentences(check_env(_Broken(action=toy.action, **settings), steps=5), "error")
    assert len(said) == 1 and "Mine failed at step 0" in said[0] and "no more" in said[0]


# ------------------------------------------------------------------------------ settings, the report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "Cartpol-v1"}, "there is no environment 'Cartpol-v1'; did you mean 'CartPole-v1'"),
        ({"env": "CartPole-v1", "env_kwargs": {"colour": 3}}, "CartPole-v1 has no option 'colour'"),
        ({"env": 3}, "env must be an id, an environment or a factory of environments, got int"),
        ({"env": "CartPole-v1", "steps": 0}, "steps must be at least 1, got 0"),
        ({"env": "CartPole-v1", "num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"env": "CartPole-v1", "seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_a_mistake_of_the_caller_is_a_setting_error(arguments, message):
    with pytest.raises(SettingError, match=message):
        check_env(**arguments)


def test_a_report_says_each_thing_once_and_the_worst_first():
    report = Report("Mine")
    assert report.ok and "no findings" in str(report)
    report.note("rewards", "always 1")
    report.warn("limit", "none")
    for _ in range(2):
        report.error("step", "it  raised")
    assert report.of("error") == [Finding("error", "step", "it raised")] and report.broken and not report.ok
    lines = str(report).splitlines()
    assert lines[0].startswith("Mine: look at this") and [line.split()[0] for line in lines[1:]] == [
        "error",
        "warning",
        "note",
    ]
    assert report.as_dict()["findings"][0] == {"level": "note", "what": "rewards", "sentence": "always 1"}
