"""What the trainer of the policy-gradient family promises beside what all trainers do (tests/promises)."""

import csv

import pytest
import torch

from fastrl.cli.main import main
from fastrl.errors import CheckpointError, SettingError
from fastrl.runs.checkpoint import load_checkpoint
from fastrl.trainers.policy_gradient.config import (
    A2CConfig,
    PPOAdaptiveConfig,
    PPOConfig,
    SurrogatePGConfig,
    VanillaPGConfig,
)
from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer

CONFIGS = [VanillaPGConfig, A2CConfig, SurrogatePGConfig, PPOConfig, PPOAdaptiveConfig]
DAE = {"advantage_estimator": "dae"}
every = pytest.mark.parametrize("config_class", CONFIGS, ids=[config.ALGORITHM for config in CONFIGS])


def make_trainer(config_class=PPOConfig, env_id="ProofofMemory-v0", **settings):
    chosen = {
        "seed": 3,
        "num_envs": 4,
        "num_steps": 16,
        "layer_sizes": (16,),
        "threads": 1,
        "eval_interval": 0,
        "save_interval": 0,
    }
    return PolicyGradientTrainer.from_config(config_class(env_id=env_id, **chosen | settings))


def weights(trainer):
    networks = (trainer.learner.policy, trainer.learner.value, trainer.learner.advantage)
    return [value for net in networks if net is not None for value in net.state_dict().values()]


def rows_of(path):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def test_two_halves_with_a_checkpoint_between_equal_one_run_with_dae(tmp_path):
    config_class = PPOConfig
    settings = {
        "normalize_observation": True,
        "normalize_reward": True,
        "ent_coef": 0.01,
        "advantage_estimator": "dae",
    }
    with make_trainer(config_class, **settings) as whole:
        whole.train(600, str(tmp_path / "whole"))
    with make_trainer(config_class, **settings) as first:
        first.train(300, str(tmp_path / "halves"))
    with make_trainer(config_class, **settings) as second:
        second.load(tmp_path / "halves")
        second.train(600, str(tmp_path / "halves"))
    assert all(torch.equal(mine, its) for mine, its in zip(weights(second), weights(whole), strict=True))
    assert (second.env_steps, second.updates, second.episodes) == (
        whole.env_steps,
        whole.updates,
        whole.episodes,
    )
    assert rows_of(tmp_path / "halves" / "metrics.csv") == rows_of(tmp_path / "whole" / "metrics.csv")


@every
def test_runs_on_the_command_line(config_class, tmp_path, capsys):
    run, words = (
        tmp_path / "run",
        ["--num-envs", "4", "--num-steps", "16", "--layer-sizes", "8", "--eval-episodes", "4"],
    )
    words = ["train", config_class.ALGORITHM, "--env-id", "CartPole-v1", *words, "--out-dir", str(run)]
    assert main([*words, "--total-steps", "300"]) == 0
    assert main(["train", config_class.ALGORITHM, "--resume", str(run), "--total-steps", "500"]) == 0
    assert load_checkpoint(run / "checkpoints")["env_steps"] >= 500
    assert main(["eval", str(run), "--episodes", "2", "--json"]) == 0
    shown = {"loss/total", "loss/policy", "loss/value", "train/entropy", "train/approx_kl", "grad/norm"}
    assert shown | {"train/explained_variance"} <= set(rows_of(run / "metrics.csv")[-1])


def test_direct_advantages_on_the_command_line_and_their_settings(tmp_path, capsys):
    words = [
        "--num-envs",
        "4",
        "--num-steps",
        "16",
        "--layer-sizes",
        "8",
        "--eval-episodes",
        "4",
        "--advantage-estimator",
        "dae",
    ]
    words += [
        "--dae-epochs",
        "3",
        "--dae-minibatches",
        "2",
        "--dae-lambda",
        "0.5",
        "--gamma",
        "0.9",
        "--total-steps",
        "150",
    ]
    assert main(["train", "ppo", "--env-id", "CartPole-v1", *words, "--out-dir", str(tmp_path / "run")]) == 0
    logged = {"loss/dae", "grad/dae_norm", "dae/loss_after", "dae/advantage_std"}
    assert logged <= set(rows_of(tmp_path / "run" / "metrics.csv")[-1])
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert "time/fitting_s" in file.readline()
    with make_trainer(**DAE) as trainer:
        # at first no action is better than another
        assert trainer.learner.advantage.head.linear.weight.abs().max() < 0.02


def test_direct_advantages_are_fitted_while_learning_and_not_before():
    with make_trainer(**DAE) as trainer:
        start = [value.clone() for value in weights(trainer)]
        trainer.collect()
        trainer.estimate()
        assert all(torch.equal(one, other) for one, other in zip(start, weights(trainer), strict=True))
        trainer.learn()
        assert not any(torch.equal(one, other) for one, other in zip(start, weights(trainer), strict=True))


def test_a_shared_encoder_is_one_body():
    with make_trainer(shared_encoder=True) as shared, make_trainer() as apart:
        assert shared.learner.value.encoder is shared.learner.policy.encoder
        assert apart.learner.value.encoder is not apart.learner.policy.encoder
        shared.collect()
        shared.estimate()
        shared.learn()


