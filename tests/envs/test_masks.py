"""Masks of actions on their way from an environment to the end of an observation."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

from fastrl.envs import make_vector_env
from fastrl.envs.base import EnvironmentFailure, VectorEnv
from fastrl.errors import SettingError


class Doors(gym.Env[Any, Any]):
    """One of five doors, or one of two with three handles; a seed says which are open, anew each step.

    The last observation of an episode, after three steps, comes with a mask of zeros.
    """

    space: ClassVar[gym.Space[Any]] = gym.spaces.Discrete(5)
    opens_nothing_at = 3

    def __init__(self, dict_entry: bool = True, opens_nothing_at: int = 3) -> None:
        self.action_space = self.space
        self.dict_entry, self.opens_nothing_at = dict_entry, opens_nothing_at
        vector = gym.spaces.Box(-1, 1, (2,), np.float32)
        mask = gym.spaces.Box(0, 1, (5,), np.int8)
        self.observation_space = (
            gym.spaces.Dict({"action_mask": mask, "view": vector}) if dict_entry else vector
        )

    def _look(self) -> tuple[Any, dict[str, Any]]:
        self.mask = np.zeros(5, np.int8)
        if self.steps < self.opens_nothing_at:
            self.mask[[self.np_random.integers(2), 2 + self.np_random.integers(3)]] = 1
        view = np.full(2, self.steps / 8, np.float32)
        if self.dict_entry:
            return {"action_mask": self.mask, "view": view}, {}
        return view, {"action_mask": self._in_info()}

    def _in_info(self) -> Any:
        return self.mask

    def _allowed(self, action: Any) -> bool:
        return bool(self.mask[action])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._look()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        allowed = self._allowed(action)
        self.steps += 1
        obs, info = self._look()
        return obs, float(allowed), self.steps == 3, False, info


class Handles(Doors):
    space = gym.spaces.MultiDiscrete([2, 3])

    def _in_info(self) -> Any:
        return (self.mask[:2], self.mask[2:])  # as `MultiDiscrete.sample` takes it

    def _allowed(self, action: Any) -> bool:
        return bool(self.mask[action[0]] and self.mask[2 + action[1]])


def first_allowed(env: VectorEnv, obs: Any) -> np.ndarray:
    masks = obs.numpy()[:, -5:]
    if env.action.kind == "discrete":
        return masks.argmax(1)
    return np.stack([masks[:, :2].argmax(1), masks[:, 2:].argmax(1)], axis=1)


@pytest.mark.parametrize("kind", [Doors, Handles])
@pytest.mark.parametrize("in_dict", [True, False])
@pytest.mark.parametrize("made", ["single", "next_step", "same_step", "disabled"])
def test_the_mask_is_the_end_of_the_observation(kind: type[Doors], in_dict: bool, made: str) -> None:
    """Whoever follows it is rewarded at every transition, over ends and resets, in every autoreset mode."""
    key = "action_mask" if in_dict else "info.action_mask"
    env: Any = lambda: kind(in_dict)  # noqa: E731
    if made != "single":
        mode = gym.vector.AutoresetMode[made.upper()]
        # a subclass, which is not taken apart into its single environments
        stepped = type("Vector", (gym.vector.SyncVectorEnv,), {})
        env = stepped([env, env], autoreset_mode=mode)
    with make_vector_env(env, 2, seed=5, action_mask_key=key) as envs:
        assert envs.action.masked and envs.action.mask_size == 5 and envs.obs_shape == (7,)
        low, high = envs.obs_bounds
        assert low.tolist() == [-1, -1, 0, 0, 0, 0, 0] and high.tolist() == [1] * 7
        obs, transitions = envs.reset(), 0
        assert obs[:, 2:].sum() == 4
        for _ in range(12):
            step = envs.step(first_allowed(envs, obs))
            assert (step.reward[step.valid] == 1).all()
            transitions += int(step.valid.sum())
            obs = step.obs
        assert transitions >= 12


def test_a_mask_that_forbids_everything_is_named() -> None:
    with make_vector_env(lambda: Doors(opens_nothing_at=1), 2, action_mask_key="action_mask") as envs:
        with pytest.raises(
            EnvironmentFailure, match=r"environment 0 .* mask \(action_mask_key\) forbids every action"
        ):
            envs.step(first_allowed(envs, envs.reset()))
    with make_vector_env(
        lambda: Handles(False, opens_nothing_at=0), 1, action_mask_key="info.action_mask"
    ) as envs:
        with pytest.raises(EnvironmentFailure, match="forbids every choice of a branch"):
            envs.reset()


class Drawn(Doors):
    """Its view is an image."""

    def __init__(self) -> None:
        super().__init__()
        image = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)
        self.observation_space = gym.spaces.Dict({**self.observation_space.spaces, "view": image})


class Short(Doors):
    def _in_info(self) -> Any:
        return self.mask[:4]


@pytest.mark.parametrize(
    ("env", "key", "sentence"),
    [
        (Doors, "actionmask", "no entry 'actionmask', it has action_mask, view"),
        (lambda: Doors(False), "action_mask", "no entry 'action_mask', they are a single array"),
        (Doors, "view", "'view' of .* must be 5 flags, one for each choice; it is float32 \\[2\\]"),
        (Drawn, "action_mask", "vectors; 'view' of .* is an image"),
        ("Pendulum-v1", "info.action_mask", "action_mask_key is for discrete actions"),
        ("Identity-v0", "action_mask", "Identity-v0 gives no masks of actions"),
    ],
)
def test_what_cannot_be_a_mask_is_said(env: Any, key: str, sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        make_vector_env(env, 1, action_mask_key=key)


def test_a_mask_in_infos_of_another_size_is_said() -> None:
    with make_vector_env(lambda: Short(False), 1, action_mask_key="info.action_mask") as envs:
        with pytest.raises(EnvironmentFailure, match="has 4 numbers, its actions have 5 choices"):
            envs.reset()


def test_without_the_setting_nothing_is_masked() -> None:
    with make_vector_env(Doors, 1) as envs:
        assert not envs.action.masked and envs.action.mask_size == 0
