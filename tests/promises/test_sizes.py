"""Settings that no machine has room for end in a sentence that names them, for every algorithm, before
anything is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastrl import machine
from fastrl.errors import SettingError
from fastrl.runs.config import REPEATED

OF_TRXL = ("trxl_dim", "trxl_num_layers", "trxl_memory_length")
OF_RNN = ("rnn_hidden_size",)
SIZES = ("num_steps", "replay_size", *OF_TRXL, *OF_RNN)


def names_of(config: Any, *, ending: str = "") -> list[str]:
    return [field.name for field in dataclasses.fields(config) if field.name.endswith(ending)]


def test_layers_and_rollouts_beyond_the_machine_are_refused_by_name(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any]
) -> None:
    config = config_of(algorithm)
    large: dict[str, Any] = {name: (200_000, 200_000) for name in names_of(config, ending="layer_sizes")}
    large |= {name: 2**40 for name in SIZES if name in names_of(config)}
    assert large
    for name, value in large.items():
        changes = {name: value}
        if "memory" in names_of(config):  # sizes of a memory that is not there take none
            changes |= {"memory": "trxl"} if name in OF_TRXL else {"memory": "gru"} if name in OF_RNN else {}
        if name == "trxl_memory_length":
            changes |= {"env_id": "Counter-v0", "max_episode_steps": 2**41, "trxl_num_layers": 2}
        with pytest.raises(SettingError, match=rf"{name}.* too large: .* of memory on cpu, but only"):
            trainer_of(algorithm, **changes)


def test_a_batch_beyond_the_machine_is_refused(trainer_of: Callable[..., Any], tmp_path: Path) -> None:
    trainer = trainer_of("mpo", env_id="LinearQuadratic-v0", action_samples=10**4, replay_size=10**7)
    with pytest.raises(
        SettingError, match="action_samples, batch_size or critic_layer_sizes too large: .*samples"
    ):
        trainer.train(total_steps=8, update_after=4, batch_size=10**6, out_dir=str(tmp_path))


def test_environments_are_closed_when_there_is_no_room(
    algorithm: str,
    trainer_of: Callable[..., Any],
    config_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastrl.envs.base import VectorEnv

    closed: list[str] = []
    original = VectorEnv.close
    monkeypatch.setattr(VectorEnv, "close", lambda env: (closed.append(env.name), original(env))[1])
    monkeypatch.setattr(machine, "available_memory", lambda device="cpu": 10)
    monkeypatch.setattr("fastrl.runs.memory.available_memory", lambda device="cpu": 10)
    with pytest.raises(SettingError, match="too large"):
        trainer_of(algorithm)
    assert closed == [config_of(algorithm).env_id]


@pytest.mark.parametrize("value", [0, 100_000, 2**53, 2**62, 2**63, 10**30])
@pytest.mark.parametrize("name", ["num_envs", "threads", "env_threads"])
def test_counts_are_bounded(algorithm: str, name: str, value: int, config_of: Callable[..., Any]) -> None:
    if name == "num_envs" and value == 100_000:
        config_of(algorithm, num_envs=value).check()  # small environments that many fit
        return
    with pytest.raises(SettingError, match=f"^{name} must be"):
        config_of(algorithm, **{name: value}).check()


def test_numbers_that_cannot_be_learned_with_are_refused(
    algorithm: str, config_of: Callable[..., Any]
) -> None:
    config = config_of(algorithm)
    rates = [
        name
        for name in names_of(config)
        if name.endswith(("_lr", "learning_rate")) and isinstance(getattr(config, name), float)
    ]
    assert rates
    for name in rates:
        with pytest.raises(SettingError, match=f"{name} must be at most 1e6, got 1e\\+308"):
            config_of(algorithm, **{name: 1e308}).check()
    for name, value in config.to_dict().items():
        if type(value) is int and name != "seed":
            with pytest.raises(SettingError, match=f"{name} must be"):
                config_of(algorithm, **{name: 2**70}).check()


def test_what_would_repeat_for_ever_is_refused(algorithm: str, config_of: Callable[..., Any]) -> None:
    counts = [name for name in names_of(config_of(algorithm)) if name in REPEATED]
    assert counts
    for name in counts:
        config_of(algorithm, **{name: 10**6}).check()
        with pytest.raises(SettingError, match=rf"^{name} must be at most 10\^6, got 1000001$"):
            config_of(algorithm, **{name: 10**6 + 1}).check()


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (
            "Identity-v0",
            {"num_symbols": 10**9},
            "num_symbols must be a whole number from 1 to 65,536, got 1000000000",
        ),
        ("Identity-v0", {"num_symbols": 0}, "num_symbols must be at least 1"),
        ("IdentityContinuous-v0", {"dim": 2.5}, "dim must be a whole number"),
        ("LinearQuadratic-v0", {"noise": float("nan")}, "noise must be a number from 0 to 1e\\+06, got nan"),
        ("Counter-v0", {"length": 2**70}, "length must be a number of steps"),
        ("Counter-v0", {"reset_reward": "much"}, "reset_reward must be a number"),
    ],
)
def test_options_of_the_small_environments(env_id: str, options: dict[str, Any], message: str) -> None:
    from fastrl.envs import make_vector_env

    with pytest.raises(SettingError, match=message):
        make_vector_env(env_id, env_kwargs=options)
