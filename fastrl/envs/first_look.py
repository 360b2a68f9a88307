"""A look at the first steps of training: what does not fit the spaces is said once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrl.envs.ranges import LARGE_NUMBER, Ranges

FIRST_STEPS = 64  # calls of `VectorEnv.step`


class FirstLook:
    """Ranges of observations and rewards during the first steps.

    Args:
        bounds: smallest and largest observation as the environments declare them, [*obs_shape] each.
        place: from the flat index of a number of an observation to words for where it comes from.
        scales_observations, scales_rewards: whether they are normalised before anything learns from them;
            large ones are no finding then.
    """

    def __init__(
        self,
        bounds: tuple[np.ndarray, np.ndarray],
        place: Callable[[int], str],
        *,
        scales_observations: bool = False,
        scales_rewards: bool = False,
    ) -> None:
        self._bounds, self._place = bounds, place
        self._scales_observations, self._scales_rewards = scales_observations, scales_rewards
        self._observations, self._rewards = Ranges(), Ranges()
        self.steps = 0

    def see(self, obs: np.ndarray, reward: np.ndarray) -> bool:
        """Count one step's observations [N, *obs_shape] and rewards [N]; whether enough has been seen."""
        self._observations.see(obs)
        self._rewards.see(reward)
        self.steps += 1
        return self.steps >= FIRST_STEPS

    def sentences(self) -> list[str]:
        """What was found; nothing where nothing is wrong."""
        if not self.steps or not self._observations.low.size:
            return []
        found = [
            self._outside(),
            self._unchanging(),
            self._dark(),
            self._large_observation(),
            self._large_reward(),
        ]
        return [sentence for sentence in found if sentence]

    def _outside(self) -> str | None:
        low, high = self._bounds
        wrong = self._observations.outside(low, high)
        if not wrong.size:
            return None
        index = int(wrong[0])
        smallest, largest = self._observations.span(index)
        declared = f"{np.ravel(low)[index]:g} to {np.ravel(high)[index]:g}"
        more = "" if wrong.size == 1 else f", and so do {wrong.size - 1} other numbers"
        return (
            f"{self._place(index)} leaves its space{more}: it is declared as {declared} and was "
            f"{smallest:g} to {largest:g}"
        )

    def _unchanging(self) -> str | None:
        if self.steps < FIRST_STEPS or self._observations.constant < self._observations.low.size:
            return None
        return f"observations never changed, in {self.steps} steps of every environment"

    def _dark(self) -> str | None:
        seen = self._observations
        if seen.low.dtype != np.uint8 or seen.low.ndim < 2 or seen.low.size <= 1024 or seen.largest_value > 1:
            return None
        return (
            f"images, bytes {list(seen.low.shape)}, never exceed {seen.largest_value:g}: were numbers from "
            "0 to 1 made bytes?"
        )

    def _large_observation(self) -> str | None:
        index = self._observations.largest()
        value = max(self._observations.span(index), key=abs)
        if self._scales_observations or not abs(value) > LARGE_NUMBER:
            return None
        return (
            f"{self._place(index)} was {value:g}, more than networks learn well from: normalise "
            "observations, or scale them"
        )

    def _large_reward(self) -> str | None:
        value = max(self._rewards.span(0), key=abs)
        if self._scales_rewards or not abs(value) > LARGE_NUMBER:
            return None
        return f"a reward was {value:g}, more than networks learn well from: normalise rewards, or scale them"
