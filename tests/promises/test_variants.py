"""Promises of all algorithms, with settings that change what is learned or how actions are drawn."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_hostile_states
import test_learners
import test_training

from fastrl.trainers.registry import ALGORITHMS, find_algorithm

POPART = {"value_normalization": "popart", "popart_rate": 0.3}
GSDE = {"gsde": True, "gsde_sample_freq": 3, "log_std_init": -1.0, "env_id": "LinearQuadratic-v0"}


def takes(algorithm: str, settings: dict[str, Any]) -> bool:
    config = find_algorithm(algorithm).config_class()
    return set(settings) <= {field.name for field in dataclasses.fields(config)}


VARIANTS = [
    pytest.param(algorithm, settings, id=f"{algorithm}-{name}")
    for name, settings, chosen in (
        ("popart", POPART, ("ppo", "vmpo")),
        ("gsde", GSDE, ("ppo", "ppo-adaptive")),
    )
    for algorithm in chosen
]


def test_the_variants_are_settings_of_their_algorithms() -> None:
    assert {name for name in ALGORITHMS if takes(name, POPART)} == {"vmpo"} | {
        name for name in ALGORITHMS if takes(name, GSDE)
    }
    assert all(takes(*variant.values) for variant in VARIANTS)


@pytest.fixture
def variant_of(trainer_of: Callable[..., Any]) -> Callable[..., Any]:
    """`variant_of(settings)`: a `trainer_of` that adds them."""
    return lambda settings: lambda name, **changes: trainer_of(name, **{**changes, **settings})


@pytest.mark.parametrize(("algorithm", "settings"), VARIANTS)
def test_two_halves_are_one_run(
    algorithm: str, settings: dict[str, Any], variant_of: Callable[..., Any], tmp_path: Path
) -> None:
    make = variant_of(settings)
    test_training.test_two_halves_with_a_checkpoint_between_are_one_run(
        algorithm, "LinearQuadratic-v0", make, tmp_path
    )
    test_training.test_evaluation_leaves_no_trace_and_repeats_itself(algorithm, make)


@pytest.mark.parametrize(("algorithm", "settings"), VARIANTS)
def test_learners_can_be_changed_copied_and_frozen(
    algorithm: str, settings: dict[str, Any], variant_of: Callable[..., Any]
) -> None:
    make = variant_of(settings)
    test_learners.test_learning_goes_on_as_if_nothing_had_been_done(algorithm, make)
    test_learners.test_copies_learn_as_the_original_does_and_by_themselves(algorithm, make)
    test_learners.test_a_network_that_another_one_replaces_is_followed(algorithm, make)
    test_learners.test_frozen_parameters_stand_still(algorithm, make)


@pytest.mark.parametrize(("algorithm", "settings"), VARIANTS)
def test_made_up_states_are_refused(
    algorithm: str, settings: dict[str, Any], variant_of: Callable[..., Any], hostile_states: Any
) -> None:
    with variant_of(settings)(algorithm) as trainer:
        counts, wrong = hostile_states.attack(
            trainer, test_hostile_states.CALLS, random.Random(f"5 {algorithm}")
        )
    assert wrong == []
    assert sum(counts.values()) == test_hostile_states.CALLS


hostile_states = test_hostile_states.hostile_states  # the fixture
