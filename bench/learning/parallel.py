"""Several seeds at once, each in a process of its own with its share of the cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import runs

from fastrl.runs.config import RunConfig


class SeedsFailed(RuntimeError):
    """Seeds of a row ended with an error, which they have printed."""


def run_seeds(algorithm: str, configs: Sequence[RunConfig], work_dir: Path, jobs: int) -> list[Path]:
    """Train every seed that is not done, `jobs` of them at a time; returns their run folders.

    Raises:
        SeedsFailed: some ended with an error; the others were trained to the end.
        SystemExit: interrupted; seeds that were running have saved, and go on next time.
    """
    waiting = [
        config
        for config in configs
        if not (runs.folder_for(algorithm, config, work_dir) / runs.DONE).exists()
    ]
    if jobs > 1 and len(waiting) > 1:
        train(algorithm, waiting, work_dir, core_shares(min(jobs, len(waiting))))
    else:
        train_here(algorithm, waiting, work_dir)
    return [runs.run_seed(algorithm, config, work_dir) for config in configs]


def train_here(algorithm: str, configs: Sequence[RunConfig], work_dir: Path) -> None:
    """Train all seeds in this process, one behind the other."""
    failed: dict[int, object] = {}
    for config in configs:
        try:
            runs.run_seed(algorithm, config, work_dir)
        # whatever it is: in a process of its own it would not keep the other seeds from running either
        except Exception as error:
            traceback.print_exc()
            failed[config.seed] = error
    if failed:
        complain(algorithm, configs[0].env_id, failed)


def core_shares(jobs: int) -> list[list[int]]:
    """The cores of each job, [] for all: jobs that share no core do not wait for each other's threads."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [cores[job::jobs] for job in range(jobs)] if len(cores) >= jobs else [[] for _ in range(jobs)]


def train(algorithm: str, configs: Sequence[RunConfig], work_dir: Path, free: list[list[int]]) -> None:
    """Train all seeds, one for each share of the cores that is free."""
    waiting: list[RunConfig] = list(configs)
    failed: dict[int, object] = {}
    running: dict[subprocess.Popen[bytes], tuple[RunConfig, list[int]]] = {}
    before = signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C, which is for the children too
    try:
        while waiting or running:
            while waiting and free:
                config, cores = waiting.pop(0), free.pop(0)
                running[start(algorithm, config, work_dir, cores)] = config, cores
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                config, cores = running.pop(process)
                free.append(cores)
                if process.returncode:
                    failed[config.seed] = f"exit code {process.returncode}"
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    finally:
        # after an error here too: seeds that went on unseen would be trained again by the next command
        stop(running)
        signal.signal(signal.SIGTERM, before)
    if failed:
        complain(algorithm, configs[0].env_id, failed)


def stop(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Ask processes to end, and wait until they have saved."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def complain(algorithm: str, env_id: str, failed: Mapping[int, object]) -> NoReturn:
    """Raise `SeedsFailed` for seeds and what went wrong with each."""
    reasons = "; ".join(f"{seed}: {reason}" for seed, reason in failed.items())
    raise SeedsFailed(f"{algorithm} on {env_id}: seeds {list(failed)} ended with an error ({reasons})")


def start(algorithm: str, config: RunConfig, work_dir: Path, cores: list[int]) -> subprocess.Popen[bytes]:
    """Begin one seed in a process of its own."""
    command = [
        sys.executable,
        str(Path(runs.__file__)),
        algorithm,
        str(work_dir),
        "--cores",
        *map(str, cores),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(config.to_toml(algorithm).encode())
    return process
