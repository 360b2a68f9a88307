"""An algorithm that takes no time: the command line is tested on it alone."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from fastrl.errors import SettingError
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
from fastrl.runs.config import RunConfig
from fastrl.runs.metrics import MetricsLogger
from fastrl.runs.signals import StopOnSignal
from fastrl.trainers.registry import ALGORITHMS, Algorithm


@dataclass(kw_only=True)
class CountingConfig(RunConfig):
    """Settings of an algorithm that counts."""

    total_steps: int = 100
    """Steps to count."""
    sizes: tuple[int, ...] = (8, 8)
    """Widths."""
    rate: float = 0.5
    """Rate, in (0, 1]."""
    clip: float | None = 10.0
    """Bound; none: unbounded."""
    normalize: bool = True
    """A switch."""
    depth: int = 1
    """Fixed once a run has begun."""
    careful: bool = False
    """Another switch."""
    kind: Literal["up", "down"] = "up"
    """Direction."""

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        return (*super().fixed_on_resume(), "depth")

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        return {"rate": 1, "sizes": [4], "total_steps": 70} if env_id == "Preset-v0" else {}


class CountingTrainer:
    """Counts in tens up to total_steps; its return is the count. `hook` runs after each ten."""

    algorithm = "counting"
    hook = staticmethod(lambda trainer: None)
    made: list[CountingTrainer] = []

    def __init__(self, config: CountingConfig) -> None:
        if config.env_id.startswith("Unknown"):
            raise SettingError(f"env_id: there is no environment {config.env_id!r}; did you mean 'Known-v0'?")
        self.config, self.env_steps, self.interrupted, self.closed = config, 0, None, False
        self.unwritten: list[str] = []
        self.made.append(self)

    @classmethod
    def from_config(cls, config: CountingConfig) -> CountingTrainer:
        return cls(config)

    def train(self, total_steps: int, out_dir: str) -> None:
        with StopOnSignal() as stop, MetricsLogger(out_dir, tensorboard=False) as logger:
            if self.env_steps:
                logger.resume_from(self.env_steps)
            while self.env_steps < total_steps and not stop.requested:
                self.env_steps += 10
                logger.log({"rollout/ep_return_mean": float(self.env_steps)}, env_steps=self.env_steps)
                type(self).hook(self)
            self.interrupted = stop.requested
            if not self.interrupted:
                logger.log_eval(self.evaluate(self.config.eval_episodes), env_steps=self.env_steps)
            save_checkpoint(
                Path(out_dir) / "checkpoints",
                {"env_steps": self.env_steps, "w": torch.ones(3)},
                step=self.env_steps,
            )

    def load(self, path: str | Path) -> None:
        self.env_steps = load_checkpoint(path)["env_steps"]

    def evaluate(self, n_episodes: int = 20, seed: int | None = None) -> dict[str, float]:
        print("a library talks on standard output")
        number = float(self.env_steps + (seed or 0))
        return dict.fromkeys(("eval/return_mean", "eval/return_min", "eval/return_max"), number) | {
            "eval/return_std": 0.0,
            "eval/length_mean": float(n_episodes),
        }

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[CountingTrainer]:
    """The algorithm, registered as `counting`, in an empty working directory."""
    module = types.ModuleType("counting_algorithm")
    trainer = type("CountingTrainer", (CountingTrainer,), {"made": []})
    vars(module).update(CountingConfig=CountingConfig, CountingTrainer=trainer)
    monkeypatch.setitem(sys.modules, "counting_algorithm", module)
    entry = Algorithm(
        "counting", "counts", "counting_algorithm:CountingConfig", "counting_algorithm:CountingTrainer"
    )
    monkeypatch.setitem(ALGORITHMS, "counting", entry)
    monkeypatch.chdir(tmp_path)
    return trainer
