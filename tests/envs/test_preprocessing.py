"""What published settings do to environments: frames, repeated and sticky actions, signs of rewards,
wrappers.

Every environment here tells what was done to it: pixels and rewards count its own steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.images import ImageSteps, area_weights
from fastrl.envs.preprocessing import Preprocessing
from fastrl.errors import SettingError
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy

SIDE = 20


class Film(gym.Env[np.ndarray, int]):
    """Shows its step in pixel [0, 0] and its latest action in [0, 1]; pays 10 times the step; some length."""

    observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
    action_space = gym.spaces.Discrete(5)

    def __init__(self, length: int = 7) -> None:
        self.length, self.actions = length, []

    def picture(self, action: int = 0) -> np.ndarray:
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        image[0, 0], image[0, 1], image[1 + self.steps % 2, 2] = self.steps % 256, action, 200
        return image

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.actions.append([])
        return self.picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.actions[-1].append(int(action))
        return self.picture(int(action)), 10.0 * self.steps, self.steps >= self.length, False, {}


def noughts(num_envs: int) -> torch.Tensor:
    return torch.zeros(num_envs, dtype=torch.int64)


# -------------------------------------------------------------------------------------------- frames


def frames_by_hand(env: Any, steps: int, count: int) -> list[np.ndarray]:
    """Stacks of the environment's single frames, made slowly: [steps + 1] of [N, count, ...]."""
    obs = env.reset().numpy()
    history = [[frame] * count for frame in obs]
    stacks, began = [np.stack([np.stack(frames) for frames in history])], np.zeros(env.num_envs, bool)
    for _ in range(steps):
        step = env.step(noughts(env.num_envs))
        for index, frame in enumerate(step.obs.numpy()):
            if began[index]:
                history[index] = [frame] * count
            elif step.valid[index]:
                history[index] = [*history[index][1:], frame]
        began = (step.terminated | step.truncated).numpy()
        stacks.append(np.stack([np.stack(frames) for frames in history]))
    return stacks


