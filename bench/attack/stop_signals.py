"""SIGTERM, SIGINT and SIGHUP at random times of every algorithm: each run ends by itself with a checkpoint
that loads."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from small_runs import ALGORITHMS, in_child, train, trainer_of

from fastrl.runs.checkpoint import load_checkpoint

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE = 30.0  # seconds within which a run has to end


def run(calls: int, seed: int) -> dict[str, int]:
    """Counts of `calls` signals: `saved`, and `unsaved`, `failed` and `hung`, which must be 0."""
    rng, counts = random.Random(seed), Counter(signals=0, saved=0, unsaved=0, failed=0, hung=0)
    for number in range(calls):
        algorithm, wanted = ALGORITHMS[number % len(ALGORITHMS)], SIGNALS[number % len(SIGNALS)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def body(algorithm: str = algorithm, folder: Path = folder) -> None:
                for each in SIGNALS:
                    signal.signal(each, signal.SIG_DFL)
                trainer = trainer_of(algorithm, save_interval=200, eval_interval=200)
                (folder / "ready").touch()
                train(trainer, 10**7, folder / "run")

            child = in_child(body, folder / "log")
            while not (folder / "run" / "config.toml").exists():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.5))
            os.kill(child, wanted)
            counts["signals"] += 1
            counts[_outcome(child, folder)] += 1
    return dict(counts)


def wait_for_end(child: int, seconds: float = PATIENCE) -> int | None:
    """The exit code of a process, negative for the signal that ended it; None, after killing it, if it does
    not end in time."""
    end = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def _outcome(child: int, folder: Path) -> str:
    code = wait_for_end(child)
    if code is None:
        return "hung"
    if code != 0:
        return "failed"
    try:
        load_checkpoint(folder / "run" / "checkpoints")
    except RuntimeError:
        return "unsaved"
    return "saved"
