"""Every algorithm trains in environments of a user's own, and writes a run folder that tells the truth about
them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from own_environment import Corridor, two_corridors

from fastrl.cli.main import main
from fastrl.envs import make_vector_env
from fastrl.errors import SettingError
from fastrl.trainers.registry import find_algorithm

NAMED = "own_environment:Corridor"
OPTIONS = {"weights": np.array([1.0, 2.0]), "table": {"lanes": (3, None), "deep": [{"a": True}, {}]}}
PLAIN = {"weights": [1.0, 2.0], "table": {"lanes": [3, None], "deep": [{"a": True}, {}]}}
NUMPY = {
    "seed": np.int64(3),
    "num_envs": np.int32(2),
    "eval_episodes": np.uint8(2),
    "total_steps": 64.0,
    "eval_interval": np.int64(32),
}


def saved(algorithm: str, run: Path) -> Any:
    return find_algorithm(algorithm).config_class().from_toml((run / "config.toml").read_text())


def test_a_run_of_a_factory_is_evaluated_and_continued_when_it_is_given_again(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with trainer_of(algorithm, env_id=Corridor, env_kwargs=OPTIONS, max_episode_steps=10, **NUMPY) as trainer:
        trainer.train(total_steps=64.0, out_dir=str(run))  # what the configuration has is not asked for again
        assert trainer.evaluate(2)["eval/return_mean"] == 30.0
    config = saved(algorithm, run)
    assert (config.env_id, config.env_kwargs) == ("<class: own_environment.Corridor>", PLAIN)
    assert (config.seed, config.num_envs, config.total_steps, config.eval_interval) == (3, 2, 64, 32)
    assert "config.toml cannot hold env_id (<class: own_environment.Corridor>)" in capsys.readouterr().out

    assert main(["eval", str(run)]) == 2
    assert capsys.readouterr().err.startswith(
        "fastrl: env_id: the run's environment was an object, <class: own_environment.Corridor>, which its "
        "folder cannot hold; "
        "give it again: --env-id own_environment:Corridor"
    )
    assert main(["train", algorithm, "--resume", str(run), "--env-id", NAMED, "--total-steps", "1.28e2"]) == 0
    assert (saved(algorithm, run).env_id, saved(algorithm, run).env_kwargs) == (NAMED, PLAIN)
    assert main(["eval", str(run)]) == 2  # now the folder alone names a module
    assert f"say --env-id {NAMED} as well, or --trust" in capsys.readouterr().err
    assert main(["eval", str(run), "--episodes", "2", "--trust"]) == 0
    assert "return 30.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", ["environment", "vector environment", "VectorEnv", "factory of vector environments"]
)
def test_objects_train(algorithm: str, kind: str, trainer_of: Callable[..., Any], tmp_path: Path) -> None:
    made = {
        "environment": Corridor,
        "vector environment": two_corridors,
        "VectorEnv": lambda: make_vector_env(Corridor, 2),
        "factory of vector environments": lambda: two_corridors,
    }[kind]()
    count = 1 if kind == "environment" else 2
    with trainer_of(
        algorithm, env_id=made, num_envs=count, max_episode_steps=10 if algorithm == "ppo-trxl" else None
    ) as trainer:
        trainer.train(total_steps=64, out_dir=str(tmp_path / "run"))
        assert trainer.env_steps >= 64
        if kind == "factory of vector environments":
            assert trainer.evaluate(3)["eval/return_mean"] == 10.0
        else:
            with pytest.raises(
                SettingError, match="cannot be made again for evaluation; give an id or a factory"
            ):
                trainer.evaluate(2)
        trainer.load(tmp_path / "run")
    config = saved(algorithm, tmp_path / "run")
    assert (
        config.env_id.startswith("<function: " if count == 2 and "factory" in kind else "<object: ")
        and config.num_envs == count
    )


def test_an_object_that_cannot_serve_is_named_with_what_can(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with pytest.raises(
        SettingError, match="num_envs must be 1 for a single environment object, got 4; give a factory"
    ):
        trainer_of(algorithm, env_id=Corridor(), num_envs=4)
    with pytest.raises(
        SettingError, match="num_envs is 4, but Corridor has 2 environments; give num_envs=2, or a factory"
    ):
        trainer_of(algorithm, env_id=make_vector_env(Corridor, 2), num_envs=4)
    with pytest.raises(
        SettingError, match="env_id must be an id, a factory of environments or an environment, got 3"
    ):
        trainer_of(algorithm, env_id=3)
    with pytest.raises(
        SettingError, match="env_kwargs: weights cannot be given to a VectorEnv that is already made"
    ):
        trainer_of(algorithm, env_id=make_vector_env(Corridor, 2), env_kwargs={"weights": [3.0]})


def test_an_option_that_a_file_cannot_hold_is_named(
    trainer_of: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    gym.register("Corridor-v0", Corridor)
    try:
        with trainer_of(
            "ppo", env_id="Corridor-v0", env_kwargs={"table": [max, 3]}, max_episode_steps=10
        ) as trainer:
            trainer.train(64, str(run))
        assert (
            "config.toml cannot hold env_kwargs.table[0] (<function: builtins.max>)"
            in capsys.readouterr().out
        )
        assert main(["eval", str(run)]) == 2
        assert "env_kwargs.table[0] was <function: builtins.max> in the run" in capsys.readouterr().err
        config = saved("ppo", run)
        config.env_kwargs["table"][0] = max
        with find_algorithm("ppo").trainer_class().from_config(config) as again:
            again.load(run)
            assert again.evaluate(2)["eval/return_mean"] == 10.0
    finally:
        del gym.registry["Corridor-v0"]
