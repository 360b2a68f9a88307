"""What is annealed over a run goes over the steps that training is given, from the configured value in the
first update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

RATE = "train/learning_rate"


def rates_of(trainer: Any, total_steps: int, folder: Any) -> list[float]:
    """Learning rates of the updates of a run."""
    rates, learn = [], trainer.learn

    def noted() -> Any:
        metrics = learn()
        rates.extend(float(metrics[name]) for name in [RATE] if name in metrics)
        return metrics

    trainer.learn = noted
    trainer.run(total_steps, folder)
    trainer.learn = learn
    return rates


def test_the_learning_rate_goes_over_the_steps_of_the_run(
    algorithm: str, trainer_of: Callable[..., Any], config_of: Callable[..., Any], tmp_path: Any
) -> None:
    fields = vars(config_of(algorithm))
    if "anneal_lr" in fields:
        rate = "learning_rate" if "learning_rate" in fields else "policy_lr"
        settings: dict[str, Any] = {"anneal_lr": True, rate: 0.5}
        total, begin, end = 128, 0.5, 0.5 / 4
    elif "anneal_steps" in fields:
        settings = {"learning_rate": 0.5, "final_learning_rate": 0.1, "anneal_steps": 96}
        total, begin, end = 128, 0.5, 0.1
    else:
        settings, total, begin, end = {}, 128, 0.0, 0.0
    for configured in (64, 1_000_000):
        with trainer_of(algorithm, total_steps=configured, num_envs=2, **settings) as trainer:
            rates = rates_of(trainer, total, tmp_path / str(configured))
        if not settings:
            assert rates == []  # nothing is annealed here
            continue
        # Identity-v0 has rows that reset, so that a rollout of 32 rows makes fewer steps
        assert rates == sorted(rates, reverse=True) and 0 < rates[-1] <= end + 0.03
        # a replay is filled before the first update
        waited = fields.get("update_after", 0)
        assert begin * (1 - (waited + 4) / total) <= rates[0] <= begin if waited else rates[0] == begin


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_a_resumed_run_follows_its_new_end(name: str, trainer_of: Callable[..., Any], tmp_path: Any) -> None:
    with trainer_of(name, anneal_lr=True, learning_rate=0.5) as trainer:
        first = rates_of(trainer, 64, tmp_path / "run")
        steps = trainer.env_steps
    with trainer_of(name, anneal_lr=True, learning_rate=0.5) as trainer:
        trainer.load(tmp_path / "run" / "checkpoints")
        second = rates_of(trainer, 10 * steps, tmp_path / "run")
    assert first[-1] > 0 and second[0] == pytest.approx(0.5 * 0.9) and 0 < second[-1] < 0.5 * 0.06


def test_a_run_of_one_rollout_learns(trainer_of: Callable[..., Any], tmp_path: Any) -> None:
    with trainer_of("ppo", anneal_lr=True) as trainer:
        before = [parameter.clone() for parameter in trainer.learner.policy.parameters()]
        assert rates_of(trainer, 1, tmp_path / "run") == [pytest.approx(3e-4)]
        assert not all(
            (a == b).all() for a, b in zip(before, trainer.learner.policy.parameters(), strict=True)
        )


@pytest.mark.parametrize("name", ["vmpo", "mpo", "sac"])
def test_all_networks_share_the_fall_and_multipliers_have_none(
    name: str, trainer_of: Callable[..., Any], tmp_path: Any
) -> None:
    with trainer_of(name, anneal_lr=True) as trainer:
        learner = trainer.learner
        rates = learner.rates
        optimizers = [optimizer for optimizer, _ in rates._initial]
        others = [
            optimizer
            for attribute, optimizer in vars(learner).items()
            if attribute.endswith("optimizer") and all(optimizer is not one for one in optimizers)
        ]
        before = [group["lr"] for optimizer in others for group in optimizer.param_groups]
        initial = [rate for _, each in rates._initial for rate in each]
        trainer.run(128, tmp_path)
        now = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        share = now[0] / initial[0]
        assert 0 < share < 0.3 and now == pytest.approx([share * rate for rate in initial])
        assert before and before == [group["lr"] for one in others for group in one.param_groups]


def test_the_clip_range_falls_over_the_steps_of_the_run(
    trainer_of: Callable[..., Any], tmp_path: Any
) -> None:
    clips: list[float] = []
    with trainer_of("ppo", anneal_clip=True, clip_coef=0.4, num_envs=2) as trainer:
        learn = trainer.learn

        def noted() -> Any:
            metrics = learn()
            clips.append(float(metrics["train/clip_coef"]))
            assert trainer.learner.clip_coef == pytest.approx(clips[-1])
            return metrics

        trainer.learn = noted
        trainer.run(128, tmp_path)
    assert clips[0] == pytest.approx(0.4) and clips == sorted(clips, reverse=True) and 0 < clips[-1] < 0.15
    assert len(set(clips)) == len(clips) > 2
