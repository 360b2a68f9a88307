"""Runs of every algorithm at its smallest, in processes of their own that may be killed: what the attacks
share."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrl.testing.small_settings import small_settings
from fastrl.trainers.registry import ALGORITHMS as REGISTRY
from fastrl.trainers.registry import find_algorithm

ALGORITHMS = tuple(REGISTRY)


def trainer_of(algorithm: str, **changes: Any) -> Any:
    """A trainer of an algorithm at its smallest, with some settings changed."""
    entry = find_algorithm(algorithm)
    config_class = entry.config_class()
    return entry.trainer_class().from_config(config_class(**small_settings(config_class, **changes)))


def train(trainer: Any, total_steps: int, out_dir: Path) -> None:
    """Train without a word."""
    with contextlib.redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(total_steps=total_steps, out_dir=str(out_dir))


def in_child(body: Callable[[], None], log: Path) -> int:
    """Fork a process that runs `body` and ends with 0, or with 1 after an exception, which then stands in
    `log`; its number.

    Forked, not started: importing torch takes seconds, and an attack wants thousands of processes.
    """
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    sys.stderr = log.open("w")
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
