"""PPO-TrXL end to end: what is learned from, what is kept, and what is annealed."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from trxl_cases import SETTINGS, AllAtOnce, Unlimited, counters, make_trainer, one_round, weights_hash

from fastrl.data.memory_bank import BankReader
from fastrl.envs.single import SingleEnv
from fastrl.errors import SettingError
from fastrl.machine import in_words
from fastrl.runs.seeding import derived_seed


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    for end, bootstraps in (("truncated", True), ("terminated", False)):
        with make_trainer(env_kwargs={"length": 3, "end": end}, gae_lambda=1.0, num_minibatches=1) as trainer:
            trainer.collect()
            trainer.estimate()
            values = trainer.rollout.extras["values"]
            # the counter's rewards are 0, 1, 2; row 3 shows the last observation
            expected = 0.9 * 1 + 0.81 * 2 + (0.9**3 * values[3, 0] if bootstraps else 0.0)
            torch.testing.assert_close(
                trainer.rows.returns[0], expected if bootstraps else torch.tensor(expected)
            )


def test_rows_that_are_no_transition_are_in_no_loss_and_no_memory():
    with make_trainer(counters([3, 3, 3, 3])) as trainer:
        for _ in range(2):
            trainer.collect()
            trainer.estimate()
        rows, bank = trainer.rows, trainer.bank
        assert (
            len(rows) == int(trainer.rollout.valid.sum()) == 4 * 12
        )  # every fourth row shows a last observation
        assert (rows.obs < 3).all()  # and a last observation reads 3
        before = float(
            trainer.learner.loss(rows, BankReader(trainer.learner.agent.transformer, bank), None, 0.01)[0]
        )
        window = bank.window(rows.env, rows.slot, rows.position)
        visible = torch.zeros(bank.positions.shape, dtype=torch.bool)
        for env, index, mask in zip(window.episode, window.index, window.mask, strict=True):
            visible[env, index[mask]] = True
        assert (bank.positions[visible] < 3).all()
        bank.tokens[:, ~visible] = 1e9  # everything else may be anything
        after = float(
            trainer.learner.loss(rows, BankReader(trainer.learner.agent.transformer, bank), None, 0.01)[0]
        )
        assert before == after


def test_minibatches_of_environments_cover_every_row_once_and_give_the_same_loss():
    with make_trainer(counters([3, 30, 5, 8]), minibatches="environments") as trainer:
        trainer.collect()
        trainer.estimate()
        reader = BankReader(trainer.learner.agent.transformer, trainer.bank)
        seen = []
        for index, envs in trainer.learner._minibatches(trainer.rows, trainer.bank):
            rows = trainer.rows.at(index)
            assert set(rows.env.tolist()) <= set(envs.tolist())
            by_some, by_all = (trainer.learner.loss(rows, reader, chosen, 0.01)[0] for chosen in (envs, None))
            torch.testing.assert_close(by_some, by_all)
            seen += index.tolist()
        assert sorted(seen) == list(range(len(trainer.rows)))


def test_an_update_from_learned_positions_moves_them():
    with make_trainer("ProofofMemory-v0", trxl_positional_encoding="learned") as trainer:
        before = trainer.learner.agent.transformer.position_table.detach().clone()
        one_round(trainer)
        assert not torch.equal(before, trainer.learner.agent.transformer.position_table)


@pytest.mark.parametrize(
    "settings", [{}, {"minibatches": "environments", "seed": 1}, {"memory_refresh": "rollout"}], ids=str
)
def test_it_learns_what_no_memoryless_policy_can(settings, tmp_path):
    """ProofofMemory: optimum 1.2, −0.28 without memory."""
    chosen = {
        "num_envs": 16,
        "num_steps": 64,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_dim": 32,
        "trxl_memory_length": 16,
    }
    with make_trainer(
        "ProofofMemory-v0",
        **SETTINGS | chosen | {"gamma": 0.99, "gae_lambda": 0.95, "trxl_num_heads": 1} | settings,
    ) as trainer:
        trainer.train(total_steps=25_000, out_dir=str(tmp_path))
        assert trainer.evaluate(64)["eval/return_mean"] > 1.0


class Choices(gym.Env):
    """Takes the actions of one space, and nothing else."""

    observation_space = gym.spaces.Box(-1, 1, (2,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 5, False, {}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3, start=2),
        gym.spaces.MultiDiscrete([3]),
        gym.spaces.MultiDiscrete([3, 2]),
        gym.spaces.MultiBinary(1),
        gym.spaces.Box(0, 3, (1,), np.int32),
        gym.spaces.Box(-1, 1, (1,)),
        gym.spaces.Box(-1, 1, ()),
    ],
    ids=str,
)
def test_every_action_space_gets_actions_of_its_own_shape(space):
    """One branch is not always one choice without an axis."""
    with make_trainer(lambda: Choices(space), max_episode_steps=5) as trainer:
        one_round(trainer)
        assert trainer.evaluate(2)["eval/length_mean"] == 5


def test_continuous_actions_have_one_ratio(tmp_path):
    chosen = {
        "num_envs": 16,
        "num_steps": 32,
        "update_epochs": 10,
        "init_lr": 3e-3,
        "gamma": 0.0,
        "trxl_memory_length": 2,
    }
    with make_trainer("IdentityContinuous-v0", **chosen) as trainer:
        before = trainer.evaluate(16)["eval/return_mean"]
        trainer.train(total_steps=20_000, out_dir=str(tmp_path))
        assert trainer.rollout.extras["log_probs"].shape == (32, 16, 1)
        assert trainer.evaluate(16)["eval/return_mean"] > 0.2 * before


@pytest.mark.parametrize("encoding", ["absolute", "learned", "relative", "none"])
def test_refreshing_the_memory_of_no_layers(encoding):
    with make_trainer(
        trxl_num_layers=0, memory_refresh="rollout", trxl_positional_encoding=encoding
    ) as trainer:
        one_round(trainer)
        one_round(trainer)
        assert trainer.updates == 2 and all(
            bool(torch.isfinite(p).all()) for p in trainer.learner.agent.parameters()
        )


def test_everything_large_is_counted_before_it_is_taken():
    """Rollout, bank (for refreshed memory with observations), ring."""
    with make_trainer(
        memory_refresh="rollout", trxl_positional_encoding="relative", normalize_observation=True
    ) as trainer:
        ring = 2 * 2 * (4 * 4 + 1) * 8 * 4  # keys and values: L (N W + 1) D numbers
        parts = {
            "memory bank": trainer.bank.nbytes,
            "acting": ring,
        }
        for name, size in parts.items():
            assert f"{name} {in_words(size)}" in trainer.describe()


def test_minigrid_and_a_policy_without_memory():
    with make_trainer(
        "MiniGrid-MemoryS7-v0", env_kwargs={"crop": 3}, trxl_memory_length=0, trxl_num_layers=1
    ) as trainer:
        assert trainer.env.obs_shape == (3, 3, 3)
        one_round(trainer)


@pytest.mark.parametrize("variant", [{}, {"trxl_num_heads": 1}, {"memory_refresh": "rollout"}], ids=str)
def test_two_halves_with_a_checkpoint_between_equal_one_run(variant, tmp_path):
    with make_trainer("ProofofMemory-v0", **variant) as whole:
        whole.train(total_steps=400, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "whole"))
    with make_trainer("ProofofMemory-v0", **variant) as first:
        first.train(total_steps=200, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "halves"))
    with make_trainer("ProofofMemory-v0", **variant) as second:
        second.load(tmp_path / "halves")
        second.train(total_steps=400, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "halves"))
    assert (tmp_path / "whole" / "eval.csv").read_text().count("\n") > 2
    assert weights_hash(second) == weights_hash(whole)
    assert (second.env_steps, second.updates, second.episodes) == (
        whole.env_steps,
        whole.updates,
        whole.episodes,
    )


@pytest.mark.parametrize("num_envs", [1, 4])
def test_a_half_collected_rollout_goes_on_where_it_stopped_bit_for_bit(num_envs, tmp_path, monkeypatch):
    """Also with one environment, where a product over one slot and one over all slots are rounded
    differently."""
    sizes = {"num_envs": num_envs, "trxl_dim": 64, "trxl_num_heads": 4, "trxl_memory_length": 8}
    with make_trainer("ProofofMemory-v0", **sizes) as whole:
        one_round(whole)
        one_round(whole)
    with make_trainer("ProofofMemory-v0", **sizes) as first:
        one_round(first)
        stop = iter([False] * 7 + [True])
        monkeypatch.setattr(first, "stop_requested", lambda: next(stop))
        with first.session():
            assert not first.collect() and first.rollout.position == 7
        first.save(tmp_path)
    with make_trainer("ProofofMemory-v0", **sizes) as second:
        second.load(tmp_path)
        one_round(second)
    assert weights_hash(second) == weights_hash(whole)


def test_evaluations_of_a_run_have_the_run_s_own_seed(tmp_path, monkeypatch):
    """And not one seed for all runs, which is that of training itself in the run with this seed."""
    with make_trainer("ProofofMemory-v0", seed=42) as trainer:
        seeds, make_env = [], trainer.make_env
        monkeypatch.setattr(
            trainer, "make_env", lambda number, seed: seeds.append(seed) or make_env(number, seed)
        )
        trainer.train(total_steps=64, out_dir=str(tmp_path))
        trainer.evaluate(2)
        trainer.evaluate(2, seed=5)
    assert seeds == [derived_seed(42, "evaluation"), 42, 5]


def test_learning_rate_and_entropy_go_from_init_to_final():
    with make_trainer(anneal_steps=100) as trainer:
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-3) and metrics[
            "train/ent_coef"
        ] == pytest.approx(0.01)
        steps = trainer.env_steps
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-3 - 9e-4 * steps / 100)
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-4) and metrics["train/ent_coef"] == 0


def test_target_kl_ends_an_update_early():
    with make_trainer("ProofofMemory-v0", target_kl=1e-9, update_epochs=5) as trainer:
        assert one_round(trainer)["train/epochs"] == 1


def test_an_episode_longer_than_the_positions_stops_the_run():
    with make_trainer(counters([30, 30, 30, 30])) as trainer:
        trainer.learner.agent.transformer.max_episode_steps = 10
        trainer.acting.memory.clock.limit = 10
        with pytest.raises(SettingError, match="max_episode_steps is 10"):
            trainer.collect()


class ToldLate(Unlimited):
    """Knows its limit from its first reset on."""

    def reset(self, *, seed=None, options=None):
        self.max_episode_steps = 7
        return super().reset(seed=seed)


def test_a_limit_that_is_told_after_a_reset_counts():
    with make_trainer(ToldLate) as trainer:
        assert trainer.max_episode_steps == 7


def test_the_limit_of_a_vector_environment_that_tells_none_may_be_given():
    def factory():
        return AllAtOnce([lambda: SingleEnv("Counter-v0", length=5)] * 4)

    with make_trainer(factory, max_episode_steps=6) as trainer:
        assert trainer.max_episode_steps == 6
        one_round(trainer)
        assert trainer.evaluate(4)["eval/length_mean"] == 5
    with pytest.raises(SettingError, match="max_episode_steps must be given"):
        make_trainer(factory)
    with (
        make_trainer(factory, max_episode_steps=4) as trainer,
        pytest.raises(SettingError, match="max_episode_steps is 4, but environment"),
    ):
        trainer.collect()
    with pytest.raises(
        SettingError, match="max_episode_steps is 30, but Counter-v0 is already made, with a limit of 40"
    ):
        make_trainer(counters([3, 4, 5, 6]), max_episode_steps=30)


def test_an_episode_is_recorded_after_an_evaluation(tmp_path):
    pytest.importorskip("moviepy", reason="capture_video needs moviepy: pip install 'fastrl[video]'")
    pytest.importorskip("pygame", reason="CartPole is drawn by pygame: pip install 'fastrl[video]'")
    with make_trainer("CartPole-v1", max_episode_steps=20, capture_video=True, run_name="cart") as trainer:
        trainer.train(total_steps=64, eval_interval=0, save_interval=0, out_dir=str(tmp_path))
    videos = list((tmp_path / "videos").glob("cart-*.mp4"))
    assert len(videos) == 1 and videos[0].stat().st_size > 500


def test_a_rollout_without_a_transition_teaches_nothing():
    with make_trainer() as trainer, trainer.session():
        trainer.collect()
        trainer.rollout.valid[:] = False
        before = weights_hash(trainer)
        trainer.estimate()
        assert trainer.learn() == {} and trainer.updates == 0
        assert weights_hash(trainer) == before


@pytest.mark.parametrize(("env_id", "kept"), [("ProofofMemory-v0", True), ("CartPole-v1", False)])
def test_running_returns_begin_anew_with_new_episodes(env_id, kept, tmp_path):
    """EnvPool's episodes cannot be saved, so that none goes on from a checkpoint."""
    with make_trainer(env_id, normalize_reward=True) as first:
        first.reward_scaler.running_return += 1.0
        first.save(tmp_path)
    with make_trainer(env_id, normalize_reward=True) as second:
        second.load(tmp_path)
        assert bool((second.reward_scaler.running_return == float(kept)).all())
