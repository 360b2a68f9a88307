"""With `eval_sampled` every algorithm is evaluated with drawn actions too, beside the most probable ones, and
training knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastrl.runs.csv_table import read_columns

NAMES = ("return_mean", "return_std", "return_min", "return_max", "length_mean")


def test_drawn_actions_stand_beside_the_most_probable_ones(
    algorithm: str, trainer_of: Callable[..., Any]
) -> None:
    with trainer_of(algorithm) as plain, trainer_of(algorithm, eval_sampled=True) as both:
        before = torch.get_rng_state()
        first, second, third = both.evaluate(4), both.evaluate(4), plain.evaluate(4)
        assert torch.equal(torch.get_rng_state(), before)
    assert first == second, "the same actions are drawn by every evaluation of the same policy"
    assert set(third) == {f"eval/{name}" for name in NAMES}
    assert set(first) - set(third) == {f"eval/sampled_{name}" for name in NAMES}
    assert {name: first[name] for name in third} == third
    # a policy that has not learned is far from the same each time: its draws differ from its modes
    assert first["eval/sampled_return_mean"] != first["eval/return_mean"]


def test_training_is_the_same_with_and_without(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Path
) -> None:
    weights = []
    for sampled in (False, True):
        folder = tmp_path / str(sampled)
        with trainer_of(algorithm, eval_sampled=sampled, eval_interval=32, eval_episodes=2) as trainer:
            trainer.run(96, folder)
            weights.append(trainer.learner.state_dict())
        both = [read_columns(folder / "eval.csv", f"eval/{name}return_mean") for name in ("", "sampled_")]
        assert len(both[0]) > 1 and len(both[1]) == (len(both[0]) if sampled else 0)
    flat = [torch.cat([leaf.flatten().double() for leaf in leaves(state)]) for state in weights]
    assert torch.equal(*flat)


def leaves(state: Any) -> list[torch.Tensor]:
    """All tensors of nested dicts and lists."""
    if isinstance(state, torch.Tensor):
        return [state]
    inside = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [leaf for item in inside for leaf in leaves(item)]