def vector_of_films(mode: gym.vector.AutoresetMode) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Films of two lengths under any autoreset mode, in a class that is not looked into."""

    class Opaque(gym.vector.SyncVectorEnv):
        pass

    return Opaque([lambda: Film(3), lambda: Film(5)], autoreset_mode=mode)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Film,
        lambda: vector_of_films(gym.vector.AutoresetMode.NEXT_STEP),
        lambda: vector_of_films(gym.vector.AutoresetMode.SAME_STEP),
    ],
    ids=["single", "next step", "same step with held rows"],
)
def test_a_stack_is_the_latest_frames_of_the_episode(make: Callable[[], Any]) -> None:
    with (
        make_vector_env(make(), 2, seed=1) as single,
        make_vector_env(make(), 2, seed=1, frame_stack=4) as env,
    ):
        assert env.obs_shape == (12, SIDE, SIDE) and env.frame_stack == 4 and env.obs_dtype == torch.uint8
        expected = frames_by_hand(single, 20, 4)
        seen = [env.reset()]
        for _ in range(20):
            before = seen[-1].clone()
            step = env.step(noughts(2))
            assert torch.equal(seen[-1], before), "what a step returned is never written again"
            seen.append(step.obs)
    for stack, obs in zip(expected, seen, strict=True):
        # [N, K, H, W, C] to [N, K·C, H, W]
        assert np.array_equal(np.moveaxis(stack, -1, 2).reshape(2, 12, SIDE, SIDE), obs.numpy())


def test_vectors_are_stacked_one_behind_the_other() -> None:
    with make_vector_env("Counter-v0", 3, frame_stack=3, env_kwargs={"length": [2, 4, 6]}) as env:
        with make_vector_env("Counter-v0", 3, env_kwargs={"length": [2, 4, 6]}) as single:
            expected = frames_by_hand(single, 15, 3)
        assert env.obs_shape == (3 * single.obs_shape[0],)
        seen = [env.reset()] + [env.step(noughts(3)).obs for _ in range(15)]
    for stack, obs in zip(expected, seen, strict=True):
        assert np.array_equal(stack.reshape(3, -1), obs.numpy())


def test_saved_environments_go_on_with_their_frames_and_sticky_actions() -> None:
    settings: dict[str, Any] = {"frame_stack": 3, "sticky_actions": 0.5, "sign_rewards": True}
    actions = torch.randint(2, (40, 2), generator=torch.Generator().manual_seed(0))
    with (
        make_vector_env("Identity-v0", 2, **settings) as one,
        make_vector_env("Identity-v0", 2, **settings) as two,
    ):
        for env in (one, two):
            env.reset()
        for row in actions[:15]:
            one.step(row)
        two.load_state_dict(one.state_dict())
        for row in actions[15:]:
            for mine, other in zip(one.step(row), two.step(row), strict=True):
                assert torch.equal(mine, other)
        state = one.state_dict()
        del state["statistics"]["pipeline"]
        with pytest.raises(ValueError, match="preprocessed"):
            two.load_state_dict(state)


def test_grey_scale_and_size_beside_a_slow_reference() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (2, 21, 16, 3), dtype=np.uint8)
    steps = ImageSteps((21, 16, 3), grey_scale=True, side=10)
    assert steps.shape == (1, 10, 10)
    expected = np.zeros((2, 1, 10, 10))
    for index in range(2):
        grey = np.zeros((21, 16))
        for row in range(21):
            for column in range(16):
                red, green, blue = (int(part) for part in image[index, row, column])
                grey[row, column] = (299 * red + 587 * green + 114 * blue + 500) // 1000
        for row in range(10):
            for column in range(10):
                expected[index, 0, row, column] = average(grey, row * 2.1, column * 1.6, 2.1, 1.6)
    got = steps(image)
    assert got.dtype == np.uint8 and np.abs(got - expected).max() <= 0.501


def average(grey: np.ndarray, top: float, left: float, height: float, width: float) -> float:
    """Mean over an area whose edges lie inside of pixels."""
    total = 0.0
    for row in range(grey.shape[0]):
        for column in range(grey.shape[1]):
            down = max(0.0, min(row + 1, top + height) - max(row, top))
            across = max(0.0, min(column + 1, left + width) - max(column, left))
            total += down * across * grey[row, column]
    return total / (height * width)


def test_weights_of_areas() -> None:
    assert np.array_equal(area_weights(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert np.allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    for size, target in ((210, 84), (84, 84), (10, 25)):
        assert np.allclose(area_weights(size, target).sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (3, 20, 30), (1, 20, 30), (20, 30, 1)])
def test_images_of_either_order_of_axes(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    channels = 3 if 3 in shape else 1
    same = ImageSteps(shape, grey_scale=False, side=None)
    assert same.shape == (channels, 20, 30)
    front = image[:, None] if len(shape) == 2 else np.moveaxis(image, -1, 1) if shape[0] == 20 else image
    assert np.array_equal(same(image), front) and not np.shares_memory(same(image), image)
    assert ImageSteps(shape, grey_scale=True, side=10)(image).shape == (2, 1, 10, 10)


# ------------------------------------------------------------------------------------------- actions


def test_an_action_is_repeated_rewards_are_summed_and_flicker_is_gone() -> None:
    with make_vector_env(Film, 1, frame_skip=3, env_kwargs={"length": 7}) as env:
        env.reset()
        steps = [env.step(torch.tensor([action])) for action in (1, 2, 3, 4)]
        film = env.envs[0].unwrapped
    assert film.actions[0] == [1, 1, 1, 2, 2, 2, 3], "the episode ends within the third repetition"
    assert [float(step.reward) for step in steps] == [60.0, 150.0, 70.0, 0.0]
    assert [bool(step.terminated) for step in steps] == [False, False, True, False]
    assert [bool(step.valid) for step in steps] == [True, True, True, False]
    first = steps[0].obs[0]
    assert first[0, 0, 0] == 3 and (first[1, 2, 0], first[2, 2, 0]) == (200, 200), "larger of the last two"
    last = steps[2].obs[0]
    assert last[0, 0, 0] == 7 and (last[1, 2, 0], last[2, 2, 0]) == (0, 200), "a single frame"
    assert env.pop_episodes() == [(0, 280.0, 3)]


def test_time_limits_count_the_actions_of_the_policy() -> None:
    with make_vector_env(Film, 1, frame_skip=3, max_episode_steps=4, env_kwargs={"length": 99}) as env:
        assert env.max_episode_steps == 4
        env.reset()
        assert [bool(env.step(noughts(1)).truncated) for _ in range(4)] == [False, False, False, True]
    with make_vector_env("gymnasium:CartPole-v1", 1, frame_skip=3) as env:
        assert env.max_episode_steps == 167  # 500 frames


@pytest.mark.parametrize("skip", [None, 2])
def test_sticky_actions_repeat_the_action_before(skip: int | None) -> None:
    length = 2000
    with make_vector_env(Film, 1, sticky_actions=0.25, frame_skip=skip, env_kwargs={"length": length}) as env:
        env.reset()
        asked, executed = [], []
        for step in range(length // (skip or 1)):
            action = step % 5
            env.step(torch.tensor([action]))
            asked += [action] * (skip or 1)
        executed = env.envs[0].unwrapped.actions[0]
    assert len(executed) == len(asked) == length and executed[0] == asked[0] == 0
    before = executed[:-1]
    kept = sum(
        done == old != wanted for done, old, wanted in zip(executed[1:], before, asked[1:], strict=True)
    )
    moved = sum(done == wanted for done, wanted in zip(executed[1:], asked[1:], strict=True))
    assert kept + moved == length - 1, "an action is the one asked for, or the one before"
    chances = sum(old != wanted for old, wanted in zip(before, asked[1:], strict=True))
    assert 0.2 < kept / chances < 0.3


def test_sticky_actions_do_not_reach_over_episodes() -> None:
    with make_vector_env(Film, 2, sticky_actions=0.9, env_kwargs={"length": 3}) as env:
        env.reset()
        for step in range(40):
            env.step(torch.full((2,), 1 + step % 4))
        episodes = [actions for each in env.envs for actions in each.unwrapped.actions if actions]
    # the step that resets takes none, so that an episode of 3 begins every fourth step with action 1
    assert {actions[0] for actions in episodes} == {1} and len(episodes) == 20


def test_signs_of_rewards_are_learned_from_and_returns_are_the_environments_own() -> None:
    class Mixed(Film):
        def step(self, action: int) -> Any:
            obs, _, *ends = super().step(action)
            return obs, (-7.5, 0.0, 3.0)[self.steps % 3], *ends

    with make_vector_env(Mixed, 1, sign_rewards=True, env_kwargs={"length": 3}) as env:
        env.reset()
        assert [float(env.step(noughts(1)).reward) for _ in range(4)] == [0.0, 1.0, -1.0, 0.0]
        assert env.pop_episodes() == [(0, -4.5, 3)]
        actor = MemorylessActor(lambda obs, deterministic: noughts(len(obs)))
        evaluation = evaluate_policy(actor, env, 2)
        assert evaluation is not None and evaluation["eval/return_mean"] == -4.5


# ------------------------------------------------------------------------------------------ wrappers

MODULE = """
import gymnasium as gym
import numpy as np

