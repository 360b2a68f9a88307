"""Learners of all algorithms in one way: their modules, their rounds, an update on given data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.runs.optimizers import FlatOptimizer

ROUNDS = {"mpo": 12, "sac": 12}  # a round is a step there


def play(trainer: Any, rounds: float = 1) -> None:
    """So many rounds of a trainer, as its loop makes them, without files."""
    with trainer.session():
        for _ in range(int(rounds * ROUNDS.get(trainer.algorithm, 1))):
            assert trainer.collect()
            trainer.estimate()
            trainer.learn()


def modules_of(trainer: Any) -> dict[str, nn.Module]:
    """The networks and multipliers of a trainer's learner by name, those that are copies of others too."""
    return modules_of_learner(learner_of(trainer))


def _own_modules(owner: Any) -> dict[str, nn.Module]:
    """The modules among an object's attributes, each under its first name."""
    names: dict[nn.Module, str] = {}
    for name, part in vars(owner).items():
        if isinstance(part, nn.Module):
            names.setdefault(part, name)
    return {name: module for module, name in names.items()}


def values_of(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All parameters as they are now."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, module in modules.items()
        for key, value in module.named_parameters()
    }


def learner_of(trainer: Any) -> Any:
    """What has networks and optimisers together."""
    return trainer.learner


def optimizers_of(learner: Any) -> list[torch.optim.Optimizer]:
    """The torch optimisers of a learner."""
    parts = [part.optimizer if isinstance(part, FlatOptimizer) else part for part in vars(learner).values()]
    return [part for part in parts if isinstance(part, torch.optim.Optimizer)]


def modules_of_learner(learner: Any) -> dict[str, nn.Module]:
    """As `modules_of`, of a learner or its copy."""
    return _own_modules(learner)


def update_on_same_data(trainer: Any) -> Callable[[Any], None]:
    """An update of a learner (`learner_of`, or a copy of it) on data that the trainer has collected, always
    the same."""
    if trainer.algorithm in ("mpo", "sac"):
        windows = trainer.feed.replay.sample(8, 1)
        data: Callable[[Any], Any] = lambda learner: learner.learn(windows)  # noqa: E731
    elif trainer.algorithm == "vmpo":
        data = lambda learner: learner.learn(trainer.rows)  # noqa: E731
    elif trainer.algorithm == "ppo-trxl":
        data = lambda learner: learner.learn(trainer.rows, trainer.bank, learning_rate=1e-3, ent_coef=0.01)  # noqa: E731
    else:
        data = lambda learner: learner.learn(trainer.rows(), trainer.env_steps)  # noqa: E731

    def update(learner: Any) -> None:
        torch.manual_seed(7)
        data(learner)

    return update
