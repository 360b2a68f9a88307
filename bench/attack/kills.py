"""kill -9 at random times, inside saves too: whatever was saved loads, and nothing else is needed."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from small_runs import ALGORITHMS, in_child, train, trainer_of

from fastrl.errors import CheckpointError
from fastrl.runs.checkpoint import TEMPORARY


def run(calls: int, seed: int) -> dict[str, int]:
    """Counts of `calls` kills: `loaded`, and `unreadable`, which must be 0; `in_a_save` says how many hit
    one."""
    rng, counts = random.Random(seed), Counter(kills=0, loaded=0, in_a_save=0, ended_before=0, unreadable=0)
    for number in range(calls):
        algorithm = ALGORITHMS[number % len(ALGORITHMS)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            child = in_child(
                lambda: train(trainer_of(algorithm, save_interval=16), 10**6, folder / "run"),  # noqa: B023
                folder / "log",
            )
            _wait_for(folder / "run" / "checkpoints" / "LATEST")
            time.sleep(rng.uniform(0, 0.3))
            counts["in_a_save"] += any(
                TEMPORARY.fullmatch(entry.name) for entry in (folder / "run" / "checkpoints").iterdir()
            )
            os.kill(child, signal.SIGKILL)
            counts["kills"] += 1
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
                counts["ended_before"] += 1
            counts["loaded" if _loads(algorithm, folder / "run" / "checkpoints") else "unreadable"] += 1
    return dict(counts)


def _loads(algorithm: str, checkpoints: Path) -> bool:
    trainer = trainer_of(algorithm)
    try:
        trainer.load(checkpoints)
    except CheckpointError:
        return False
    finally:
        trainer.close()
    return True


def _wait_for(path: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.002)
