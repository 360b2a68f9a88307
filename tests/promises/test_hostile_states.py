"""A checkpoint whose digests fit may hold anything: it is refused by one sentence that names the key, and the
trainer is as it was."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fastrl.errors import CheckpointError

ATTACK = Path(__file__).parents[2] / "bench" / "attack" / "hostile_states.py"
CALLS = 40


@pytest.fixture(scope="module")
def hostile_states() -> ModuleType:
    if not ATTACK.exists():
        pytest.skip("the benches are not here")
    spec = importlib.util.spec_from_file_location("hostile_states", ATTACK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# (where, what stands there instead, what the sentence says)
KNOWN: list[tuple[tuple[Any, ...], Any, str]] = [
    (("env_steps",), "many", "env_steps must be a whole number"),
    (("updates",), -1, "updates must be a whole number"),
    (("recent",), [[1.0, 2, 3]], r"recent\[0\] must be a list of 2 items"),
    (("marks", "save"), None, r"marks\['save'\] must be a whole number"),
    (("learner",), [], "learner must be a dict"),
    (("rng", "numpy", "state", "pos"), 10**9, r"rng\['numpy'\]\['state'\]\['pos'\] must be in \[0, 624\]"),
    (
        ("rng", "numpy", "state", "key"),
        np.zeros(3, np.uint32),
        r"rng\['numpy'\]\['state'\]\['key'\] must be a uint32 array of shape \[624\]",
    ),
    (("rng", "python"), (3, (0,) * 625), r"rng\['python'\] must be a tuple of 3 items"),
    (
        ("rng", "torch"),
        torch.full((5056,), 255, dtype=torch.uint8),
        r"rng\['torch'\] has a place outside the generator's 624 words",
    ),
    (("env", "statistics", "done"), None, "the state is of 0 x Identity"),
    (("env", "dynamics", "symbol"), np.full(2, 10**9), "the environments' state is out of range"),
]


def test_made_up_states_are_refused_and_change_nothing(
    algorithm: str, trainer_of: Callable[..., Any], hostile_states: ModuleType
) -> None:
    with trainer_of(algorithm) as trainer:
        state = hostile_states.half_way(trainer)
        before = hostile_states.fingerprint(trainer)
        known = [case for case in KNOWN if case[0][-1] != "symbol" or "symbol" in state["env"]["dynamics"]]
        for place, value, sentence in known:
            with pytest.raises(
                CheckpointError,
                match=f"written with other settings than this trainer's, or is none: {sentence}",
            ):
                trainer.load_state_dict(hostile_states.with_value(state, place, value))
            assert hostile_states.fingerprint(trainer) == before, place


def test_one_changed_place_ends_in_a_sentence_or_in_training(
    algorithm: str, trainer_of: Callable[..., Any], hostile_states: ModuleType
) -> None:
    with trainer_of(algorithm) as trainer:
        counts, wrong = hostile_states.attack(trainer, CALLS, random.Random(f"3 {algorithm}"))
    assert wrong == []
    assert sum(counts.values()) == CALLS and counts["refused"] > CALLS // 3


def test_a_state_of_other_settings_is_refused_and_changes_nothing(
    algorithm: str, trainer_of: Callable[..., Any], hostile_states: ModuleType
) -> None:
    with trainer_of(algorithm, env_id="CartPole-v1") as other, trainer_of(algorithm, num_envs=3) as trainer:
        before = hostile_states.fingerprint(trainer)
        with pytest.raises(
            CheckpointError, match="written with other settings than this trainer's|acts scaled"
        ):
            trainer.load_state_dict(hostile_states.copy_of(other.state_dict()))
        assert hostile_states.fingerprint(trainer) == before
