"""Rollouts as batches: what is in them, what transforms see, and going on exactly."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import GymEnv, make_vector_env
from fastrl.errors import NonFiniteError, SettingError
from fastrl.toolkit.batchers import Batch, RolloutBatcher
from fastrl.toolkit.batchers.transforms import (
    Frame2Float,
    ReturnRunScaler,
    RewardClipper,
    RewardConstScaler,
    RewardRunScaler,
    StateRunNorm,
)


def first_action(state, step):
    return torch.zeros(len(state), dtype=torch.int64)


def make_batcher(env="Counter-v0", batch_size=40, **settings):
    return RolloutBatcher(env, batch_size, **{"num_envs": 4, "seed": 1, **settings})


def test_shapes_and_what_follows_what():
    batcher = make_batcher()
    batch = batcher.get_batch(first_action)
    assert batch.state_t_and_tp1.shape == (11, 4, 1) and batch.reward.shape == batch.done.shape == (10, 4)
    assert torch.equal(batch.state_t, batch.state_t_and_tp1[:-1]) and torch.equal(
        batch.state_tp1, batch.state_t_and_tp1[1:]
    )
    assert torch.equal(
        batch.reward[batch.valid], batch.state_t[..., 0][batch.valid]
    )  # the counter's reward is its state
    assert torch.equal(
        batch.state_tp1[..., 0][batch.valid], batch.state_t[..., 0][batch.valid] + 1
    )  # the true last state, too
    assert torch.equal(batch.done, batch.terminated | batch.truncated) and batch.done.any()
    assert (~batch.valid).sum() == batch.done[:-1].sum()  # a row behind each end


def test_rollouts_follow_one_another_and_only_transitions_count():
    batcher = make_batcher()
    first = batcher.get_batch(first_action)
    last = first.state_t_and_tp1[-1].clone()
    steps = int(first.valid.sum())
    assert batcher.num_steps == steps
    second = batcher.get_batch(first_action)
    assert torch.equal(second.state_t_and_tp1[0], last)
    assert batcher.num_steps == steps + int(second.valid.sum())
    episodes = batcher.pop_episodes()
    assert len(episodes) == batcher.num_episodes > 0 and {(e.episode_return, e.length) for e in episodes} == {
        (28.0, 8)
    }
    assert batcher.pop_episodes() == []


def test_a_time_limit_is_a_truncation_and_no_termination():
    batch = make_batcher(GymEnv("CartPole-v1", max_episode_steps=5)).get_batch(first_action)
    assert batch.truncated.any() and not batch.terminated.any() and torch.equal(batch.done, batch.truncated)


def test_nothing_piles_up_from_batch_to_batch():
    batcher = make_batcher()
    keys = {frozenset(batcher.get_batch(first_action)) for _ in range(5)}
    assert len(keys) == 1 and len(batcher.pop_episodes()) == batcher.num_episodes and not batcher._finished
    assert all(isinstance(entry, torch.Tensor) for entry in batcher.get_batch(first_action).values())


@pytest.mark.parametrize(
    "make", [StateRunNorm, RewardRunScaler, lambda: ReturnRunScaler(4)], ids=["states", "rewards", "returns"]
)
def test_statistics_are_part_of_the_state(make):
    first, second = make_batcher(transforms=[make()]), make_batcher(transforms=[make()])
    for _ in range(2):
        first.get_batch(first_action)
    second.load_state_dict(first.state_dict())
    one, other = (batcher.get_batch(first_action) for batcher in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)
    raw = make_batcher().get_batch(first_action)
    assert not torch.equal(one.reward, raw.reward) or not torch.equal(one.state_t, raw.state_t)


def test_flat_rows_are_the_transitions():
    batch = make_batcher().get_batch(first_action)
    flat = batch.concat_batch()
    assert (
        len(flat) == int(batch.valid.sum())
        and flat.state_t.shape[1:] == (1,)
        and "state_t_and_tp1" not in flat
    )
    assert torch.equal(flat.reward, flat.state_t[:, 0])


def test_environments_come_as_ids_as_gym_envs_and_as_they_are():
    own = (
        lambda: gym.make("CartPole-v1"),
        lambda: make_vector_env("CartPole-v1", 4),
        gym.make_vec("CartPole-v1", 4),
    )
    for env in (
        "CartPole-v1",
        GymEnv("CartPole-v1"),
        GymEnv(own[0]),
        make_vector_env("CartPole-v1", 4, seed=1),
        *own,
    ):
        batcher = make_batcher(env)
        assert batcher.get_batch(first_action).state_t.shape == (10, 4, 4)
        assert batcher.get_state_info().shape == (4,) and batcher.get_action_info().space == "discrete"
        batcher.close()
    alone = RolloutBatcher(gym.make("CartPole-v1"), 10)
    assert alone.get_batch(lambda state, step: torch.zeros(1, dtype=torch.int64)).state_t.shape == (10, 1, 4)
    with pytest.raises(
        SettingError,
        match="env must be an id, a factory, a GymEnv, a Gymnasium environment or a VectorEnv, got int",
    ):
        make_batcher(3)
    with pytest.raises(SettingError, match="batch_size must be a multiple of the 4 environments, got 42"):
        make_batcher(batch_size=42)


def test_telling_shapes_touches_no_environment_and_no_statistics():
    batcher = make_batcher("CartPole-v1", transforms=[StateRunNorm()])
    before = batcher._obs.clone()
    batcher.get_state_info()
    assert torch.equal(before, batcher._obs) and batcher.transforms[0].normalizer.count == 0


def test_a_rollout_is_acted_and_learned_on_with_the_same_statistics():
    seen = []

    def act(state, step):
        seen.append(state.clone())
        return first_action(state, step)

    batcher = make_batcher("CartPole-v1", transforms=[StateRunNorm(clip_range=5.0)])
    for _ in range(3):
        seen.clear()
        batch = batcher.get_batch(act)
        torch.testing.assert_close(torch.stack(seen), batch.state_t)
        assert batcher.transforms[0].normalizer.count == batcher.num_steps  # every state counted once
    assert batch.state_t.abs().max() <= 5.0


def test_rewards_are_transformed_and_episodes_stay_raw():
    for transform, expected in (
        (RewardConstScaler(0.5), lambda r: 0.5 * r),
        (RewardClipper(2.0), lambda r: r.clamp(-2, 2)),
    ):
        batcher = make_batcher(transforms=[transform])
        batch = batcher.get_batch(first_action)
        torch.testing.assert_close(batch.reward[batch.valid], expected(batch.state_t[..., 0][batch.valid]))
        assert batcher.pop_episodes()[0].episode_return == 28.0


@pytest.mark.parametrize(
    "make", [RewardRunScaler, lambda: ReturnRunScaler(4, gamma=0.9)], ids=["rewards", "returns"]
)
def test_running_scales_are_those_of_the_rollouts_before(make):
    batcher = make_batcher(transforms=[make()])
    first = batcher.get_batch(first_action).apply_to_all(
        torch.clone
    )  # the next rollout takes the same memory
    torch.testing.assert_close(
        first.reward[first.valid], first.state_t[..., 0][first.valid]
    )  # nothing was counted yet
    second = batcher.get_batch(first_action)
    raw, scaled = second.state_t[..., 0][second.valid], second.reward[second.valid]
    ratio = scaled[raw > 0] / raw[raw > 0]
    assert ratio.std() < 1e-6 and ratio.mean() != 1.0  # one scale for all, kept for the whole rollout
    if isinstance(batcher.transforms[0], RewardRunScaler):
        rewards = first.reward[first.valid]
        assert ratio.mean().item() == pytest.approx(1 / rewards.std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize(
    "make", [RewardRunScaler, lambda: ReturnRunScaler(4, gamma=0.9)], ids=["rewards", "returns"]
)
def test_running_scales_count_rewards_as_they_get_them(make):
    plain, scaled = (
        make_batcher(transforms=[make()]),
        make_batcher(transforms=[RewardConstScaler(0.01), make()]),
    )
    for _ in range(2):
        expected, found = plain.get_batch(first_action), scaled.get_batch(first_action)
    torch.testing.assert_close(found.reward, expected.reward, rtol=1e-3, atol=0.0)


class Once(gym.Env):
    """Its 15th reward is infinite."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), np.inf if self.steps == 15 else 1.0, False, False, {}


