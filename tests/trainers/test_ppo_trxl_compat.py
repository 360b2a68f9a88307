"""The documented helpers of PPO-TrXL: tables, single environments to step by hand, selection."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from trxl_cases import CPU, Unlimited, make_trainer

from fastrl.envs.single import SingleEnv
from fastrl.errors import SettingError
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer, batched_index_select


def test_the_longest_episode_of_a_gymnasium_environment():
    with make_trainer(
        max_episode_steps=None,
        env_kwargs={"length": 9},
        trxl_memory_length=0,
        endless=True,
        trxl_positional_encoding="none",
    ) as trainer:
        assert trainer._resolve_max_episode_steps(gym.make("CartPole-v1")) == 500
        with pytest.raises(SettingError, match="max_episode_steps must be given"):
            trainer._resolve_max_episode_steps(Unlimited())
        env = Unlimited()
        env.max_steps = 77
        assert trainer._resolve_max_episode_steps(env) == 77


@pytest.mark.parametrize("env_id", ["Counter-v0", lambda length: SingleEnv("Counter-v0", length=length)])
@pytest.mark.parametrize("length", [7, 30])
def test_environments_for_evaluating_by_hand_are_those_of_training(env_id, length):
    with make_trainer(env_id, env_kwargs={"length": length}, max_episode_steps=9) as trainer:
        env = trainer._get_eval_env(5)
        ends = [any(env.step(0)[2:4]) for _ in range(min(length, 9))]
    assert ends.index(True) == len(ends) - 1


def test_the_evaluation_environment_is_made_once_and_kept():
    with make_trainer("CartPole-v1", max_episode_steps=None, trxl_memory_length=4) as trainer:
        env = trainer._get_eval_env(5)
        assert trainer._get_eval_env(6) is env
        first, _ = trainer._make_env(seed=5, env_index=1, record_video=True).reset(seed=6)
        second, _ = env.reset(seed=6)
        assert np.array_equal(first, second)
        trainer._close_env(None)


def test_closing_hides_no_error():
    class Broken(Unlimited):
        def close(self):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        PPOTrXLTrainer._close_env(Broken())


def test_the_tables_for_a_window_of_four():
    mask, indices = PPOTrXLTrainer._build_memory_helpers(memory_length=4, max_episode_steps=7, device=CPU)
    assert mask.int().tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert indices.tolist() == [[0, 1, 2, 3]] * 5 + [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert mask.dtype == torch.bool and indices.dtype == torch.int64


def test_every_sample_selects_for_itself():
    tensor = torch.arange(24.0).view(2, 4, 3)
    index = torch.tensor([[3, 0], [1, 1]])
    expected = torch.stack([tensor[0][[3, 0]], tensor[1][[1, 1]]])
    assert torch.equal(batched_index_select(tensor, 1, index), expected)


def test_an_evaluation_records_an_episode_of_an_environment_like_those_of_training(monkeypatch, tmp_path):
    """Without moviepy, which writes the file."""
    recorded = []
    monkeypatch.setattr("fastrl.trainers.ppo_trxl.trainer.require_video", lambda env_id: None)
    monkeypatch.setattr(
        "fastrl.trainers.ppo_trxl.compat.record_episode", lambda *what, **how: recorded.append((*what, how))
    )
    with make_trainer("CartPole-v1", max_episode_steps=5, capture_video=True, run_name="cart") as trainer:
        trainer.evaluate(1, seed=7)
        assert not recorded  # there is no folder yet
        trainer.run_folder = tmp_path
        trainer.evaluate(1, seed=7)
    ((actor, env_id, how),) = recorded
    options = {"max_episode_steps": 5, "env_kwargs": {}, "obs_keys": None}
    assert actor.num_envs == 1 and env_id == "CartPole-v1"
    assert how == {"seed": 7, "folder": tmp_path / "videos", "name": "cart-0", "options": options}
