"""What a trainer keeps in a checkpoint, and how it takes one: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from fastrl.data.feed import Feed
from fastrl.data.rollout import Rollout
from fastrl.envs import EnvironmentFailure
from fastrl.envs.action_scale import require_same_scale
from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.description import description_of
from fastrl.errors import CheckpointError, NonFiniteError
from fastrl.runs.seeding import require_rng_state
from fastrl.runs.state_check import Checked, ListOf, Maybe, StateError, Within, require_like
from fastrl.runs.state_codec import decode_state, encode_state

if TYPE_CHECKING:
    from fastrl.runs.trainer import Trainer

LOGGED = "logged"  # the mark of the last row that was due
MARKS = ("log", "evaluate", "save", LOGGED)
MOST_STEPS = 2**53  # counts up to here are exact in the files of numbers too


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything a later process needs to continue, as plain values and tensors."""
    return {
        "algorithm": trainer.algorithm,
        "env_steps": trainer.env_steps,
        "updates": trainer.updates,
        "episodes": trainer.episodes,
        "recent": [list(episode) for episode in trainer.recent],
        "marks": dict(trainer.marks),
        "learner": trainer.learner.state_dict(),
        "env": None if trainer.env.broken else trainer.env.state_dict(),
        "action_bounds": trainer.env.scaled_bounds(),
        "trainer": trainer.trainer_state(),
        "rng": trainer.session().generators,
        # what acting needs beside the learner, see `fastrl.load`
        "config": trainer.config.to_toml(trainer.algorithm),
        "spaces": description_of(trainer.env),
    }


def load_state(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Counterpart of `state_of`. Environments that could not be saved are made anew.

    Raises:
        CheckpointError: the state is of another algorithm or other settings, or is none; the message names
            the key, and the trainer is as it was (if it had made its environments anew by then, they begin
            new episodes).
    """
    if not isinstance(state, Mapping) or state.get("algorithm") != trainer.algorithm:
        found = state.get("algorithm") if isinstance(state, Mapping) else state
        raise CheckpointError(
            f"the checkpoint is of algorithm {found!r}, this trainer is {trainer.algorithm!r}"
        )
    require_same_scale(state.get("action_bounds"), trainer.env)
    reached = 0  # the part that is being loaded; on the way back those behind it stay as they are

    def take(given: Mapping[str, Any], back: bool) -> None:
        nonlocal reached
        made_anew = given["env"] is None and reached > 0
        for number, part in enumerate((_take_learner, _take_environments, _take_rest)):
            if back and number > reached and not made_anew:
                break
            reached = max(reached, number)
            part(trainer, given)
        trainer.session().generators = given["rng"]

    load_or_go_back(
        state, check=lambda: _require_state(trainer, state), own=lambda: state_of(trainer), load=take
    )


def begin_new_episodes(trainer: Trainer) -> None:
    """Make environments that cannot save their state anew, as loading the present state would.

    Nothing is drawn.
    """
    state = state_of(trainer)
    if state["env"] is None:
        _take_environments(trainer, state)
        _take_rest(trainer, state)
        trainer.session().generators = state["rng"]


def load_or_go_back(
    state: Mapping[str, Any],
    *,
    check: Callable[[], None],
    own: Callable[[], dict[str, Any]],
    load: Callable[[Mapping[str, Any], bool], None],
) -> None:
    """Load a state, or leave everything as it was.

    Args:
        state: from a file.
        check: raises StateError if the state is none that can be loaded; changes nothing.
        own: the present state.
        load: loads a state; its second argument tells whether it is the present one, after the other failed.

    Raises:
        CheckpointError: `check` or `load` failed; the message says why.
    """
    try:
        check()
    except StateError as error:
        raise CheckpointError(
            f"the checkpoint was written with other settings than this trainer's, or is none: {error}"
        ) from None
    present = decode_state(*encode_state(own()))  # a copy
    try:
        load(state, False)
    except Exception as error:  # a state made up by someone can lead to any
        load(present, True)
        if isinstance(error, EnvironmentFailure | NonFiniteError):  # environments that had to be made anew
            raise
        reason = (
            f"{type(error).__name__} {error}"
            if isinstance(error, KeyError)
            else str(error) or type(error).__name__
        )
        raise CheckpointError(
            f"the checkpoint was written with other settings than this trainer's, or is none: {reason}"
        ) from error


def rollout_outline(rollout: Rollout, action: ActionSpec) -> dict[str, Any]:
    """What the state of a half-collected rollout must look like (see `state_check`).

    Args:
        rollout: the trainer's own.
        action: of its environments; discrete actions are indices.
    """
    outline = rollout.state_dict()
    outline["position"] = Within(0, 0, rollout.num_steps - 1)
    if "places" in outline["tensors"]:
        last = rollout.obs.last_place
        outline["tensors"]["places"] = Within(outline["tensors"]["places"], 0, last)
    if action.nvec:
        actions = outline["tensors"]["actions"]
        outline["tensors"]["actions"] = Within(
            actions, 0, torch.tensor(action.nvec, device=actions.device) - 1
        )
    return outline


def feed_outline(feed: Feed) -> dict[str, Any]:
    """What the state of a feed must look like; the replay looks at its own state itself."""
    return feed.carried() | {"following": Maybe(feed.obs), "replay": None}


def _require_state(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Raises StateError, naming the key, unless the trainer can take the state."""
    count = Within(0, 0, MOST_STEPS)
    marks = state.get("marks")
    known = [
        name for name in MARKS if isinstance(marks, Mapping) and name in marks
    ]  # before a run there are none
    expected = {
        "algorithm": trainer.algorithm,
        "env_steps": count,
        "updates": count,
        "episodes": count,
        "recent": ListOf([0.0, count], trainer.recent.maxlen or 0),
        "marks": dict.fromkeys(known, count),
        "learner": trainer.learner.state_dict(),
        "env": None,  # the environments look at it themselves
        "trainer": trainer.state_outline(),
        "rng": Checked(require_rng_state),
    }
    if missing := [key for key in expected if key not in state]:
        raise StateError(f"{missing[0]!r} is missing")
    for key, example in expected.items():
        require_like(state[key], example, key)


def _take_learner(trainer: Trainer, state: Mapping[str, Any]) -> None:
    trainer.env_steps, trainer.updates, trainer.episodes = (
        state["env_steps"],
        state["updates"],
        state["episodes"],
    )
    trainer.recent.clear()
    trainer.recent.extend((value, length) for value, length in state["recent"])
    trainer.marks = dict(state["marks"])
    trainer.learner.load_state_dict(state["learner"])


def _take_environments(trainer: Trainer, state: Mapping[str, Any]) -> None:
    if state["env"] is not None:
        trainer.env.load_state_dict(state["env"])
    elif trainer.can_make_envs:
        trainer.renew_environments()


def _take_rest(trainer: Trainer, state: Mapping[str, Any]) -> None:
    trainer.load_trainer_state(state["trainer"], environments_continue=state["env"] is not None)
