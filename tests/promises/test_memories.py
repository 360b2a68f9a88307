"""What is promised of every policy that remembers: over all algorithms with a memory, and all memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learners import play
from test_run_folders import assert_same_run, train

import fastrl
from fastrl.errors import SettingError
from fastrl.nn.action_heads import whole_policy

Make = Callable[..., Any]
PAIRS = [
    *[("ppo", memory) for memory in ("gru", "lstm", "trxl")],
    *[("vmpo", memory) for memory in ("gru", "lstm", "trxl")],
    ("a2c", "gru"),
    ("ppo-adaptive", "trxl"),
]
ENVIRONMENTS = ("ProofofMemory-v0", "LinearQuadratic-v0")


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An algorithm and its memory, as `trainer_of` takes them."""
    name, memory = request.param
    return {"name": name, "memory": memory, "trxl_num_layers": 2, "num_steps": 21, "num_envs": 3}


def collected(trainer: Any) -> Any:
    """The trainer's `RememberingCollector`."""
    return trainer.collected if hasattr(trainer, "collected") else trainer.remembering.collected


def rounds(trainer: Any, count: int) -> None:
    """Whole rounds, in the trainer's own process settings."""
    with trainer.session():
        for _ in range(count):
            assert trainer.collect()
            trainer.estimate()
            trainer.learn()


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_the_first_look_of_an_update_is_at_the_policy_that_acted(
    pair: dict[str, Any], env_id: str, trainer_of: Make
) -> None:
    """Ratios of 1: parts read under their memory are what acting saw, whatever ended in between."""
    with trainer_of(env_id=env_id, **pair) as trainer:
        rounds(trainer, 2)
        with trainer.session():
            trainer.collect()
            data = collected(trainer)
            rollout = data.rollout
            assert bool((~rollout.valid).any()) or env_id == "LinearQuadratic-v0"
            take = rollout.valid_rows
            actions, values = take(rollout.actions), take(rollout.extras["values"])
            learner = trainer.learner
            acted = take(rollout.extras["acted"])
            seen = torch.zeros(len(values), dtype=torch.bool)
            for part in data.reader().parts(3):
                with torch.no_grad():
                    branched, found = part.read()
                policy = whole_policy(branched)
                old = _distribution(learner, acted[part.rows])
                now = policy.log_prob(actions[part.rows])
                torch.testing.assert_close(now, old.log_prob(actions[part.rows]), atol=2e-5, rtol=1e-4)
                torch.testing.assert_close(found, values[part.rows], atol=2e-5, rtol=1e-4)
                assert not bool(seen[part.rows].any())
                seen[part.rows] = True
            assert bool(seen.all())


def _distribution(learner: Any, acted: torch.Tensor) -> Any:
    from fastrl.nn.action_heads import distribution

    space = "continuous" if acted.dim() == 3 else "discrete"
    return distribution(acted, {"space": space, "shape": acted.shape[-2 if acted.dim() == 3 else -1]})


def test_the_first_step_sees_a_kl_of_zero(trainer_of: Make) -> None:
    for memory in ("gru", "trxl"):
        with trainer_of("vmpo", env_id="ProofofMemory-v0", memory=memory, m_steps=1) as trainer:
            rounds(trainer, 1)
            with trainer.session():
                trainer.collect()
                trainer.estimate()
                assert float(trainer.learn()["train/approx_kl"]) == 0.0


