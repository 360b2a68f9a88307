"""Training: it learns, a run that goes on equals one that was not stopped, evaluation leaves no trace."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from learners import modules_of, play, values_of
from test_run_folders import assert_same_run, train

from fastrl.runs.checkpoint import load_checkpoint
from fastrl.trainers.registry import find_algorithm

Make = Callable[..., Any]
ENVIRONMENTS = ("Identity-v0", "IdentityContinuous-v0")

# what makes each algorithm quick on a task of one step; gamma 0, since its actions decide nothing later
OF_GRADIENTS = {"learning_rate": 1e-2, "num_steps": 16, "total_steps": 8_000, "layer_sizes": (32,)}
LEARNING: dict[str, dict[str, Any]] = {
    "vmpo": {
        **{"num_steps": 32, "m_steps": 8, "policy_lr": 1e-2, "alpha_lr": 1e-2, "epsilon_mu": 0.1},
        **{"total_steps": 6_000, "policy_layer_sizes": (32,), "value_layer_sizes": (32,)},
    },
    "mpo": {
        **{"policy_layer_sizes": (32, 32), "critic_layer_sizes": (32, 32), "policy_lr": 1e-3, "q_lr": 3e-3},
        # narrow enough that raw actions are seldom clipped, wide enough to tell actions apart
        **{"log_std_init": math.log(0.2), "mstep_kl_epsilon": 0.05, "mstep_kl_epsilon_std": 1e-5},
        **{"init_log_alpha_stddev": 100.0, "lambda_lr": 3e-2, "temperature_init": 0.3, "action_samples": 20},
        **{"temperature_lr": 1e-3, "target_networks_update_period": 50, "samples_per_insert": 32.0},
        **{"update_after": 500, "batch_size": 64, "replay_size": 10_000, "total_steps": 4_000},
        **{"use_retrace": True, "retrace_steps": 4},
    },
    "sac": {
        **{"policy_layer_sizes": (32, 32), "critic_layer_sizes": (32, 32), "policy_lr": 3e-3, "q_lr": 3e-3},
        **{"temperature_init": 0.1, "update_after": 200, "batch_size": 64, "replay_size": 10_000},
        **{"total_steps": 1_600, "samples_per_insert": 64.0},
    },
    "ppo-trxl": {
        **{"learning_rate": 1e-2, "final_learning_rate": 1e-3, "trxl_dim": 16, "trxl_memory_length": 2},
        **{"update_epochs": 4, "num_minibatches": 4, "total_steps": 8_000},
    },
}


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_it_learns_the_identity(algorithm: str, env_id: str, trainer_of: Make, tmp_path: Path) -> None:
    if env_id == "Identity-v0" and find_algorithm(algorithm).config_class().CONTINUOUS_ONLY:
        pytest.skip(f"{algorithm} takes continuous actions")
    settings = {"num_envs": 8, "gamma": 0.0, **LEARNING.get(algorithm, OF_GRADIENTS)}
    with trainer_of(algorithm, env_id=env_id, **settings) as trainer:
        before = trainer.evaluate(16)["eval/return_mean"]
        train(trainer, tmp_path, settings["total_steps"])
        after = trainer.evaluate(16)["eval/return_mean"]
        optimum = trainer.env.optimal_return
    assert after > before and after >= optimum - 0.1 * abs(optimum - before)


@pytest.mark.parametrize("env_id", ["LinearQuadratic-v0", "ProofofMemory-v0"])
def test_two_halves_with_a_checkpoint_between_are_one_run(
    algorithm: str, env_id: str, trainer_of: Make, tmp_path: Path
) -> None:
    """Bit for bit, in environments that can be saved: what was learned, the logs, generators and counters."""
    config_class = find_algorithm(algorithm).config_class()
    if env_id == "ProofofMemory-v0" and config_class.CONTINUOUS_ONLY:
        pytest.skip(f"{algorithm} takes continuous actions")
    changes: dict[str, Any] = {"env_id": env_id, "total_steps": 256}
    changes |= {"save_replay": True, "log_interval": 64} if hasattr(config_class, "save_replay") else {}
    with trainer_of(algorithm, **changes) as whole:
        train(whole, tmp_path / "whole", 256)
    with trainer_of(algorithm, **changes) as first:
        train(first, tmp_path / "halves", 128)
    with trainer_of(algorithm, **changes) as second:
        second.load(tmp_path / "halves")
        assert second.env_steps == first.env_steps < 256
        train(second, tmp_path / "halves", 256)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")
    ends = [(one.env_steps, one.updates, one.episodes, list(one.recent)) for one in (whole, second)]
    assert ends[0] == ends[1]
    assert torch.equal(*(one.state_dict()["rng"]["torch"] for one in (whole, second)))


def test_another_seed_learns_something_else(algorithm: str, trainer_of: Make) -> None:
    ends = []
    for seed in (5, 6):
        with trainer_of(algorithm, seed=seed) as trainer:
            play(trainer, 2)
            ends.append(values_of(modules_of(trainer)))
    assert any(not torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_evaluation_leaves_no_trace_and_repeats_itself(algorithm: str, trainer_of: Make) -> None:
    normalizes = hasattr(find_algorithm(algorithm).config_class(), "normalize_observation")
    changes = {"normalize_observation": True} if normalizes else {}
    ends, results = [], []
    for evaluations in (0, 2):
        with trainer_of(algorithm, **changes) as trainer:
            play(trainer, 1.5)
            results = [trainer.evaluate(3, seed=11) for _ in range(evaluations)]
            play(trainer, 2)
            ends.append(values_of(modules_of(trainer)) | {"rng": trainer.state_dict()["rng"]["torch"]})
            steps = trainer.env_steps, trainer.updates, trainer.episodes
        ends[-1]["counters"] = torch.tensor(steps)
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert results[0] == results[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_with_a_checkpoint_from_which_it_goes_on(
    algorithm: str, number: signal.Signals, trainer_of: Make, tmp_path: Path
) -> None:
    handlers = signal.getsignal(number)
    with trainer_of(algorithm) as trainer:
        estimate, left = trainer.estimate, iter(range(2))

        def estimate_and_signal() -> None:
            estimate()
            if next(left, None) is None:
                signal.raise_signal(number)

        trainer.estimate = estimate_and_signal
        train(trainer, tmp_path / "run", 500)
        assert trainer.interrupted == number.name and 0 < trainer.env_steps < 500
        saved = load_checkpoint(tmp_path / "run" / "checkpoints")
        assert (saved["env_steps"], saved["updates"]) == (trainer.env_steps, trainer.updates)
        assert signal.getsignal(number) == handlers
        trainer.estimate = estimate
        train(trainer, tmp_path / "run", trainer.env_steps + 64)
        assert trainer.interrupted is None and trainer.env_steps >= saved["env_steps"] + 64


def test_a_configuration_goes_into_a_file_and_back(algorithm: str, config_of: Callable[..., Any]) -> None:
    config_class = find_algorithm(algorithm).config_class()
    ids = ("CartPole-v1", "Pendulum-v1", "HalfCheetah-v5", "Identity-v0")
    presets = [config_class(env_id=env_id, **config_class.preset(env_id)) for env_id in ids]
    small = config_of(algorithm, env_kwargs={"size": 3, "parts": [1, 2.5, "x"]}, obs_keys=("a", "b"))
    for config in (small, config_class.documented(env_id="Identity-v0"), *presets):
        config.check()
        text = config.to_toml(algorithm)
        again = config_class.from_toml(text)
        assert again == config and again.to_toml(algorithm) == text
        assert all(type(value) is type(getattr(config, name)) for name, value in again.to_dict().items())
