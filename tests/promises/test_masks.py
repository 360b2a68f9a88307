"""What a mask forbids is never done: in training, in evaluation, by a policy that is loaded, with memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from learners import play

import fastrl
from fastrl.trainers.registry import find_algorithm

MANY = 40
LENGTH = 4


class Corridor(gym.Env[Any, Any]):
    """The one of two open doors that the observation shows leads on, 1 a step; a door that is closed raises.

    Which two of the 40 are open is drawn anew each step; the last observation comes with a mask of zeros.
    """

    action_space: gym.Space[Any] = gym.spaces.Discrete(MANY)
    observation_space = gym.spaces.Dict(
        {"action_mask": gym.spaces.Box(0, 1, (MANY,), np.int8), "view": gym.spaces.Box(0, 1, (1,))}
    )
    forgives: ClassVar[bool] = False

    def _look(self) -> dict[str, np.ndarray]:
        self.mask, self.right = np.zeros(MANY, np.int8), 0
        if self.steps < LENGTH:
            half = MANY // 2
            doors = self.np_random.integers(half) + np.array([0, half])
            self.mask[doors] = 1
            self.right = int(doors[self.np_random.integers(2)])
        return {"action_mask": self.mask, "view": np.full(1, self.right >= MANY // 2, np.float32)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._look(), {}

    def _door(self, action: Any) -> int:
        return int(action)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        door, right = self._door(action), self.right
        assert self.forgives or self.mask[door], f"door {door} is closed"
        self.steps += 1
        return self._look(), float(door == right), self.steps == LENGTH, False, {}


class Branched(Corridor):
    """The same as a branch of 20 doors on the left and one of 20 on the right, and which of the two."""

    action_space = gym.spaces.MultiDiscrete([2, MANY // 2, MANY // 2])
    observation_space = gym.spaces.Dict(
        {"action_mask": gym.spaces.Box(0, 1, (MANY + 2,), np.int8), "view": gym.spaces.Box(0, 1, (1,))}
    )

    def _look(self) -> dict[str, np.ndarray]:
        seen = super()._look()
        sides = np.full(2, self.steps < LENGTH, np.int8)
        return {"action_mask": np.concatenate([sides, seen["action_mask"]]), "view": seen["view"]}

    def _door(self, action: Any) -> int:
        side, *doors = (int(part) for part in action)
        assert self.forgives or all(self.mask[[doors[0], MANY // 2 + doors[1]]])
        return side * MANY // 2 + doors[side]


class Forgiving(Corridor):
    forgives = True


KEY = {"action_mask_key": "action_mask"}


def memories_of(algorithm: str) -> list[str]:
    has = hasattr(find_algorithm(algorithm).config_class(), "memory") and algorithm != "ppo-trxl"
    return ["none", "gru", "trxl"] if has else [""]


@pytest.fixture(params=[Corridor, Branched])
def corridor(request: pytest.FixtureRequest, algorithm: str) -> Any:
    if find_algorithm(algorithm).config_class().CONTINUOUS_ONLY:
        pytest.skip(f"{algorithm} takes continuous actions, which have no masks")
    return request.param


def test_nothing_forbidden_is_done(
    algorithm: str, corridor: Any, trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    """The environments raise where it is; the loaded policy acts as the trainer's, with the mask beside."""
    for memory in memories_of(algorithm):
        more = {"memory": memory} if memory else {}
        with trainer_of(algorithm, env_id=corridor, max_episode_steps=8, **KEY, **more) as trainer:
            play(trainer, 2)
            trainer.evaluate(4, seed=3)
            trainer.save(tmp_path / f"{memory}.ckpt")
        policy = fastrl.load(tmp_path / f"{memory}.ckpt")
        for deterministic in (True, False):
            env, state = corridor(), None
            seen, _ = env.reset(seed=1)
            for _ in range(LENGTH):
                whole = np.concatenate([seen["view"], seen["action_mask"]])
                first, _ = policy.act(whole, state, deterministic=True)
                action, after = policy.act(
                    seen["view"], state, deterministic, action_mask=seen["action_mask"]
                )
                assert not deterministic or np.array_equal(first, action)
                seen, *_ = env.step(action)
                state = after


def test_a_mask_of_another_policy_is_said(trainer_of: Callable[..., Any], tmp_path: Path) -> None:
    with trainer_of("ppo") as trainer:
        trainer.save(tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match="trained with action_mask_key"):
        fastrl.load(tmp_path / "one.ckpt").act(np.zeros(4), action_mask=np.ones(4))


LEARNS: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 32, "learning_rate": 1e-2, "layer_sizes": (32,), "num_minibatches": 4},
    "vmpo": {
        **{"num_steps": 32, "policy_lr": 1e-2, "value_lr": 1e-2, "m_steps": 8, "alpha_lr": 1e-2},
        **{"epsilon_mu": 0.1, "policy_layer_sizes": (32,), "value_layer_sizes": (32,)},
    },
}


@pytest.mark.parametrize("name", list(LEARNS))
def test_what_takes_too_long_without_a_mask_is_learned_with_it(
    name: str, config_of: Callable[..., Any]
) -> None:
    """In a budget in which 40 doors are too many, the optimum is reached among two."""
    reached = {}
    for masked in (True, False):
        more = KEY if masked else {"obs_keys": ("view",)}
        settings = LEARNS[name] | {"num_envs": 8, "gamma": 0.0, "seed": 2}
        config = config_of(name, env_id=Forgiving, **settings, **more)
        with find_algorithm(name).trainer_class().from_config(config) as trainer:
            with trainer.session():
                while trainer.env_steps < 8_000:
                    trainer.collect()
                    trainer.estimate()
                    trainer.learn()
            reached[masked] = trainer.evaluate(50, seed=7)["eval/return_mean"]
    assert reached[True] > 0.95 * LENGTH and reached[False] < 0.5 * LENGTH