def test_rewards_on_reset_rows_change_nothing(tmp_path):
    found = []
    for reward in (0.0, 1e9):
        with make_trainer(
            env_id="Counter-v0", env_kwargs={"reset_reward": reward}, normalize_reward=True
        ) as trainer:
            trainer.train(400, str(tmp_path / str(reward)))
            found.append(weights(trainer))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_learning_rate_falls_to_nothing(tmp_path):
    with make_trainer(anneal_lr=True, learning_rate=0.01, total_steps=400) as trainer:
        trainer.train(400, str(tmp_path))
    rates = [float(row["train/learning_rate"]) for row in rows_of(tmp_path / "metrics.csv")]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.002 and 0.007 < rates[0] < 0.01


def test_other_settings_than_the_checkpoints_are_an_error(tmp_path):
    with make_trainer() as trainer:
        trainer.train(100, str(tmp_path))
    with make_trainer(layer_sizes=(8,)) as other, pytest.raises(CheckpointError):
        other.load(tmp_path)
    with make_trainer(A2CConfig) as other, pytest.raises(CheckpointError, match="algorithm 'ppo'"):
        other.load(tmp_path)


@pytest.mark.parametrize(
    ("config_class", "settings", "message"),
    [
        (PPOConfig, {"clip_coef": 0.0}, "clip_coef must be finite and above 0"),
        (PPOConfig, {"num_minibatches": 65}, "num_minibatches must be at most the 64 rows"),
        (PPOConfig, {"env_id": "CartPol-v1"}, "CartPole-v1"),
        (A2CConfig, {"optimizer_type": "sgd"}, "optimizer_type"),
        (PPOAdaptiveConfig, {"kl_target": -1.0}, "kl_target"),
        (VanillaPGConfig, {"gamma": 1.5}, "gamma must be in"),
        (PPOConfig, {"advantage_estimator": "td"}, "advantage_estimator must be gae or dae"),
        (PPOConfig, {"dae_epochs": 0}, "dae_epochs must be at least 1"),
        (PPOConfig, DAE | {"dae_minibatches": 5}, "dae_minibatches must be at most num_envs, 4, got 5"),
        (PPOConfig, DAE | {"shared_encoder": True}, "shared_encoder must be false with dae"),
    ],
)
def test_bad_settings_are_named(config_class, settings, message):
    with pytest.raises(SettingError, match=message):
        make_trainer(config_class, **settings)


@pytest.mark.parametrize(
    ("config_class", "env_id"),
    [(config_class, env_id) for config_class in CONFIGS for env_id in config_class.PRESETS],
    ids=str,
)
def test_presets_are_settings_of_their_algorithm(config_class, env_id):
    preset = config_class.preset(env_id)
    config_class(env_id=env_id, **preset).check()
    assert preset["total_steps"] > 0
    preset["num_envs"] = 0  # a copy
    assert config_class.preset(env_id)["num_envs"] > 0


@every
def test_every_algorithm_has_a_preset_and_none_for_what_was_not_measured(config_class):
    assert config_class.preset("CartPole-v1") and config_class.preset("ProofofMemory-v0") == {}


def test_an_environment_without_a_transition_moves_no_network_of_the_fit():
    """Its minibatch has no gradient, but momentum would move the networks."""
    settings = DAE | {"num_envs": 2, "num_steps": 4, "dae_epochs": 1, "dae_minibatches": 2}
    with make_trainer(**settings) as trainer:
        trainer.collect()
        trainer.estimate()
        trainer.learn()
        trainer.collect()
        trainer.estimate()
        segments, steps = trainer._segments(), []
        trainer.learner.dae_optimizer.step = lambda loss, **_: steps.append(loss) or loss.detach()
        trainer.learner.fit_advantages(segments, 0)
        segments.valid[0] = False
        trainer.learner.fit_advantages(segments, 0)
    assert len(steps) == 2 + 1


@every
def test_a_single_gradient_step_is_measured_after_it(config_class):
    with make_trainer(config_class, update_epochs=1, num_minibatches=1, learning_rate=0.01) as trainer:
        trainer.collect()
        trainer.estimate()
        before = trainer.learner.policy(trainer.obs[:-1].flatten(0, 1))
        entropy = trainer.learner.policy.distribution(before).entropy().mean()
        metrics = trainer.learn()
    assert metrics["train/approx_kl"] > 0 and metrics["train/entropy"] != entropy


def test_early_stops_are_counted_on_after_a_checkpoint(tmp_path):
    with make_trainer(PPOAdaptiveConfig) as first, make_trainer(PPOAdaptiveConfig) as second:
        first.learner.early_stops, first.learner.kl_penalty = 3, 0.25
        first.save(tmp_path)
        second.load(tmp_path)
        assert (second.learner.early_stops, second.learner.kl_penalty) == (3, 0.25)


@pytest.mark.parametrize(("env_id", "kept"), [("ProofofMemory-v0", True), ("CartPole-v1", False)])
def test_running_returns_begin_anew_with_new_episodes(env_id, kept, tmp_path):
    """EnvPool's episodes cannot be saved, so that none goes on from a checkpoint."""
    with make_trainer(env_id=env_id, normalize_reward=True, gamma=1.0) as first:
        first.collect()
        first.estimate()
        saved = first.reward_scaler.running_return.clone()
        saved += 1.0 - saved.clamp(max=0)  # above 0, whatever came in
        first.reward_scaler.running_return.copy_(saved)
        first.save(tmp_path)
    with make_trainer(env_id=env_id, normalize_reward=True, gamma=1.0) as second:
        second.load(tmp_path)
        expected = saved if kept else torch.zeros_like(saved)
        assert torch.equal(second.reward_scaler.running_return, expected)
