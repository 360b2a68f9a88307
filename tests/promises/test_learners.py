"""What is done to a learner's networks from outside, copies, frozen parameters: learning goes on, or a
sentence says why it cannot."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from learners import (
    learner_of,
    modules_of,
    modules_of_learner,
    optimizers_of,
    play,
    update_on_same_data,
    values_of,
)
from torch import nn

from fastrl.errors import SettingError

CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "load_state_dict(assign=True)": lambda m: m.load_state_dict(
        {name: value.clone() for name, value in m.state_dict().items()}, assign=True
    ),
    "double().float()": lambda m: m.double().float(),
    "data": lambda m: [setattr(parameter, "data", parameter.data.clone()) for parameter in m.parameters()],
    "zero_grad": lambda m: m.zero_grad(),
}


CONTINUOUS = {"env_id": "LinearQuadratic-v0"}


def test_learning_goes_on_as_if_nothing_had_been_done(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    ends = {}
    for name, change in {"nothing": lambda module: None, **CHANGES}.items():
        with trainer_of(algorithm, **CONTINUOUS) as trainer:
            play(trainer)
            for module in modules_of(trainer).values():
                change(module)
            before = values_of(modules_of(trainer))
            play(trainer, 2)
            ends[name] = values_of(modules_of(trainer))
    moved = [key for key, value in ends["nothing"].items() if not torch.equal(value, before[key])]
    assert any("policy" in key or "actor" in key for key in moved) and any(
        "crit" in key or "value" in key for key in moved
    ), moved
    for name, values in ends.items():
        assert all(torch.equal(value, ends["nothing"][key]) for key, value in values.items()), name


def test_gradients_that_an_optimiser_took_away_come_back(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    ends = []
    for takes_away in (False, True):
        with trainer_of(algorithm) as trainer:
            play(trainer)
            optimizers = optimizers_of(learner_of(trainer))
            assert optimizers
            for optimizer in optimizers if takes_away else []:
                optimizer.zero_grad()
            play(trainer)
            ends.append(values_of(modules_of(trainer)))
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode])
def test_learning_without_gradients_is_refused(
    algorithm: str, switched_off: Any, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm) as trainer:
        play(trainer, 2)
        before = values_of(modules_of(trainer))
        with (
            switched_off(),
            pytest.raises(
                SettingError, match=r"learning needs gradients: do not learn within torch.no_grad\(\)"
            ),
        ):
            play(trainer)
        assert all(torch.equal(value, before[key]) for key, value in values_of(modules_of(trainer)).items())


def test_what_cannot_be_followed_is_said_before_the_first_step(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Any
) -> None:
    for change, words in (
        (lambda module: module.double(), "is float64"),
        (lambda module: module.to("meta"), "on meta now"),
    ):
        with trainer_of(algorithm) as trainer:
            name, module = next(iter(modules_of(trainer).items()))
            change(module)
            with pytest.raises(SettingError, match=words):
                trainer.run(64, tmp_path / "run")
            assert trainer.env_steps == 0 and name


def saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda learner: pickle.loads(pickle.dumps(learner)),
    "torch.save": saved,
}


def test_copies_learn_as_the_original_does_and_by_themselves(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm, **CONTINUOUS) as trainer:
        play(trainer, 2)
        original, update = learner_of(trainer), update_on_same_data(trainer)
        before = values_of(modules_of_learner(original))
        copies = {name: make(original) for name, make in COPIES.items()}
        for learner in copies.values():
            update(learner)
            update(learner)
        assert all(
            torch.equal(value, before[key]) for key, value in values_of(modules_of_learner(original)).items()
        )
        update(original)
        update(original)
        after = values_of(modules_of_learner(original))
        assert any(not torch.equal(value, before[key]) for key, value in after.items())
        for name, learner in copies.items():
            assert all(
                torch.equal(value, after[key])
                for key, value in values_of(modules_of_learner(learner)).items()
            ), name


def test_frozen_parameters_stand_still(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    with trainer_of(algorithm) as trainer:
        play(trainer)
        modules = modules_of(trainer)
        trained = {
            f"{name}.{key}": p
            for name, module in modules.items()
            for key, p in module.named_parameters()
            if p.requires_grad
        }
        start = values_of(modules)
        play(trainer, 2)
        moving = [key for key in trained if not torch.equal(values_of(modules)[key], start[key])]
        assert len(moving) > 4
        for frozen in (moving[::2], moving[1::2], moving):
            for key, parameter in trained.items():
                parameter.requires_grad_(key not in frozen)
            before = values_of(modules)
            play(trainer, 2)
            after = values_of(modules)
            still = {key for key in moving if torch.equal(before[key], after[key])}
            assert still == set(frozen)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        play(trainer, 2)
        assert not any(torch.equal(values_of(modules)[key], after[key]) for key in moving)


def test_a_network_that_another_one_replaces_is_followed(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    def replace_all(trainer: Any) -> None:
        for name, module in modules_of(trainer).items():
            setattr(learner_of(trainer), name, copy.deepcopy(module))

    def replace_parts(trainer: Any) -> None:
        for module in modules_of(trainer).values():
            for name, child in module.named_children():
                setattr(module, name, copy.deepcopy(child))

    ends = {}
    for change in (lambda trainer: None, replace_parts, replace_all):
        with trainer_of(algorithm, **CONTINUOUS) as trainer:
            play(trainer)
            change(trainer)
            trainer.follow_parameters()
            play(trainer, 2)
            ends[change] = values_of(modules_of(trainer))
    expected, *others = ends.values()
    assert all(torch.equal(value, expected[key]) for end in others for key, value in end.items())


@pytest.mark.parametrize("algorithm", ["mpo", "vmpo"])
def test_the_documented_agent_of_a_trainer_is_its_learner(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm) as trainer:
        agent = trainer.agent
        assert agent.policy is trainer.learner.policy
        actions = agent.act(np.zeros((3, *trainer.env.obs_shape), np.float32).reshape(3, -1), True)
        first = actions[0] if algorithm == "vmpo" else actions
        assert len(first) == 3