def test_a_number_that_is_not_finite_is_named_before_it_is_counted():
    batcher = RolloutBatcher(make_vector_env(Once, 2), 20, transforms=[StateRunNorm(), ReturnRunScaler(2)])
    batcher.get_batch(first_action)
    with pytest.raises(
        NonFiniteError, match="environment 0 of Once .* returned a non-finite reward at step 14"
    ):
        batcher.get_batch(first_action)
    assert batcher.num_steps == 28 and [
        transform.state_dict()["count"] for transform in batcher.transforms[:1]
    ] == [20]


def test_frames_become_numbers():
    assert torch.equal(
        Frame2Float().transform_state(torch.tensor([0, 51, 255], dtype=torch.uint8)),
        torch.tensor([0.0, 0.2, 1.0]),
    )
    assert torch.equal(
        Frame2Float(15).transform_state(torch.tensor([0, 15], dtype=torch.uint8)), torch.tensor([0.0, 1.0])
    )


def test_a_batcher_goes_on_exactly_from_its_state_in_the_middle_of_a_rollout():
    settings = {"transforms": [], "num_envs": 4}
    first, second = make_batcher("ProofofMemory-v0", **settings), make_batcher("ProofofMemory-v0", **settings)
    first.get_batch(first_action)
    steps = iter(range(100))
    assert first.fill(first_action, lambda: next(steps) == 3) is False  # of ten
    second.load_state_dict(first.state_dict())
    one, other = (batcher.get_batch(first_action) for batcher in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.num_steps == second.num_steps


def test_batches_are_mappings_with_attributes():
    batch = Batch(state_t=torch.arange(6.0), reward=torch.ones(6), note="kept")
    assert (
        batch.apply_to_all(lambda x: x + 1).reward.tolist() == [2.0] * 6
        and batch.apply_to_all(lambda x: x + 1).note == "kept"
    )
    assert batch.apply_to_keys(lambda x: x * 0, ["reward"]).reward.sum() == 0 and batch.reward.sum() == 6
    chunks = list(batch.sample_keys(["reward"], 2, shuffle=False))
    assert [chunk.idxs.tolist() for chunk in chunks] == [[0, 1, 2], [3, 4, 5]] and "state_t" not in chunks[0]


@pytest.mark.parametrize("batch_size", [10**12, 10**30])
def test_a_batch_beyond_the_machine_is_refused(batch_size):
    with pytest.raises(SettingError, match="batch_size too large: rollout .* of memory on cpu"):
        RolloutBatcher("Identity-v0", batch_size)