class Shifted(gym.RewardWrapper):
    def reward(self, reward):
        return reward + 1.0

def doubled(env):
    return gym.wrappers.TransformReward(env, lambda reward: 2.0 * reward)

def broken(env):
    raise RuntimeError("no such luck")

def nothing(env):
    return 3
"""


@pytest.fixture
def mine(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of wrappers in the present folder, by a name of its own."""
    name = f"wrappers_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_wrappers_are_applied_innermost_first(mine: str) -> None:
    for order, expected in ((("Shifted", "doubled"), 22.0), (("doubled", "Shifted"), 21.0)):
        wrapper = [f"{mine}:{name}" for name in order]
        with make_vector_env(Film, 2, wrapper=wrapper, frame_stack=2) as env:
            env.reset()
            assert env.step(noughts(2)).reward.tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("wrapper", "sentence"),
    [
        ("{}:broken", "^wrapper: .*:broken around Film cannot be made: RuntimeError: no such luck"),
        ("{}:nothing", "^wrapper: .* made int of Film, no Gymnasium environment"),
        ("{}:Shiftd", "^wrapper: the module .* has no 'Shiftd'; did you mean 'Shifted'"),
        ("no_such_module:Thing", "^wrapper: there is no module 'no_such_module'"),
        ("Shifted", "^wrapper must be module:Name"),
    ],
)
def test_wrappers_that_cannot_be(mine: str, wrapper: str, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        make_vector_env(Film, 1, wrapper=[wrapper.format(mine)])


# ----------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("env", "settings", "sentence"),
    [
        ("CartPole-v1", {"grey_scale": True}, "grey_scale is for images, and CartPole-v1 has float32"),
        ("CartPole-v1", {"resize": 84}, "resize is for images"),
        ("CartPole-v1", {"frame_skip": 4}, "frame_skip is for Gymnasium's environments one by one"),
        ("CartPole-v1", {"wrapper": ["a:b"]}, "wrapper is for Gymnasium's environments, and EnvPool's"),
        ("Counter-v0", {"frame_skip": 4}, "frame_skip is for Gymnasium's environments one by one"),
        ("MiniGrid-Empty-5x5-v0", {"frame_stack": 4}, "frame_stack is for vectors and images, and MiniGrid"),
        (Film, {"frame_stack": 0}, "frame_stack must be at least 1"),
        (Film, {"frame_skip": 65}, "frame_skip must be at most 64"),
        (Film, {"resize": 4}, "resize must be at least 8"),
        (Film, {"sticky_actions": 1.0}, r"sticky_actions must be a probability in \[0, 1\)"),
        (Film, {"grey_scale": 3}, "grey_scale must be true or false"),
        (
            "Pong-v5",
            {"frame_stack": 4, "env_kwargs": {"stack_num": 2}},
            "frame_stack and the option stack_num in env_kwargs are the same",
        ),
    ],
)
def test_settings_that_do_not_fit(env: Any, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        make_vector_env(env, 1, **settings)


def test_environments_that_are_made_already() -> None:
    with (
        make_vector_env("Counter-v0", 2) as made,
        pytest.raises(SettingError, match="^frame_stack cannot be"),
    ):
        make_vector_env(made, 2, frame_stack=4)
    vector = vector_of_films(gym.vector.AutoresetMode.NEXT_STEP)
    with pytest.raises(SettingError, match="frame_skip is for single environments; Opaque"):
        make_vector_env(vector, 2, frame_skip=4)
    vector.close()


def test_nothing_given_is_nothing_done() -> None:
    assert Preprocessing().given == () and Preprocessing(wrapper=()).given == ()
    with make_vector_env("CartPole-v1", 2) as env:
        assert env._pipeline is None and env.frame_stack == 1


# ------------------------------------------------------------------------------------------- EnvPool


def test_atari_does_it_natively() -> None:
    settings: dict[str, Any] = {"frame_stack": 3, "frame_skip": 2, "resize": 42, "sticky_actions": 0.25}
    with make_vector_env("Pong-v5", 2, grey_scale=True, sign_rewards=True, **settings) as env:
        config = env._pool.config  # type: ignore[attr-defined]
        assert (config["stack_num"], config["frame_skip"], config["gray_scale"]) == (3, 2, True)
        assert (config["img_height"], config["img_width"]) == (42, 42)
        assert config["repeat_action_probability"] == pytest.approx(0.25)
        assert env.obs_shape == (3, 42, 42) and env.frame_stack == 3
        first = env.reset()
        step = env.step(noughts(2))
        assert first.shape == step.obs.shape == (2, 3, 42, 42) and first.dtype == torch.uint8
        assert torch.equal(first[:, 1:], step.obs[:, :-1])


def test_atari_as_it_comes_tells_its_frames() -> None:
    with make_vector_env("Pong-v5", 1) as env:
        assert env.obs_shape == (4, 84, 84) and env.frame_stack == 4
    with make_vector_env("Pong-v5", 1, frame_stack=4, grey_scale=False) as env:
        assert env.obs_shape == (12, 84, 84) and env.frame_stack == 4
