"""Environments of modules on the command line: found in the present folder, and imported from a run's folder
only when the user says so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from fastrl.cli.main import main

MODULE = """
from pathlib import Path
import gymnasium as gym, numpy as np
Path("canary").write_text("")
class Maze(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    def __init__(self, weights=(1.0,), config=None):
        self.weights = [*weights, *(config or {}).values()]
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.n += 1
        return np.zeros(3, np.float32), float(sum(self.weights)), False, self.n >= 4, {}
gym.register("Maze-v0", Maze)
"""
TRAIN = [
    "train",
    "ppo",
    "--num-envs",
    "2",
    "--num-steps",
    "16",
    "--layer-sizes",
    "8",
    "--total-steps",
    "6.4e1",
    "--eval-episodes",
    "2",
]


def forget() -> None:
    """As a new process, which has imported nothing."""
    sys.modules.pop("stranger", None)
    gym.registry.pop("Maze-v0", None)
    Path("canary").unlink(missing_ok=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A run in an environment of a module in the present folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    Path("stranger.py").write_text(MODULE)
    options = ["weights=[1.0,2.0]", 'config={"lanes_count": 3}']
    assert main([*TRAIN, "--env-id", "stranger:Maze-v0", "--out-dir", "run", "--env-kwargs", *options]) == 0
    forget()
    yield "run"
    forget()


def test_a_run_folder_alone_imports_nothing(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(run, "config.toml").read_bytes()
    for command in (
        ["eval", run],
        ["train", "ppo", "--resume", run, "--total-steps", "128"],
        ["eval", run, "--env-id", "Identity-v0"],
    ):
        capsys.readouterr()
        code = main(command)
        assert not Path("canary").exists() and "stranger" not in sys.modules
        if "--env-id" not in command:
            assert code == 2
            assert capsys.readouterr().err == (
                "fastrl: env_id: 'stranger:Maze-v0' would import the module 'stranger', which runs its code; "
                "run/config.toml names it, not you: say --env-id stranger:Maze-v0 as well, or --trust\n"
            )
    assert Path(run, "config.toml").read_bytes() == before
    assert main(["plot", run]) == 0 and not Path("canary").exists()


@pytest.mark.parametrize("words", [["--env-id", "stranger:Maze-v0"], ["--trust"]])
def test_it_is_imported_when_the_user_names_it_or_trusts_the_folder(
    run: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", run, "--episodes", "2", *words]) == 0
    assert "return 24.00" in capsys.readouterr().out  # four steps of 1 + 2 + 3
    forget()
    assert main(["train", "ppo", "--resume", run, "--total-steps", "128", *words]) == 0
    assert "continuing at 78 of 128 steps" in capsys.readouterr().out


def test_a_settings_file_that_the_user_names_is_the_users_own(run: str) -> None:
    assert main(["train", "ppo", "--config", "run/config.toml", "--out-dir", "again"]) == 0
    assert Path("canary").exists()


def test_another_module_may_not_take_the_place_of_the_run_s(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "ppo", "--resume", run, "--env-id", "stranger:Maze", "--total-steps", "128"]) == 2
    assert (
        "env_id cannot change when a run is continued: run has 'stranger:Maze-v0', got 'stranger:Maze'"
        in capsys.readouterr().err
    )


def test_the_ids_of_a_module_are_listed(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["envs", "stranger:"]) == 0
    assert capsys.readouterr().out == "stranger:Maze-v0  gymnasium\n"
    assert main(["envs", "stranger:x"]) == 2
    assert "the module 'stranger' registers no environment whose id contains 'x'" in capsys.readouterr().err
    assert main(["envs", "nowhere:"]) == 2
    assert "there is no module 'nowhere'" in capsys.readouterr().err


def test_an_unknown_module_leaves_no_folder(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--env-id", "nowhere:Maze-v0", "--out-dir", "other"]) == 2
    said = capsys.readouterr().err
    assert (
        "there is no module 'nowhere'" in said and "did you mean" not in said and not Path("other").exists()
    )