def test_the_value_behind_a_rollout_is_what_acting_says_next(pair: dict[str, Any], trainer_of: Make) -> None:
    """The first row of the next rollout has the value that the last one was bootstrapped with."""
    with trainer_of(env_id="LinearQuadratic-v0", **pair) as trainer, trainer.session():
        trainer.collect()
        bootstrap = collected(trainer).bootstrap_values.clone()
        trainer.collect()  # no learning in between: the same weights
        torch.testing.assert_close(collected(trainer).rollout.extras["values"][0], bootstrap)


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_two_halves_are_one_run_also_in_the_middle_of_a_rollout(
    pair: dict[str, Any], env_id: str, trainer_of: Make, tmp_path: Path
) -> None:
    changes = {**pair, "env_id": env_id, "normalize_observation": True}
    with trainer_of(**changes) as whole:
        train(whole, tmp_path / "whole", 256)
    with trainer_of(**changes) as first:
        train(first, tmp_path / "halves", 128)
    with trainer_of(**changes) as second:
        second.load(tmp_path / "halves")
        train(second, tmp_path / "halves", 256)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_a_half_collected_rollout_goes_on(pair: dict[str, Any], trainer_of: Make, tmp_path: Path) -> None:
    def stop_after(trainer: Any, steps: int) -> None:
        left = iter(range(steps))
        trainer.stop_requested = lambda: next(left, None) is None

    ends = []
    for cut in (False, True):
        with trainer_of(env_id="ProofofMemory-v0", **pair) as trainer:
            rounds(trainer, 1)
            if cut:
                with trainer.session():
                    stop_after(trainer, 13)
                    assert not trainer.collect()
                    trainer.save(tmp_path)
            else:
                rounds(trainer, 1)
                ends.append({name: part.clone() for name, part in _weights(trainer).items()})
    with trainer_of(env_id="ProofofMemory-v0", **pair) as trainer:
        trainer.load(tmp_path)
        rounds(trainer, 1)
        ends.append(_weights(trainer))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    return dict(trainer.learner.agent.state_dict())


def test_evaluation_leaves_no_trace(pair: dict[str, Any], trainer_of: Make) -> None:
    ends = []
    for evaluations in (0, 1):
        with trainer_of(env_id="ProofofMemory-v0", **pair) as trainer:
            play(trainer, 1.5)
            for _ in range(evaluations):
                trainer.evaluate(3, seed=11)
            play(trainer, 2)
            ends.append(_weights(trainer))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_loaded_policy_carries_its_state(pair: dict[str, Any], trainer_of: Make, tmp_path: Path) -> None:
    """Episode by episode it acts as the trainer's own actor does."""
    with trainer_of(env_id="ProofofMemory-v0", **pair) as trainer:
        train(trainer, tmp_path / "run", 64)
        policy = fastrl.load(tmp_path / "run")
        assert policy.has_memory
        with trainer.session(), trainer.make_env(2, seed=9) as env:
            actor, obs, state = trainer.actor(2), env.reset(), None
            starts = np.ones(2, bool)
            for _ in range(40):
                mine, state = policy.act(obs.numpy(), state, episode_starts=starts)
                its = actor.act(obs, deterministic=True)
                timestep = env.step(its)
                if bool(timestep.valid.all()):
                    assert np.array_equal(np.asarray(mine), its.numpy())
                actor.observe(timestep)
                obs, starts = timestep.obs, (~timestep.valid).numpy()


def test_rows_that_are_no_transition_leave_nothing(trainer_of: Make) -> None:
    for memory in ("gru", "trxl"):
        with trainer_of("ppo", env_id="ProofofMemory-v0", memory=memory, num_steps=40) as trainer:
            with trainer.session():
                trainer.collect()
            rollout = collected(trainer).rollout
            resets = (~rollout.valid).nonzero()
            assert len(resets)
            for row, env in resets.tolist():
                if row + 1 < rollout.num_steps:
                    assert int(rollout.extras["positions"][row + 1, env]) == 0


def test_what_does_not_fit_is_one_sentence(trainer_of: Make, config_of: Make) -> None:
    with pytest.raises(SettingError, match="advantage_estimator must be gae with memory gru"):
        replace(config_of("ppo"), memory="gru", advantage_estimator="dae").check()
    with pytest.raises(SettingError, match="memory must be none or trxl or gru or lstm, got 'gruu'"):
        replace(config_of("vmpo"), memory="gruu").check()
    with pytest.raises(SettingError, match="sequence_length must be at least 1"):
        replace(config_of("vmpo"), sequence_length=0).check()
    with pytest.raises(SettingError, match="trxl_memory_length must be at most the longest episode, 16"):
        trainer_of("ppo", env_id="ProofofMemory-v0", memory="trxl", trxl_memory_length=64)
