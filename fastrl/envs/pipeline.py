"""What is done to observations and actions of N environments at once; see `Preprocessing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrl.envs.images import ImageSteps, is_image
from fastrl.envs.preprocessing import Preprocessing
from fastrl.envs.saved import saved_array, saved_count
from fastrl.errors import SettingError


class Pipeline:
    """Sticky actions on the way in; grey scale, another size and stacked frames on the way out.

    A stack holds the newest frame last, along the first axis of a frame: [K·C, H, W] of images, [K·F] of
    vectors. At the beginning of an episode it is filled with the first frame. A row that holds an environment
    leaves its stack as it is.

    Args:
        settings: without what the environments do by themselves.
        own_shape: of one observation of the environments.
        dtype: of observations.
        num_envs: N.
        seeds: of the environments; those of sticky actions follow from them.
        name: the environments', for messages.

    Attributes:
        own_shape: as given; shape: of one observation as it comes out.
        frames: K.
        sign_rewards: whether what is learned from is the sign of each reward.

    Raises:
        SettingError: a setting does not fit the observations; the message names it.
    """

    def __init__(
        self,
        settings: Preprocessing,
        own_shape: Sequence[int],
        dtype: np.dtype[np.generic],
        num_envs: int,
        seeds: Sequence[int] | None,
        name: str,
    ) -> None:
        self.own_shape = tuple(own_shape)
        self.frames = settings.frame_stack or 1
        self.sign_rewards = settings.sign_rewards
        image, where = is_image(own_shape, dtype), f"{name} has {dtype} observations {list(own_shape)}"
        if not image:
            settings.refuse(("grey_scale", "resize"), f"is for images, and {where}")
            if dtype == np.uint8 and self.frames > 1:
                raise SettingError(f"frame_stack is for vectors and images, and {where}")
        self._image: ImageSteps | None = None
        if image and {"grey_scale", "resize", "frame_stack"} & set(settings.given):
            self._image = ImageSteps(own_shape, grey_scale=bool(settings.grey_scale), side=settings.resize)
        frame = self.own_shape if self._image is None else self._image.shape
        self.shape = (self.frames * frame[0], *frame[1:])
        self._stack = [np.zeros((num_envs, *frame), dtype) for _ in range(self.frames)]
        self._sticky = settings.sticky_actions or 0.0
        self._key = np.random.SeedSequence(list(seeds or [0])).generate_state(2, np.uint64)
        self._draws = 0
        self._previous: np.ndarray | None = None  # actions as they were executed
        self._acted = np.zeros(num_envs, bool)  # environments that have had an action in their episode

    # ---------------------------------------------------------------------------------------- actions

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] that are to be executed: with a probability the previous one again."""
        if not self._sticky:
            return actions
        if self._previous is None:
            self._previous = np.zeros_like(actions)
        # a generator of its own for each step, so that a count is all there is to save
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=[0, self._draws, 0, 0]))
        self._draws += 1
        repeats = (generator.random(len(actions)) < self._sticky) & self._acted
        result = actions.copy()
        result[repeats] = self._previous[repeats]
        return result

    def came_of(self, executed: np.ndarray, valid: np.ndarray, began: np.ndarray) -> None:
        """Which of the actions [N, ...] were executed, and where an episode began instead, bool [N]."""
        if self._previous is not None:
            self._previous[valid] = executed[valid]
            self._acted = (self._acted | valid) & ~began

    # ----------------------------------------------------------------------------------- observations

    def begin(self, obs: np.ndarray) -> np.ndarray:
        """The first observations of episodes that begin in all environments."""
        self._acted[:] = False
        return self.follow(obs, np.ones(len(obs), bool), None)

    def follow(self, obs: np.ndarray, began: np.ndarray, held: np.ndarray | None) -> np.ndarray:
        """Observations [N, *own_shape] as [N, *shape], a new array.

        Args:
            began, held: bool [N], where an episode begins with this row, and where nothing was stepped.
        """
        frame = obs if self._image is None else self._image(obs)
        if self.frames == 1:
            return frame
        stack = [*self._stack[1:], frame]
        if held is not None and held.any():
            for new, old in zip(reversed(stack), reversed(self._stack), strict=True):
                new[held] = old[held]  # newest first: each is read before it is written
        if began.any():
            for older in stack[:-1]:
                older[began] = frame[began]
        self._stack = stack
        return np.concatenate(stack, axis=1)

    # ------------------------------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Stack, previous actions and the number of draws, as plain values and arrays."""
        previous = np.zeros(0) if self._previous is None else self._previous
        return {
            "stack": np.stack(self._stack),
            "previous": previous.copy(),
            "acted": self._acted.copy(),
            "draws": self._draws,
        }

    def load_state_dict(self, state: Any) -> None:
        """Counterpart of `state_dict`; ValueError if it is none, and nothing has changed then."""
        if not isinstance(state, Mapping):
            raise ValueError("the state of preprocessed environments is missing")
        stack = saved_array(state, "stack", np.stack(self._stack))
        acted, draws = saved_array(state, "acted", self._acted), saved_count(state, "draws")
        previous = state.get("previous")
        if not isinstance(previous, np.ndarray) or (previous.size and len(previous) != len(acted)):
            raise ValueError("the environments' 'previous' must be an array of actions")
        self._stack, self._acted, self._draws = list(stack), acted, draws
        self._previous = previous.copy() if previous.size else None
