"""Checkpoints with states that someone made up: each is refused with one sentence and changes nothing, or is
one that can be trained on.

    python bench/attack/attack.py --only hostile_states --calls 4000 --seed 0

What is changed is one place of a real state, half a rollout included: a value of another type, length, sign
or size, a key more or less.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.errors import CheckpointError
from fastrl.runs.state_codec import decode_state, encode_state
from fastrl.testing.small_settings import small_settings
from fastrl.trainers.registry import ALGORITHMS, find_algorithm

Place = tuple[Any, ...]  # keys and indices that lead to a value
OUTCOMES = ("refused", "trained on", "ended by a sentence", "changed the trainer", "traceback")
GOOD = OUTCOMES[:3]
HALF_A_ROLLOUT = 7  # steps
WRONG = (
    None,
    True,
    -1,
    2**63,
    2**70,
    -(2**64),
    10**400,
    0.5,
    -1.5,
    float("nan"),
    float("inf"),
    "",
    "text",
    [],
    [1],
    (),
    {},
    {"a": 1},
)


def small_trainer(algorithm: str) -> Any:
    """A trainer at its smallest, whose checkpoints hold its replay where it has one."""
    entry = find_algorithm(algorithm)
    config_class = entry.config_class()
    settings = small_settings(config_class)
    known = {field.name for field in dataclasses.fields(config_class)}
    return entry.trainer_class().from_config(
        config_class(**settings | ({"save_replay": True} if "save_replay" in known else {}))
    )


def half_way(trainer: Any, steps: int = 64) -> dict[str, Any]:
    """The state of a trainer that has trained and has collected a part of its next rollout, in memory of its
    own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer.train(total_steps=steps, out_dir=folder)
    asked = iter([False] * HALF_A_ROLLOUT)
    trainer.stop_requested = lambda: next(asked, True)
    trainer.collect()
    del trainer.stop_requested
    return copy_of(trainer.state_dict())


def copy_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state as a checkpoint would bring it back."""
    return dict(decode_state(*encode_state(state)))


def places(state: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in a state, containers included."""
    if place:
        yield place
    items = (
        state.items()
        if isinstance(state, Mapping)
        else enumerate(state)
        if isinstance(state, list | tuple)
        else ()
    )
    for key, value in items:
        yield from places(value, (*place, key))


def value_at(state: Any, place: Place) -> Any:
    for key in place:
        state = state[key]
    return state


def with_value(state: Any, place: Place, value: Any) -> Any:
    """The state with another value in a place; the rest is shared."""
    if not place:
        return value
    changed = with_value(state[place[0]], place[1:], value)
    if isinstance(state, Mapping):
        return {**state, place[0]: changed}
    items = [changed if index == place[0] else item for index, item in enumerate(state)]
    return items if isinstance(state, list) else tuple(items)


def hostile(value: Any, draw: random.Random) -> Any:
    """Another value than this, near enough to be taken for it or not at all."""
    if isinstance(value, Tensor | np.ndarray) and draw.random() < 0.8:
        return _hostile_array(value, draw)
    if isinstance(value, Mapping) and value and draw.random() < 0.7:
        gone = draw.choice(list(value))
        return (
            {key: item for key, item in value.items() if key != gone}
            if draw.random() < 0.5
            else {**value, "more": 0}
        )
    if isinstance(value, list | tuple) and value and draw.random() < 0.7:
        return type(value)([*value[:-1], *([value[-1]] * draw.choice((0, 2, 500)))])
    return draw.choice(WRONG)


def _hostile_array(value: Tensor | np.ndarray, draw: random.Random) -> Any:
    tensor = torch.as_tensor(value).clone()
    kind = draw.choice(("dtype", "shape", "longer", "shorter", "kind", "number"))
    if kind == "kind":
        return tensor.numpy() if isinstance(value, Tensor) else tensor
    if kind == "dtype":
        tensor = tensor.to(draw.choice((torch.float64, torch.float32, torch.int64, torch.bool, torch.uint8)))
    elif kind == "shape":
        tensor = tensor[None]
    elif kind == "longer":
        tensor = torch.cat((tensor.flatten(), tensor.flatten(), torch.ones(1, dtype=tensor.dtype)))
    elif kind == "shorter":
        tensor = tensor.flatten()[:-1]
    elif tensor.dtype != torch.bool and tensor.numel():
        largest = torch.iinfo(tensor.dtype).max if not tensor.is_floating_point() else 1e30
        numbers = [
            -1,
            0,
            1,
            largest,
            *((float("nan"), float("inf"), -1e-3) if tensor.is_floating_point() else (largest // 2, 700)),
        ]
        tensor.flatten()[draw.randrange(tensor.numel())] = draw.choice(
            [number for number in numbers if number >= 0 or tensor.is_signed()] or [0]
        )
    return tensor if isinstance(value, Tensor) else tensor.numpy()


def fingerprint(trainer: Any) -> str:
    """A digest of everything in a trainer's state."""
    data, tensors = encode_state(trainer.state_dict())
    digest = hashlib.sha256(json.dumps(data).encode())
    for tensor in tensors.values():
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_hostile(trainer: Any, state: Mapping[str, Any], before: str) -> tuple[str, str]:
    """(outcome, what was said) of one state; `before` is the trainer's fingerprint."""
    try:
        trainer.load_state_dict(state)
    except CheckpointError as error:
        return (OUTCOMES[0] if fingerprint(trainer) == before else OUTCOMES[3]), str(error)
    except Exception as error:
        return OUTCOMES[4], f"while loading: {type(error).__name__}: {error}"
    try:
        trainer.collect()
        trainer.estimate()
        trainer.learn()
    except Exception as error:
        ours = type(error).__module__.startswith("fastrl.")
        return (OUTCOMES[2] if ours else OUTCOMES[4]), f"while training: {type(error).__name__}: {error}"
    return OUTCOMES[1], ""


def attack(trainer: Any, calls: int, draw: random.Random) -> tuple[Counter[str], list[str]]:
    """(how often each outcome, what went wrong) for so many states made up from the one of a trainer that is
    half way."""
    state = half_way(trainer)
    chances = [
        place for place in places(state) if place[:2] != ("rng", "python") or draw.random() < 0.01
    ]  # 625 places alike
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    trainer.load_state_dict(copy_of(state))  # the real one is taken
    before = fingerprint(trainer)
    for _ in range(calls):
        place = draw.choice(chances)
        value = hostile(value_at(state, place), draw)
        outcome, said = load_hostile(trainer, with_value(copy_of(state), place, value), before)
        counts[outcome] += 1
        if outcome not in GOOD:
            wrong.append(f"{trainer.algorithm}: {place} = {str(value)[:80]}: {outcome}: {said[:200]}")
        if outcome != OUTCOMES[0]:
            trainer.load_state_dict(copy_of(state))
            before = fingerprint(trainer)
    return counts, wrong


def run(calls: int, seed: int) -> dict[str, int]:
    """So many made-up states, spread over all algorithms; how often each outcome. What went wrong is
    printed."""
    total: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    for name in ALGORITHMS:
        with small_trainer(name) as trainer:
            counts, wrong = attack(trainer, -(-calls // len(ALGORITHMS)), random.Random(f"{seed} {name}"))
        total += counts
        print(*wrong, sep="\n", end="\n" if wrong else "")
    return {outcome: total[outcome] for outcome in OUTCOMES}
