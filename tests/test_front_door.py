"""`import fastrl` and train: one call, a class, any kind of environment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import fastrl
from fastrl.errors import SettingError

SMALL: dict[str, Any] = {"num_envs": 2, "num_steps": 16, "threads": 1, "eval_episodes": 2}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_importing_loads_neither_torch_nor_environments() -> None:
    source = (
        "import sys, fastrl; fastrl.__version__; dir(fastrl); fastrl.algorithms();"
        "assert not {'torch', 'envpool', 'gymnasium', 'fastrl.ops'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


def test_every_public_name_is_there() -> None:
    assert set(fastrl.__all__) <= set(dir(fastrl))
    assert all(getattr(fastrl, name) is not None for name in fastrl.__all__)
    with pytest.raises(AttributeError, match="'fastrl' has no attribute 'trian'"):
        fastrl.trian  # type: ignore[attr-defined]  # noqa: B018


def test_train_writes_a_run_folder_and_leaves_the_trainer_open(empty_folder: Path) -> None:
    with fastrl.train("ppo", "CartPole-v1", total_steps=64, seed=3, **SMALL) as run:
        assert run.env_steps >= 64 and run.run_folder is not None
        assert run.run_folder.parent == empty_folder / "runs"
        assert run.run_folder.name.startswith("ppo-CartPole-v1-3-")
        assert "total_steps = 64" in (run.run_folder / "config.toml").read_text()
        assert run.evaluate(2)["eval/return_mean"] > 0
        assert run.act(np.zeros(4, np.float32)) in (0, 1)
        first = run.run_folder
        run.train(128)
        assert run.run_folder == first and run.env_steps >= 128
        policy = fastrl.load(first)
        assert policy.env_steps == run.env_steps
        obs = np.ones(4, np.float32)
        assert policy.act(obs)[0] == run.act(obs, deterministic=True)
    run.close()


def test_presets_come_before_defaults_and_arguments_before_presets() -> None:
    preset = fastrl.PPO("CartPole-v1", threads=1)
    plain = fastrl.PPO("CartPole-v1", preset=False, threads=1)
    chosen = fastrl.PPO("CartPole-v1", num_envs=3, threads=1)
    from fastrl.trainers.policy_gradient.config import PPOConfig

    recommended = PPOConfig.preset("CartPole-v1")
    assert recommended and all(getattr(preset.config, name) == value for name, value in recommended.items())
    assert plain.config.learning_rate == PPOConfig(env_id="x").learning_rate
    assert chosen.config.num_envs == 3
    for trainer in (preset, plain, chosen):
        trainer.close()


def test_errors_name_what_is_wrong(empty_folder: Path) -> None:
    with pytest.raises(SettingError, match="did you mean 'num_envs'"):
        fastrl.train("ppo", "CartPole-v1", num_env=3)
    with pytest.raises(SettingError, match="did you mean 'ppo'"):
        fastrl.train("ppoo", "CartPole-v1")
    with pytest.raises(SettingError, match="env_id is the argument env"):
        fastrl.PPO("CartPole-v1", env_id="Pendulum-v1")
    with pytest.raises(SettingError, match="total_steps must be at least 1"):
        fastrl.train("ppo", "CartPole-v1", total_steps=0)
    assert list(empty_folder.iterdir()) == []


KINDS: dict[str, Any] = {
    "id": lambda: "CartPole-v1",
    "object": lambda: gym.make("CartPole-v1"),
    "gymnasium vector": lambda: gym.make_vec("CartPole-v1", 2),
    "VectorEnv": lambda: fastrl.make_vector_env("CartPole-v1", 2),
    "factory": lambda: lambda: gym.make("CartPole-v1"),
}


@pytest.mark.parametrize("name", ["PPO", "A2C", "VMPO", "MPO", "PPOTrXL"])
@pytest.mark.parametrize("kind", KINDS)
def test_environments_of_every_kind(kind: str, name: str, empty_folder: Path) -> None:
    settings = {"num_envs": 2, "threads": 1, "eval_episodes": 2} | (
        {"update_after": 16, "batch_size": 16, "replay_size": 500} if name == "MPO" else {"num_steps": 16}
    )
    if name == "PPOTrXL":
        settings |= {"trxl_num_layers": 1, "trxl_num_heads": 1, "trxl_dim": 8, "max_episode_steps": 500}
        settings |= {"trxl_memory_length": 4, "num_minibatches": 2}
        if kind in ("VectorEnv", "gymnasium vector", "object"):
            del settings["max_episode_steps"]
    if kind in ("object", "VectorEnv", "gymnasium vector"):  # which tell their number
        del settings["num_envs"]
    with getattr(fastrl, name)(KINDS[kind](), preset=False, **settings) as trainer:
        trainer.train(32)
        assert trainer.env_steps >= 32
    again = type(trainer).from_config(replace(trainer.config, env_id=KINDS[kind]()))
    assert again.env.num_envs == trainer.env.num_envs
    again.close()
    action, _ = fastrl.load(trainer.run_folder).act(np.zeros(4))
    assert action in (0, 1)
