"""V-MPO training end to end on environments with known answers: the loop's promises rather than its
internals."""

import csv
import hashlib
import signal

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.errors import SettingError
from fastrl.trainers.vmpo.agent import VMPOAgent
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.trainer import VMPOTrainer, _evaluate_vectorized

CPU = torch.device("cpu")


def make_trainer(env_id="ProofofMemory-v0", **settings):
    settings = {
        "seed": 3,
        "policy_layer_sizes": (16,),
        "value_layer_sizes": (16,),
        "rollout_steps": 16,
        "num_envs": 4,
        "threads": 1,
    } | settings
    return VMPOTrainer(env_id, device=CPU, **settings)


def weights_hash(trainer):
    digest = hashlib.sha256()
    for name, value in sorted(trainer.learner.policy.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def rows_of(path):
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def test_two_halves_with_a_checkpoint_between_equal_one_run(tmp_path):
    """Bit for bit: weights, optimisers, statistics, random generators and the logged rows."""
    settings = {"m_steps": 2, "target_update_period": 2}
    with make_trainer(**settings) as whole:
        whole.train(800, str(tmp_path / "whole"))
    with make_trainer(**settings) as first:
        first.train(400, str(tmp_path / "halves"))
    with make_trainer(**settings) as second:
        second.load(tmp_path / "halves")
        assert second.env_steps == first.env_steps
        second.train(800, str(tmp_path / "halves"))
    assert weights_hash(second) == weights_hash(whole)
    assert (second.env_steps, second.updates, second.episodes) == (
        whole.env_steps,
        whole.updates,
        whole.episodes,
    )
    assert rows_of(tmp_path / "halves" / "metrics.csv") == rows_of(tmp_path / "whole" / "metrics.csv")


def test_a_rewards_of_1e9_on_reset_rows_changes_nothing(tmp_path):
    hashes = []
    for reward in (0.0, 1e9):
        with make_trainer("Counter-v0", env_kwargs={"reset_reward": reward}, m_steps=2) as trainer:
            trainer.train(400, str(tmp_path / str(reward)))
            hashes.append(weights_hash(trainer))
            assert trainer.evaluate(4)["eval/return_max"] < 1e6
    assert hashes[0] == hashes[1]


def test_valid_transitions_are_counted_and_reset_rows_are_not(tmp_path):
    with make_trainer("Counter-v0") as trainer:
        trainer.train(200, str(tmp_path))
        rows = trainer.updates * trainer.config.num_steps * trainer.env.num_envs
        assert trainer.env_steps < rows
        assert trainer.env_steps == rows - trainer.episodes + int(
            (trainer.rollout.terminated | trainer.rollout.truncated)[-1].sum()
        )


@pytest.mark.parametrize("env_id", ["ProofofMemory-v0", "IdentityContinuous-v0"])
def test_the_policy_that_learns_from_a_rollout_is_the_one_that_acted(env_id):
    """KL(π_old ‖ π) = 0 before the first step of every update: neither parameters nor statistics moved in
    between."""
    with make_trainer(env_id, m_steps=2, policy_lr=1e-2) as trainer:
        for _ in range(4):
            trainer.collect()
            trainer.estimate()
            with torch.no_grad():
                now = trainer.learner.policy.distribution(trainer.rows.obs)
                assert max(kl.abs().max().item() for kl in trainer.rows.acted.kl_parts(now)) < 1e-10
            trainer.learn()
        assert (
            trainer.learner.policy.obs_normalizer.statistics()[2] == trainer.env_steps
        )  # every observation counted once


def test_an_evaluation_that_a_signal_cut_off_is_made_up_for_on_resume(tmp_path, monkeypatch):
    """eval.csv of an interrupted and resumed run equals that of a run left alone, and nothing is evaluated
    twice."""
    often = {"eval_interval": 200, "eval_episodes": 4}
    with make_trainer(**often) as whole:
        whole.train(800, str(tmp_path / "whole"))
    with make_trainer(**often) as first:
        evaluate, seen = first.evaluate, []

        def cut_off_the_second(*arguments, **settings):
            seen.append(first.env_steps)
            if len(seen) == 2:
                signal.raise_signal(signal.SIGTERM)
            return evaluate(*arguments, **settings)

        monkeypatch.setattr(first, "evaluate", cut_off_the_second)
        first.train(800, str(tmp_path / "halves"))
        assert first.interrupted == "SIGTERM" and len(seen) == 2
    with make_trainer(**often) as second:
        second.load(tmp_path / "halves")
        second.train(800, str(tmp_path / "halves"))
    rows = rows_of(tmp_path / "halves" / "eval.csv")
    assert rows == rows_of(tmp_path / "whole" / "eval.csv")
    assert len({row["env_steps"] for row in rows}) == len(rows) >= 4


def test_a_run_ends_at_the_wanted_return(tmp_path):
    with make_trainer("Counter-v0", eval_interval=100, stop_at_return=1.0) as trainer:
        trainer.train(10_000, str(tmp_path))
        assert 100 <= trainer.env_steps < 300


def test_the_configuration_reaches_the_learner_as_it_is():
    config = VMPOConfig(env_id="Identity-v0", num_envs=3, num_steps=5, m_steps=7, epsilon_mu=0.3)
    with VMPOTrainer.from_config(config) as trainer:
        assert trainer.config == config and trainer.learner.config is trainer.config
        assert trainer.rollout.rewards.shape == (5, 3)
        assert trainer.learner.alphas["mean"].bound == 0.3


def test_the_documented_constructor_makes_the_documented_configuration():
    with VMPOTrainer("IdentityContinuous-v0", 1, CPU, (8,), (8,), 4, dae_lambda=0.9) as trainer:
        sizes = {"policy_layer_sizes": (8,), "value_layer_sizes": (8,), "num_steps": 4}
        assert trainer.config == VMPOConfig.documented(
            env_id="IdentityContinuous-v0", seed=1, **sizes, dae_lambda=0.9
        )


def test_one_training_environment_for_loops_of_ones_own():
    with make_trainer() as trainer:
        env = trainer._make_train_env(env_id="CartPole-v1", seed=1, env_index=2, gamma=0.9)
        obs, _ = env.reset()
        assert obs.shape == (4,)
        env.close()


def test_a_factory_of_vector_environments_is_evaluated_with_as_many(tmp_path):
    with make_trainer(lambda: gym.make_vec("CartPole-v1", num_envs=4)) as trainer:
        trainer.train(100, str(tmp_path))
        assert trainer.evaluate(6)["eval/length_mean"] > 5
    assert (tmp_path / "checkpoints" / "LATEST").exists()


def test_vectorised_evaluation_plays_in_the_units_of_training():
    with make_trainer("LinearQuadratic-v0") as trainer:
        with torch.no_grad():
            trainer.learner.policy.policy_mean.bias[0] = 0.4
        agent = VMPOAgent(trainer.learner.obs_dim, 1, CPU, (16,), (16,))
        agent.learner.policy = agent.learner.acting_policy = trainer.learner.policy
        found = _evaluate_vectorized(agent, ToyVectorGym("LinearQuadratic-v0", 3), seed=7)
        assert found == trainer.evaluate(3, seed=7)
        assert found["eval/return_mean"] < -10  # a constant push of 0.8 in the environment's own units


def test_a_run_made_in_python_is_a_run_folder_for_the_command_line(tmp_path):
    with make_trainer("CartPole-v1", m_steps=3, gamma=0.9) as trainer:
        trainer.train(100, str(tmp_path), updates_per_step=2)
    config = VMPOConfig.from_toml((tmp_path / "config.toml").read_text())
    assert (config.total_steps, config.updates_per_step) == (100, 2)
    assert (config.env_id, config.m_steps, config.gamma, config.num_steps, config.eval_interval) == (
        "CartPole-v1",
        3,
        0.9,
        16,
        0,
    )
    with VMPOTrainer.from_config(config) as again:
        again.load(tmp_path)
        assert again.env_steps >= 100
        again.train(150, str(tmp_path))
        assert again.config.updates_per_step == 2  # the configuration's


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollout_steps": 0}, "num_steps"),
        ({"rollout_steps": 10**10}, "num_envs or num_steps too large"),
        ({"advantage_estimator": "dea"}, "advantage_estimator must be returns or gae or dae, got 'dea'"),
        ({"dae_minibatches": 0}, "dae_minibatches"),
        ({"clip_reward": -1.0}, "clip_reward"),
        ({"rollout_step": 8}, "rollout_step is no setting"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        make_trainer(**settings)


def test_bad_arguments_of_train_and_evaluate_are_named(tmp_path):
    with make_trainer() as trainer:
        with pytest.raises(SettingError, match="total_steps"):
            trainer.train(0, str(tmp_path))
        with pytest.raises(SettingError, match="updates_per_step"):
            trainer.train(10, str(tmp_path), updates_per_step=0)
        with pytest.raises(ValueError, match="n_episodes"):
            trainer.evaluate(0)


def test_metrics_are_finite_numbers(tmp_path):
    with make_trainer() as trainer:
        trainer.train(300, str(tmp_path))
    rows = rows_of(tmp_path / "metrics.csv")
    assert rows and all(
        np.isfinite(float(value)) for row in rows for value in row.values() if value not in ("", None)
    )
    assert {
        *("loss/total", "loss/policy", "loss/value", "loss/kl", "loss/alpha", "loss/dual"),
        *("train/entropy", "train/approx_kl", "train/explained_variance", "grad/policy_norm"),
        *("kl/mean", "vmpo/kl_mean_rel", "vmpo/alpha_mean", "vmpo/temperature", "rollout/ep_return_mean"),
    } <= set(rows[-1])


def test_kl_in_nats_is_the_sum_of_its_parts():
    with make_trainer("IdentityContinuous-v0", m_steps=3, policy_lr=1e-2) as trainer:
        trainer.collect()
        trainer.estimate()
        metrics = trainer.learn()
        assert metrics["train/approx_kl"] == metrics["kl/mean"] + metrics["kl/std"] > 0


def test_the_bound_acts_from_the_second_update_on_a_rollout_on():
    """The first one starts at the policy that acted, where the KL is 0; the others do not."""
    for updates, moved in ((1, False), (2, True)):
        settings = {"updates_per_step": updates, "m_steps": 1, "target_update_period": 1}
        with make_trainer("IdentityContinuous-v0", **settings) as trainer:
            with trainer.session():
                trainer.collect()
                trainer.estimate()
                metrics = trainer.learn()
            assert all((metrics[name].item() > 0) == moved for name in ("kl/mean", "kl/std"))
            assert trainer.updates == updates


@pytest.mark.parametrize("go_on", [True, False])
def test_discounted_returns_begin_again_where_episodes_do(go_on):
    with make_trainer("LinearQuadratic-v0", normalize_reward=True, rollout_steps=5) as trainer:
        with trainer.session():
            trainer.collect()
            trainer.estimate()
        state, scaler = trainer.trainer_state(), trainer.reward_scaler
        before = {name: value.clone() for name, value in scaler.state_dict().items()}
        trainer.load_trainer_state(state, environments_continue=go_on)
        after = scaler.state_dict()
    assert before["running_return"].any() and after["running_return"].any() == go_on
    assert all(torch.equal(after[name], before[name]) for name in before if name != "running_return")
