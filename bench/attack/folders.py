"""A stranger's run folder: links that lead out of it, pipes and devices among its files, a module to import
named in its configuration."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from small_runs import ALGORITHMS, in_child, train, trainer_of

FILES = (
    *("config.toml", "metrics.csv", "eval.csv", "curve.png", "checkpoints/LATEST"),
    *("events.out.tfevents.1.x", "metrics.csv.tmp", ".config.toml.tmp"),
)
COMMANDS = ("eval", "plot", "resume")
MINE = b"years of work\n"


def run(calls: int, seed: int) -> dict[str, int]:
    """Counts of `calls` folders: `held`, and `escaped` (something outside was written or run) and `hung`,
    which must be 0."""
    rng, counts = random.Random(seed), Counter(folders=0, held=0, escaped=0, hung=0, tracebacks=0)
    with tempfile.TemporaryDirectory() as name:
        originals = {algorithm: _a_run(algorithm, Path(name)) for algorithm in ALGORITHMS[:3]}
        for number in range(calls):
            work = Path(name) / f"work{number}"
            algorithm = rng.choice(list(originals))
            shutil.copytree(originals[algorithm], work / "run", symlinks=True)
            (work / "mine").write_bytes(MINE)
            _plant(rng, work)
            counts["folders"] += 1
            counts[_outcome(rng.choice(COMMANDS), algorithm, work)] += 1
            shutil.rmtree(work)
    return dict(counts)


def _a_run(algorithm: str, root: Path) -> Path:
    folder = root / algorithm
    with contextlib.closing(trainer_of(algorithm, save_interval=32)) as trainer:
        train(trainer, 64, folder)
    return folder


def _plant(rng: random.Random, work: Path) -> None:
    """Put a link, a pipe or a configuration of the attacker's into the run."""
    file = work / "run" / rng.choice(FILES)
    kind = rng.choice(("link", "pipe", "device", "folder link", "module"))
    if kind == "module":
        (work / "payload.py").write_text(f"open({str(work / 'mine')!r}, 'w').write('owned')")
        config = work / "run" / "config.toml"
        config.write_text(config.read_text().replace("Identity-v0", "payload:X-v0"))
        return
    if kind == "folder link":
        shutil.rmtree(work / "run" / "checkpoints")
        (work / "elsewhere").mkdir()
        (work / "run" / "checkpoints").symlink_to(work / "elsewhere")
        return
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(work / "mine" if kind == "link" else "/dev/zero")


def _outcome(command: str, algorithm: str, work: Path) -> str:
    words = {
        "eval": ["eval", str(work / "run"), "--episodes", "2"],
        "plot": ["plot", str(work / "run"), "--out", str(work / "p.png")],
        "resume": ["train", algorithm, "--resume", str(work / "run"), "--total-steps", "128"],
    }[command]

    def body() -> None:
        from fastrl.cli.main import main

        os.chdir(work)
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
        os._exit(code if code in (0, 1, 2) else 3)

    from stop_signals import wait_for_end

    code = wait_for_end(in_child(body, work / "log"))
    if code is None:
        return "hung"
    outside = list((work / "elsewhere").iterdir()) if (work / "elsewhere").exists() else []
    if (work / "mine").read_bytes() != MINE or outside:
        return "escaped"
    return (
        "tracebacks"
        if "Traceback" in (work / "log").read_text(errors="replace") or code not in (0, 1, 2)
        else "held"
    )
