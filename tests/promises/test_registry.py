"""Every algorithm of the registry trains at its smallest and leaves a checkpoint that its trainer loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_trains_saves_and_loads(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Path
) -> None:
    trainer = trainer_of(algorithm)
    trainer.train(total_steps=64, out_dir=str(tmp_path / "run"))
    assert trainer.env_steps >= 64 and trainer.updates > 0
    again = trainer_of(algorithm)
    again.load(tmp_path / "run" / "checkpoints")
    assert (again.env_steps, again.updates) == (trainer.env_steps, trainer.updates)
    assert set(again.evaluate(2, seed=3)) == set(trainer.evaluate(2, seed=3))
