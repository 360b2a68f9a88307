"""State-dependent exploration in the policy-gradient family: one policy acts and learns, and runs go on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastrl.errors import SettingError
from fastrl.runs.state_codec import decode_state, encode_state
from fastrl.testing.small_settings import small_settings
from fastrl.trainers.policy_gradient.config import PPOConfig
from fastrl.trainers.policy_gradient.rows import minibatches
from fastrl.trainers.registry import find_algorithm

ALGORITHMS = ("vanilla-pg", "a2c", "surrogate-pg", "ppo", "ppo-adaptive")
GSDE = {"gsde": True, "log_std_init": -1.0, "normalize_observation": True}


def make(algorithm: str = "ppo", **settings: Any) -> Any:
    config = find_algorithm(algorithm).config_class()
    fitting = small_settings(config, **{"env_id": "LinearQuadratic-v0", **GSDE, **settings})
    return find_algorithm(algorithm).trainer_class().from_config(config(**fitting))


def play(trainer: Any, rounds: int) -> None:
    for _ in range(rounds):
        assert trainer.collect()
        trainer.estimate()
        trainer.learn()


def weights(trainer: Any) -> list[torch.Tensor]:
    modules = (trainer.learner.policy, trainer.learner.value)
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_ratio_is_1_and_all_parts_learn(algorithm: str) -> None:
    with make(algorithm) as trainer, trainer.session():
        before = weights(trainer)
        play(trainer, 3)
        assert not any(torch.equal(mine, its) for mine, its in zip(weights(trainer), before, strict=True))
        trainer.collect()
        trainer.estimate()
        rows, policy = trainer.rows(), trainer.learner.policy
        for part in minibatches(rows, 3):
            now = policy.distribution(policy.prepared()(part.obs))
            assert torch.equal(now.log_prob(part.actions), part.old_log_probs)


def test_actions_are_the_mean_and_a_function_of_the_state() -> None:
    with make(num_steps=12, gsde_sample_freq=4) as trainer, trainer.session():
        play(trainer, 2)
        matrices, noise = [], trainer.noise
        act = trainer.learner.sampler

        def looked_at(given: Any) -> Any:
            draw = act(given)

            def drawn(obs: torch.Tensor) -> torch.Tensor:
                actions = draw(obs)
                matrices.append(noise.matrices.clone())
                return actions

            return drawn

        trainer.learner.sampler = looked_at
        trainer.collect()
        policy, rollout = trainer.learner.policy, trainer.rollout
        assert len({str(matrix) for matrix in matrices}) == 3
        for step, matrix in enumerate(matrices):
            obs = trainer.learner.normalized(rollout.obs[step])
            with torch.no_grad():
                mean = policy.distribution(policy(obs)).mode()
                expected = mean + torch.einsum("nh,nha->na", policy.encoder(obs), matrix)
            torch.testing.assert_close(rollout.actions[step], expected)


@pytest.mark.parametrize("sample_freq", [-1, 3])
def test_a_half_collected_rollout_goes_on_with_its_noise(sample_freq: int) -> None:
    with make(gsde_sample_freq=sample_freq) as first, make(gsde_sample_freq=sample_freq) as second:
        with first.session():
            play(first, 2)
            left = iter([False] * 5)
            fill = first.collector.fill
            first.collector.fill = lambda act, stop: fill(act, stop=lambda: next(left, True))
            assert not first.collect()
            first.collector.fill = fill
            assert first.rollout.position == first.noise.steps == 5
        state = decode_state(*encode_state(first.state_dict()))
        second.load_state_dict(state)
        ends = []
        for trainer in (first, second):
            with trainer.session():
                assert trainer.noise.steps == 5
                play(trainer, 1)
                ends.append([trainer.rollout.actions.clone(), trainer.noise.matrices, *weights(trainer)])
        assert all(torch.equal(mine, its) for mine, its in zip(*ends, strict=True))


def test_evaluation_plays_the_mean_and_leaves_the_noise() -> None:
    with make() as trainer:
        with trainer.session():
            play(trainer, 2)
        matrices, learner = trainer.noise.matrices.clone(), trainer.learner
        trainer.evaluate(n_episodes=2)
        assert torch.equal(trainer.noise.matrices, matrices)
        obs = torch.linspace(-1, 1, 5)[:, None]
        policy = learner.policy.distribution(learner.policy(learner.normalized(obs)))
        assert torch.equal(learner.act(obs, deterministic=True), policy.mode())
        drawn = learner.act(obs)
        assert drawn.shape == (5, 1) and not torch.equal(drawn, policy.mode())


def test_direct_advantages_and_popart_go_with_it() -> None:
    for settings in ({"advantage_estimator": "dae"}, {"value_normalization": "popart"}):
        with make(**settings) as trainer, trainer.session():
            play(trainer, 2)
            assert trainer.updates == 2


def test_a_policy_without_hidden_layers_explores_by_its_observations() -> None:
    with make(layer_sizes=(), normalize_observation=False) as trainer, trainer.session():
        play(trainer, 1)
        obs, actions = trainer.rollout.obs[0], trainer.rollout.actions
        assert (
            trainer.noise.matrices.shape == (2, 1, 1) and obs.shape == (2, 1) and actions.shape[1:] == (2, 1)
        )


def test_bad_settings_are_named() -> None:
    with pytest.raises(SettingError, match="gsde must be false with discrete actions"):
        make(env_id="Identity-v0")
    with pytest.raises(SettingError, match="gsde must be false with memory gru"):
        make(memory="gru")
    with pytest.raises(SettingError, match="gsde_sample_freq must be at least 1, or -1"):
        make(gsde_sample_freq=0)
    assert "gsde" in PPOConfig.fixed_on_resume()
