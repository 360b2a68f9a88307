"""A policy that is loaded acts as its trainer does, and needs no environments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from learners import play

import fastrl
from fastrl.errors import CheckpointError, NonFiniteError, SettingError
from fastrl.trainers.registry import ALGORITHMS

MEMORY = ("ppo-trxl",)


class Box(gym.Env[np.ndarray, np.ndarray]):
    """Continuous actions in units of its own, [5, 35], of shape [1, 2]."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Box(5, 35, (1, 2), np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return np.zeros(3, np.float32), 0.0, False, False, {}


class Choices(Box):
    """Discrete actions 4, 5, 6."""

    action_space = gym.spaces.Discrete(3, start=4)  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Box, Choices])
def test_a_loaded_policy_acts_as_its_trainer(
    algorithm: str, kind: Any, trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    with trainer_of(algorithm, env_id=kind, max_episode_steps=8) as trainer:
        play(trainer, 2)
        policy = fastrl.load(trainer.save(tmp_path))
        obs = torch.randn(5, 3)
        acted = torch.as_tensor(trainer.act(obs, deterministic=True))
    actions, state = policy.act(obs)
    space = kind.action_space
    if kind is Box:
        expected = (20 + 15 * acted.clamp(-1, 1).double()).reshape(5, 1, 2).numpy()
        np.testing.assert_allclose(actions, expected, rtol=1e-6)
    else:
        assert np.array_equal(actions, acted.numpy().reshape(5) + 4)
    assert all(space.contains(action) for action in actions)
    assert space.contains(policy.act(obs[0].numpy())[0])
    assert (state is not None) == policy.has_memory == (algorithm in MEMORY)
    drawn = [policy.act(obs, deterministic=False)[0] for _ in range(20)]
    assert any(not np.array_equal(drawn[0], one) for one in drawn)
    assert policy.algorithm == algorithm and repr(policy).startswith(f"Policy('{algorithm}' on ")


def test_whole_episodes_of_a_policy_are_those_of_an_evaluation(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    changes = {"trxl_memory_length": 4} if algorithm in MEMORY else {}
    with trainer_of(algorithm, env_id="CartPole-v1", max_episode_steps=20, **changes) as trainer:
        if trainer.env.action.kind == "continuous":
            pytest.skip("compares choices; small_settings gives this algorithm another environment")
        play(trainer, 2)
        policy = fastrl.load(trainer.save(tmp_path))
        with fastrl.make_vector_env("CartPole-v1", 3, seed=4, max_episode_steps=20) as env:
            actor, state = trainer.actor(3), None
            obs, starts = env.reset(), np.ones(3, bool)
            for _ in range(50):
                expected = actor.act(obs, deterministic=True)
                actions, state = policy.act(obs, state, episode_starts=starts)
                over = (
                    env._done.copy()
                )  # on such a row, which no action follows, a policy may act as it likes
                assert np.array_equal(actions[~over], expected.numpy()[~over])
                timestep = env.step(expected)
                actor.observe(timestep)
                obs, starts = (
                    timestep.obs,
                    (~timestep.valid | timestep.terminated | timestep.truncated).numpy(),
                )


def test_a_state_is_a_value(trainer_of: Callable[..., Any], tmp_path: Path) -> None:
    with trainer_of("ppo-trxl", env_id="CartPole-v1", max_episode_steps=6) as trainer:
        policy = fastrl.load(trainer.save(tmp_path))
    obs = torch.randn(6, 2, 4)
    _, first = policy.act(obs[0])
    assert first is not None
    kept = {name: value.clone() for name, value in first.items()}
    _, second = policy.act(obs[1], first)
    _, again = policy.act(obs[1], first)
    assert second is not None and again is not None
    assert all(torch.equal(first[name], kept[name]) for name in kept)
    assert all(torch.equal(second[name], again[name]) for name in second)
    assert second["position"].tolist() == [2, 2]
    _, mixed = policy.act(obs[2], second, episode_starts=[True, False])
    assert mixed is not None and mixed["position"].tolist() == [1, 3]
    _, rows = policy.act(obs[2][:1], {name: value[:1] for name, value in second.items()})
    assert rows is not None and all(len(value) == 1 for value in rows.values())
    state = first
    for step in range(1, 6):
        _, state = policy.act(obs[step], state)  # type: ignore[assignment]
    with pytest.raises(
        ValueError, match=r"state\['position'\]\[0\] is 6, but this policy knows episodes of 6"
    ):
        policy.act(obs[0], state)
    for wrong, sentence in (({}, "position"), (rows, "shape"), (3, "state must be")):
        with pytest.raises(ValueError, match=f"Policy.act: .*{sentence}"):
            policy.act(obs[0], wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"episode_starts must be True or False, or bool \[2\]"):
        policy.act(obs[0], first, episode_starts=[True])


def test_errors_name_the_arguments(trainer_of: Callable[..., Any], tmp_path: Path) -> None:
    with trainer_of("ppo", env_id="CartPole-v1") as trainer:
        policy = fastrl.load(trainer.save(tmp_path / "saved"))
    with pytest.raises(ValueError, match=r"Policy.act: obs must have shape \[4\] or \[B, 4\], got \[3\]"):
        policy.act(np.zeros(3))
    with pytest.raises(ValueError, match="Policy.act: obs must be numbers"):
        policy.act("text")
    with pytest.raises(NonFiniteError, match=r"Policy.act: obs\[1\]"):
        policy.act([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(ValueError, match="state must be None, since this policy has no memory"):
        policy.act(np.zeros(4), {})
    with pytest.raises(CheckpointError):
        fastrl.load(tmp_path / "nothing")
    with pytest.raises(SettingError, match="device"):
        fastrl.load(tmp_path / "saved", device="cdua")


@pytest.mark.parametrize("place", ["config", "spaces", "learner"])
def test_states_without_what_acting_needs_are_refused(
    place: str, trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    from fastrl.runs.checkpoint import save_checkpoint

    with trainer_of("ppo", env_id="CartPole-v1") as trainer:
        state = trainer.state_dict()
    for wrong in (None, {}, "x", {"obs_shape": [10**12]}):
        with pytest.raises(CheckpointError, match="checkpoint"):
            fastrl.load(save_checkpoint(tmp_path, state | {place: wrong}, step=1))


def test_loading_imports_no_module_that_a_run_folder_names(
    tmp_path: Path, config_of: Callable[..., Any]
) -> None:
    module = tmp_path / "my_own_task.py"
    module.write_text(
        "import gymnasium as gym\n"
        "class Task(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        return self.observation_space.sample(), 0.0, False, False, {}\n"
    )
    train = (
        "import fastrl, warnings; warnings.simplefilter('ignore');"
        "run = fastrl.train('a2c', 'my_own_task:Task', total_steps=32, out_dir='run', max_episode_steps=8);"
        "run.close()"
    )
    load = (
        "import fastrl, sys; policy = fastrl.load('run'); assert policy.act([0, 0])[0] in (0, 1);"
        "assert 'my_own_task' not in sys.modules and 'envpool' not in sys.modules"
    )
    for source in (train, load):
        subprocess.run([sys.executable, "-c", source], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


def test_every_algorithm_has_a_class() -> None:
    from fastrl.front.classes import ByName

    assert {kind.NAME for kind in ByName.__subclasses__()} == set(ALGORITHMS) == set(fastrl.algorithms())
    assert {kind.__name__ for kind in ByName.__subclasses__()} <= set(fastrl.__all__)
