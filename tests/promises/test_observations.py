"""Observations that do not fit their space are told by every algorithm: named where they cannot be meant,
said once where they can."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from learners import modules_of, play, values_of

from fastrl.envs import EnvironmentFailure
from fastrl.errors import SettingError
from fastrl.trainers.registry import ALGORITHMS

BYTES, CAMERA = gym.spaces.Box(0, 255, (5, 5, 3), np.uint8), gym.spaces.Box(0, 255, (84, 84, 3), np.uint8)
SPACES: dict[str, gym.Space[Any]] = {
    "outside": gym.spaces.Box(-1, 1, (2,)),
    "floats": BYTES,
    "choice": gym.spaces.Dict(color=gym.spaces.Discrete(3), place=gym.spaces.MultiDiscrete([2, 4])),
    "camera": CAMERA,
    "frames": gym.spaces.Box(0.0, 1.0, (4, 40, 40)),
    "table": gym.spaces.Box(0.0, 1.0, (4, 5)),
    "grid": BYTES,
    "mixed": gym.spaces.Dict(screen=CAMERA, speed=gym.spaces.Box(-1, 1, (2,))),
}


class _Odd(gym.Env[Any, Any]):
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, kind: str) -> None:
        self.kind, self.observation_space, self.steps = kind, SPACES[kind], 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observe(), 1.0, False, False, {}

    def _observe(self) -> Any:
        obs = self.observation_space.sample()
        if self.kind == "outside":
            obs[1] = 3 + self.steps % 2
        elif self.kind == "floats":
            obs = obs / 255
        elif self.kind == "choice" and self.steps == 3:
            obs["color"] = -1  # one more would be the last of `place`
        return obs


gym.register("OddObservations-v0", entry_point=_Odd, max_episode_steps=8)


def odd(kind: str) -> dict[str, Any]:
    return {"env_id": "OddObservations-v0", "env_kwargs": {"kind": kind}}


def train(trainer: Any, config: Any, folder: Path, steps: int = 64) -> list[str]:
    """Train, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train(total_steps=steps, out_dir=str(folder))
    return [str(warning.message) for warning in caught]


def test_values_outside_their_space_are_said_once(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    said = train(
        trainer_of(algorithm, **odd("outside")), config_of(algorithm, **odd("outside")), tmp_path, steps=140
    )
    expected = (
        "OddObservations-v0: the observation at [1] leaves its space: it is declared as -1 to 1 and was 3 "
        "to 4"
    )
    assert [text for text in said if "leaves its space" in text] == [expected]


def test_floats_where_bytes_are_declared_stop_at_the_first_observation(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with pytest.raises(
        EnvironmentFailure,
        match=r"OddObservations-v0 failed at step 0 .* is float64, but its space declares bytes.*np.float32",
    ):
        trainer_of(algorithm, **odd("floats"))


def test_a_choice_that_the_space_does_not_have_is_named(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    trainer = trainer_of(algorithm, **odd("choice"))
    with pytest.raises(
        EnvironmentFailure,
        match="environment 0 of OddObs.*: observation 'color' is -1, but its space declares choices "
        "from 0 to 2",
    ):
        train(trainer, config_of(algorithm, **odd("choice")), tmp_path)


@pytest.mark.parametrize(
    ("kind", "told"), [("camera", r"bytes \[84, 84, 3\]"), ("frames", r"float32 \[4, 40, 40\]")]
)
def test_images_are_refused_by_those_that_do_not_convolve_them(
    algorithm: str, trainer_of: Callable[..., Any], kind: str, told: str
) -> None:
    if ALGORITHMS[algorithm].trainer_class().takes_images:
        trainer_of(algorithm, **odd(kind)).close()
        return
    with pytest.raises(
        SettingError,
        match=rf"image observations, {told}; networks of {algorithm} take "
        r"vectors.*ppo-trxl.*from_arch\('dqn'\)",
    ):
        trainer_of(algorithm, **odd(kind))


@pytest.mark.parametrize("kind", ["table", "grid"])
def test_small_arrays_are_taken_as_vectors(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    trainer = trainer_of(algorithm, **odd(kind))
    if kind == "grid" and trainer.takes_images:  # symbols for its own encoder, which these are not
        return
    said = train(trainer, config_of(algorithm, **odd(kind)), tmp_path)
    assert trainer.env_steps >= 64 and not [
        text for text in said if "OddObservations" in text
    ]  # nothing is wrong with them


class _Bytes(gym.Env[Any, Any]):
    """The same numbers as bytes, or as floats that are those over `largest`."""

    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, shape: tuple[int, ...], largest: int, as_bytes: bool) -> None:
        self.shape, self.largest, self.as_bytes = shape, largest, as_bytes
        floats = gym.spaces.Box(0.0, 1.0, (int(np.prod(shape)),))
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8) if as_bytes else floats

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(action[0] > 0), False, False, {}

    def _observe(self) -> Any:
        drawn = self.np_random.integers(0, self.largest + 1, self.shape).astype(np.uint8)
        return drawn if self.as_bytes else drawn.astype(np.float32).ravel() / np.float32(self.largest)


gym.register("Bytes-v0", entry_point=_Bytes, max_episode_steps=8)


@pytest.mark.parametrize(("shape", "largest"), [((4, 5), 255), ((3, 3, 2), 15)])
def test_bytes_are_parts_of_their_range_for_every_algorithm(
    algorithm: str, trainer_of: Callable[..., Any], shape: tuple[int, ...], largest: int
) -> None:
    if ALGORITHMS[algorithm].trainer_class().takes_images:  # it has encoders of its own
        return
    options = {"shape": shape, "largest": largest}
    learned: list[dict[str, Any]] = []
    for as_bytes in (True, False):
        trainer = trainer_of(algorithm, env_id="Bytes-v0", env_kwargs=options | {"as_bytes": as_bytes})
        play(trainer, 3)
        learned.append(
            values_of(modules_of(trainer))
            | {"returns": torch.tensor(list(trainer.evaluate(2, seed=3).values()))}
        )
        assert trainer.updates > 0
    assert learned[0].keys() == learned[1].keys()
    assert all(torch.equal(value, learned[1][name]) for name, value in learned[0].items())


def test_an_image_that_a_dict_loses_is_named(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    said = (
        r"observations of OddObservations-v0: 'screen' \(an image, bytes \[84, 84, 3\]\) left out; seen is "
        r"'speed' alone. obs_keys chooses"
    )
    with pytest.warns(UserWarning, match=said):
        trainer_of(algorithm, **odd("mixed"))
