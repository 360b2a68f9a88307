"""A run that is stopped in the middle of a round goes on bit for bit where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from learners import modules_of, values_of

from fastrl.runs.state_codec import decode_state, encode_state

ESTIMATORS = {"vmpo": ("gae", "dae"), "ppo": ("gae", "dae")}


def play_to(trainer: Any, env_steps: int) -> None:
    """Rounds until so many environment steps are made and learned from, or a signal asks to stop."""
    with trainer.session():
        while trainer.env_steps < env_steps and trainer.collect():
            trainer.estimate()
            trainer.learn()


def stop_after(trainer: Any, env_steps: int) -> None:
    trainer.stop_requested = lambda: trainer.env_steps >= env_steps


def changes_of(algorithm: str) -> list[dict[str, Any]]:
    common: dict[str, Any] = {"env_id": "LinearQuadratic-v0"}
    if algorithm in ("mpo", "sac"):
        return [common | {"save_replay": True}]
    return [
        common | ({"advantage_estimator": name} if name else {}) for name in ESTIMATORS.get(algorithm, ("",))
    ]


def test_a_round_that_was_cut_off_goes_on_in_another_process(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    for changes in changes_of(algorithm):
        with trainer_of(algorithm, **changes) as whole:
            play_to(whole, 90)
        with trainer_of(algorithm, **changes) as first:
            stop_after(first, 42)  # rollouts are of 32 environment steps
            play_to(first, 90)
            assert first.env_steps == 42
            state = decode_state(*encode_state(first.state_dict()))
        with trainer_of(algorithm, **changes) as second:
            second.load_state_dict(state)
            play_to(second, 90)
            expected = values_of(modules_of(whole))
            assert (second.env_steps, second.updates) == (whole.env_steps, whole.updates)
            assert second.updates > first.updates
        assert all(torch.equal(value, expected[key]) for key, value in values_of(modules_of(second)).items())
