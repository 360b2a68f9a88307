"""Whatever the units of an environment's actions: every algorithm learns the same, and what is executed lies
inside the space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.errors import CheckpointError, SettingError
from fastrl.runs.state_codec import encode_state

MIXED_LOW, MIXED_HIGH = [-0.1, 5.0, -2000.0, 0.0, -np.inf, 3.0], [0.1, 35.0, 2000.0, 0.01, np.inf, 3.0]
RAW, EQUAL = 4, 5  # the dimension without bounds, and the one whose bounds are equal


class Target(gym.Env[np.ndarray, np.ndarray]):
    """The action has to be the number shown, in units of the action's range, in which it is read with two
    digits."""

    taken: ClassVar[list[np.ndarray]] = []
    observation_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, low: float = -1.0, high: float = 1.0, mixed: bool = False) -> None:
        self.action_space = gym.spaces.Box(low, high, (1,))
        if mixed:
            self.action_space = gym.spaces.Box(np.array(MIXED_LOW), np.array(MIXED_HIGH), dtype=np.float64)

    def _draw(self) -> np.ndarray:
        self._target = self.np_random.uniform(-1, 1)
        return np.array([self._target], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.taken.append(action)
        low, high = float(self.action_space.low[0]), float(self.action_space.high[0])
        unit = round((float(action[0]) - low) / (high - low) * 2 - 1, 2)
        reward = -((unit - self._target) ** 2)
        return self._draw(), reward, False, False, {}


@pytest.fixture(autouse=True)
def target() -> Iterator[list[np.ndarray]]:
    """The task under an id, and the actions that it gets."""
    gym.register("Target-v0", entry_point=Target, max_episode_steps=8)
    Target.taken = []
    yield Target.taken
    del gym.registry["Target-v0"]


def learned(trainer: Any, rounds: int) -> tuple[Any, dict[str, torch.Tensor]]:
    """What the agent has learned after some rounds, as plain values and tensors."""
    with trainer.session():
        while rounds or not trainer.updates:
            assert trainer.collect()
            trainer.estimate()
            trainer.learn()
            rounds = max(rounds - 1, 0)
    return encode_state(trainer.learner.state_dict())


def test_units_of_the_actions_make_no_difference(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    unit = trainer_of(algorithm, env_id="Target-v0")
    values, tensors = learned(unit, 3)
    physical = trainer_of(algorithm, env_id="Target-v0", env_kwargs={"low": 5, "high": 35})
    other_values, others = learned(physical, 3)
    assert unit.updates == physical.updates > 0 and values == other_values
    assert tensors.keys() == others.keys() and all(
        torch.equal(tensors[name], others[name]) for name in tensors
    )
    assert unit.evaluate(4, seed=3) == physical.evaluate(4, seed=3)
    state = physical.state_dict()
    physical.load_state_dict(state)
    with pytest.raises(
        CheckpointError,
        match=r"acts scaled from \[-1, 1\] to \[5, 35\], but .* are in the environment's own units",
    ):
        unit.load_state_dict(state)


def test_executed_actions_lie_inside_any_box(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    target: list[np.ndarray],
) -> None:
    mixed: dict[str, Any] = {"env_id": "Target-v0", "env_kwargs": {"mixed": True}}
    if config_of(algorithm).CONTINUOUS_ONLY:  # its policy is squashed into bounds
        with pytest.raises(SettingError, match="'Target-v0' has actions without bounds"):
            trainer_of(algorithm, **mixed)
        return
    with pytest.warns(
        UserWarning, match="Target-v0: .* own units, others are scaled .*: dimensions 4 of 6"
    ) as said:
        trainer = trainer_of(algorithm, **mixed)
        learned(trainer, 2)
        trainer.evaluate(2, seed=3)
    assert len([warning for warning in said if "own units" in str(warning.message)]) == 1
    low, high, taken = np.array(MIXED_LOW), np.array(MIXED_HIGH), np.stack(target)
    assert (taken >= low).all() and (taken <= high).all()  # in float64: float32 would round 0.1 upwards
    scaled = [i for i in range(len(low)) if i not in (RAW, EQUAL)]
    spread = np.ptp(taken[:, scaled], axis=0) / (high - low)[scaled]
    assert (spread > 0.5).all() and 0.5 < np.ptp(taken[:, RAW]) < 20 and (taken[:, EQUAL] == 3).all()
