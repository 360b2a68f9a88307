"""PopArt in PPO and V-MPO: policies learn alike from rewards of any size, and checkpoints hold the scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrl.envs.timestep import Timestep
from fastrl.errors import SettingError
from fastrl.losses.ppo import ppo_loss
from fastrl.testing.small_settings import small_settings
from fastrl.trainers.policy_gradient import learner as policy_gradient
from fastrl.trainers.policy_gradient.config import PPOConfig
from fastrl.trainers.registry import find_algorithm

POPART = {"value_normalization": "popart"}


def make(algorithm: str, **settings: Any) -> Any:
    config = find_algorithm(algorithm).config_class()
    fitting = small_settings(config, **{"env_id": "LinearQuadratic-v0", **settings})
    return find_algorithm(algorithm).trainer_class().from_config(config(**fitting))


def multiply_rewards(trainer: Any, factor: float) -> None:
    """Let a trainer learn from rewards in another unit; those of its episodes stay what they are."""
    step = trainer.env.step

    def in_another_unit(actions: Tensor) -> Timestep:
        timestep = step(actions)
        return timestep._replace(reward=factor * timestep.reward)

    trainer.env.step = in_another_unit


def play(trainer: Any, rounds: int) -> None:
    with trainer.session():
        for _ in range(rounds):
            assert trainer.collect()
            trainer.estimate()
            trainer.learn()


def value_head(trainer: Any) -> Any:
    learner = trainer.learner
    return learner.policy.value_head if trainer.algorithm == "vmpo" else learner.value.head


def popart_of(trainer: Any) -> Any:
    learner = trainer.learner
    return learner.policy.popart if trainer.algorithm == "vmpo" else learner.popart


def policy_weights(trainer: Any) -> list[Tensor]:
    policy = trainer.learner.policy
    parameters = policy.policy_parameters() if trainer.algorithm == "vmpo" else policy.parameters()
    return [parameter.detach().clone() for parameter in parameters]


@pytest.mark.parametrize("shared_encoder", [False, True])
@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "vmpo"])
def test_rewards_in_another_unit_make_the_same_policy(algorithm: str, shared_encoder: bool) -> None:
    ends, values = {}, {}
    settings = {"normalize_advantages": True, "shared_encoder": shared_encoder}
    if algorithm == "vmpo":
        settings |= {"normalize_reward": False}
    for factor in (1.0, 1e-3, 1e3):
        with make(algorithm, **POPART, **settings) as trainer:
            multiply_rewards(trainer, factor)
            play(trainer, 4)
            ends[factor] = policy_weights(trainer)
            values[factor] = trainer.learner.values_of(torch.linspace(-1, 1, 9)[:, None]).detach() / factor
    for factor in (1e-3, 1e3):
        for mine, its in zip(ends[factor], ends[1.0], strict=True):
            torch.testing.assert_close(mine, its, rtol=2e-3, atol=2e-4)
        torch.testing.assert_close(values[factor], values[1.0], rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", ["ppo", "vmpo"])
def test_the_scale_moves_once_an_update_and_values_stay(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(algorithm, **POPART) as trainer:
        play(trainer, 2)
        popart, head, obs = popart_of(trainer), value_head(trainer), torch.linspace(-1, 1, 20)[:, None]
        update, seen = popart.update, []

        def looked_at(targets: Tensor, layer: Any) -> None:
            assert layer is head
            optimizer = trainer.learner.optimizer
            moments = optimizer.state_dict()["state"]
            averages = {number: moments[number]["exp_avg"].clone() for number in moments}
            before, scale = trainer.learner.values_of(obs).detach(), popart.scale()
            update(targets, layer)
            torch.testing.assert_close(trainer.learner.values_of(obs).detach(), before, rtol=1e-5, atol=1e-5)
            assert popart.scale() != scale
            now = optimizer.state_dict()["state"]
            assert all(torch.equal(now[number]["exp_avg"], averages[number]) for number in now)
            seen.append(targets)

        monkeypatch.setattr(popart, "update", looked_at)
        play(trainer, 3)
        assert len(seen) == 3 and all(26 <= len(targets) <= 32 for targets in seen)  # without reset rows


def test_the_clipped_value_loss_is_on_one_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def looked_at(*args: Any, **kwargs: Any) -> Any:
        given.append({"values": args[3].detach(), "returns": args[4], "old": kwargs["old_values"]})
        return ppo_loss(*args, **kwargs)

    monkeypatch.setattr(policy_gradient, "ppo_loss", looked_at)
    with make("ppo", **POPART, clip_vloss=True, num_minibatches=1, update_epochs=1) as trainer:
        multiply_rewards(trainer, 1e3)
        play(trainer, 3)
        raw, popart = trainer.rows(), trainer.learner.popart
    first = given[-1]  # before its gradient step V is V_old, on the new scale
    torch.testing.assert_close(first["values"], first["old"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(popart.restore(first["old"]), raw.values, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(popart.restore(first["returns"]), raw.returns, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("algorithm", ["ppo", "vmpo"])
def test_two_halves_with_a_checkpoint_between_are_one_run(algorithm: str, tmp_path: Path) -> None:
    with make(algorithm, **POPART) as whole:
        whole.train(192, str(tmp_path / "whole"))
        expected = whole.learner.state_dict()
    with make(algorithm, **POPART) as first:
        first.train(96, str(tmp_path / "halves"))
    with make(algorithm, **POPART) as second:
        second.load(tmp_path / "halves")
        assert popart_of(second).scale() == popart_of(first).scale() != (0.0, 1.0)
        second.train(192, str(tmp_path / "halves"))
        found = second.learner.state_dict()
    networks = [name for name in expected if hasattr(expected[name], "keys") and "optimizer" not in name]
    assert networks
    for name in networks:
        assert all(torch.equal(value, found[name][key]) for key, value in expected[name].items()), name


@pytest.mark.parametrize("algorithm", ["ppo", "vmpo"])
def test_what_it_does_not_go_with_is_refused(algorithm: str) -> None:
    with pytest.raises(SettingError, match="value_normalization must be none with dae"):
        make(algorithm, **POPART, advantage_estimator="dae")
    with pytest.raises(SettingError, match="value_normalization must be none with memory gru"):
        make(algorithm, **POPART, memory="gru")
    with pytest.raises(SettingError, match="value_normalization must be none or popart, got 'popcorn'"):
        make(algorithm, value_normalization="popcorn")
    with pytest.raises(SettingError, match=r"popart_rate must be in \(0, 1\]"):
        make(algorithm, **POPART, popart_rate=0.0)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_ppo_learns_from_rewards_of_a_thousandth_and_of_a_thousand(factor: float) -> None:
    learned: dict[str, float] = {}
    for value_normalization in ("none", "popart"):
        config = PPOConfig(
            env_id="LinearQuadratic-v0",
            num_steps=64,
            layer_sizes=(32,),
            learning_rate=1e-3,
            threads=1,
            value_normalization=value_normalization,
        )
        with find_algorithm("ppo").trainer_class().from_config(config) as trainer:
            multiply_rewards(trainer, factor)
            play(trainer, 40)  # 20,480 steps
            learned[value_normalization] = sum(r for r, _ in trainer.recent) / len(trainer.recent)
    assert learned["popart"] > learned["none"] + 0.8, learned  # an untrained policy is near −14


def test_nothing_is_there_by_default() -> None:
    for algorithm in ("ppo", "vmpo"):
        with make(algorithm) as trainer:
            assert popart_of(trainer) is None
            assert not [key for key in _keys(trainer.learner.state_dict()) if "popart" in key]


def _keys(state: Any) -> list[str]:
    if not isinstance(state, dict):
        return []
    return [str(key) for key in state] + [found for value in state.values() for found in _keys(value)]
