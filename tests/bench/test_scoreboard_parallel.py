"""Seeds in processes of their own: no more at a time than asked for, all of them trained though one fails,
and a real one."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer


@pytest.fixture
def parallel(scoreboard: ModuleType) -> ModuleType:
    return importlib.import_module("parallel")


@pytest.fixture
def configs(scoreboard: ModuleType) -> list[Any]:
    small = ["num_envs=4", "num_steps=16", "layer_sizes=[8]", "eval_episodes=2"]
    return [scoreboard.runs.settings("ppo", "Identity-v0", seed, 400, small) for seed in (1, 2, 3)]


def test_jobs_have_cores_of_their_own(parallel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    assert parallel.core_shares(2) == [[0, 2, 4], [1, 3]]
    assert parallel.core_shares(6) == [[]] * 6, "too few: all share"


def test_all_seeds_run_though_one_fails(
    parallel: ModuleType, configs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[int, list[int]]] = []

    def start(algorithm: str, config: Any, work_dir: Path, cores: list[int]) -> subprocess.Popen[bytes]:
        started.append((config.seed, cores))
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({config.seed == 2})"])

    monkeypatch.setattr(parallel, "start", start)
    with pytest.raises(parallel.SeedsFailed, match=r"seeds \[2\]"):
        parallel.train("ppo", configs, tmp_path, [[7], [8]])
    assert [seed for seed, _ in started] == [1, 2, 3]
    assert [cores for _, cores in started[:2]] == [[7], [8]] and started[2][1] in ([7], [8])


def test_an_interruption_ends_the_seeds_that_run(
    parallel: ModuleType, configs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*_: Any) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        return processes[-1]

    def interrupt(_: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(parallel, "start", start)
    monkeypatch.setattr(parallel.time, "sleep", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="the same command goes on"):
        parallel.train("ppo", configs, tmp_path, [[7], [8]])
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_error_leaves_no_seed_running(
    parallel: ModuleType, configs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*_: Any) -> subprocess.Popen[bytes]:
        if processes:
            raise OSError("no more processes")
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        return processes[0]

    monkeypatch.setattr(parallel, "start", start)
    try:
        with pytest.raises(OSError, match="no more processes"):
            parallel.train("ppo", configs, tmp_path, [[7], [8]])
        assert processes[0].poll() == -signal.SIGTERM
    finally:
        processes[0].kill()


def test_an_interrupted_seed_goes_on_from_its_checkpoint(
    scoreboard: ModuleType, configs: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted in its third rollout, it saves, is not done, and gives the numbers of a run that was left
    alone."""
    whole = scoreboard.runs.run_seed("ppo", configs[0], tmp_path / "whole")
    calls: list[int] = []

    def interrupt(trainer: PolicyGradientTrainer) -> None:
        calls.append(trainer.env_steps)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        estimate(trainer)

    estimate = PolicyGradientTrainer.estimate
    monkeypatch.setattr(PolicyGradientTrainer, "estimate", interrupt)
    with pytest.raises(SystemExit, match="interrupted by SIGTERM; the same command goes on"):
        scoreboard.runs.run_seed("ppo", configs[0], tmp_path / "halves")
    folder = scoreboard.runs.folder_for("ppo", configs[0], tmp_path / "halves")
    assert not (folder / "done").exists() and (folder / "checkpoints" / "LATEST").exists()
    before = calls[-1]
    assert scoreboard.runs.run_seed("ppo", configs[0], tmp_path / "halves") == folder
    assert calls[3] > before, "what had been learned was learned again"
    assert (folder / "eval.csv").read_text() == (whole / "eval.csv").read_text()
    assert (folder / "commits").read_text() == "aaaa\naaaa\n" and scoreboard.runs.commits_of(
        [folder]
    ) == "aaaa"
    stretches = [float(line) for line in (folder / "seconds").read_text().split()]
    assert len(stretches) == 2 and min(stretches) > 0
    assert scoreboard.runs.read_seconds(folder) == pytest.approx(sum(stretches), abs=0.06)


def test_two_seeds_at_once_are_trained_and_done(
    parallel: ModuleType, scoreboard: ModuleType, configs: list[Any], tmp_path: Path
) -> None:
    folders = parallel.run_seeds("ppo", configs[:2], tmp_path, 2)
    assert folders == [tmp_path / "ppo-Identity-v0-1", tmp_path / "ppo-Identity-v0-2"]
    assert all(
        (folder / "done").exists() and scoreboard.runs.read_curve(folder)[0][-1] >= 400 for folder in folders
    )
