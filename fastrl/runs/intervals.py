"""When the loop logs, evaluates and saves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig
from fastrl.runs.plain_values import plain


@dataclass(frozen=True, slots=True)
class Intervals:
    """When the loop does what, in environment steps (valid transitions over all environments); 0 means only
    at the end.

    Args:
        evaluate: steps between evaluations.
        save: steps between checkpoints.
        log: steps between logged rows; 0 logs every update.
        eval_episodes: episodes of one evaluation.
        stop_at_return: end the run at the first evaluation whose mean return reaches this; None never does.
        eval_max_steps: steps after which an evaluation leaves an episode; None: see `evaluate_policy`.
    """

    evaluate: int = 0
    save: int = 0
    log: int = 0
    eval_episodes: int = 20
    stop_at_return: float | None = None
    eval_max_steps: int | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Those of a configuration."""
        intervals = (config.eval_interval, config.save_interval, config.log_interval)
        return cls(*intervals, config.eval_episodes, config.stop_at_return, config.eval_max_steps)

    def settings(self) -> dict[str, Any]:
        """By the names that configurations have for them."""
        return {
            "eval_interval": self.evaluate,
            "save_interval": self.save,
            "log_interval": self.log,
            "eval_episodes": self.eval_episodes,
            "stop_at_return": self.stop_at_return,
            "eval_max_steps": self.eval_max_steps,
        }

    def __post_init__(self) -> None:
        for field in fields(self):  # numpy's numbers among them
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name, value in (
            ("eval_interval", self.evaluate),
            ("save_interval", self.save),
            ("log_interval", self.log),
        ):
            if value < 0:
                raise SettingError(f"{name} must be at least 0 environment steps, got {value}")
        if self.eval_episodes < 1:
            raise SettingError(f"eval_episodes must be at least 1, got {self.eval_episodes}")
