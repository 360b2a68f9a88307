"""Sequence replay: every window is what a list of rows would have given."""

import pytest
import torch

from fastrl.data.replay import SequenceReplay
from fastrl.errors import SettingError

OBS, ACTION = ((1,), torch.float32), ((2,), torch.float32)
FIELDS = {
    "obs": OBS,
    "action": ACTION,
    "extras": {"raw_actions": ACTION, "behaviour_logp": ((), torch.float32)},
}


def filled(rows, *, capacity=64, num_envs=2, seed=0, done_every=5):
    """Observation, reward and action name environment and row; every `done_every`-th row is an end, and the
    one after it no transition."""
    replay = SequenceReplay(capacity, num_envs, **FIELDS, seed=seed)
    env = torch.arange(num_envs)
    for row in range(rows):
        name = (100 * env + row).float()
        done = ((row + env) % done_every == 0) & (row > 0)
        resets = ((row - 1 + env) % done_every == 0) & (row > 1)
        replay.add(
            obs=name[:, None],
            actions=torch.stack([name, -name], 1),
            raw_actions=torch.stack([2 * name, -2 * name], 1),
            behaviour_logp=-name,
            rewards=10 * name,
            terminated=done & (env == 0),
            truncated=done & (env == 1),
            valid=~resets,
        )
    return replay


@pytest.mark.parametrize("rows", [7, 31, 32, 50, 95])
@pytest.mark.parametrize("seq_len", [1, 3])
def test_windows_are_consecutive_rows_of_one_environment(rows, seq_len):
    replay = filled(rows)
    batch = replay.sample(200, seq_len)
    assert (
        batch.obs.shape == (seq_len + 1, 200, 1)
        and batch.actions.shape == (seq_len, 200, 2)
        and batch.rewards.shape == (seq_len, 200)
    )
    names = batch.obs[..., 0]
    assert torch.equal(
        names[1:] - names[:-1], torch.ones(seq_len, 200)
    )  # the next row's observation is what followed
    assert torch.equal(batch.rewards, 10 * names[:-1]) and torch.equal(
        batch.extras["behaviour_logp"], -names[:-1]
    )
    assert torch.equal(batch.actions[..., 1], -names[:-1]) and torch.equal(
        batch.extras["raw_actions"][..., 0], 2 * names[:-1]
    )
    assert batch.valid[0].all()
    oldest = max(rows - 32, 0)
    assert (names % 100 >= oldest).all() and (names % 100 < rows).all()
    done = ((names[:-1] % 100 + names[:-1] // 100) % 5 == 0) & (names[:-1] % 100 > 0)
    assert torch.equal(batch.terminated | batch.truncated, done)


def test_the_newest_transition_waits_for_the_observation_that_follows():
    replay = filled(1)
    assert len(replay) == 2 and not replay.can_sample(1)
    with pytest.raises(ValueError, match="rows"):
        replay.sample(4, 1)
    assert filled(2).can_sample(1)


def test_a_replay_that_is_saved_goes_on_exactly():
    first, second = filled(50, seed=3), SequenceReplay(64, 2, **FIELDS, seed=9)
    second.load_state_dict(first.state_dict())
    one, other = first.sample(64, 2), second.sample(64, 2)
    assert torch.equal(one.obs, other.obs) and torch.equal(one.rewards, other.rewards)
    assert len(first) == len(second) and first.write_position == second.write_position


def test_a_ring_of_less_than_two_rows_is_refused():
    with pytest.raises(
        SettingError, match="replay_size must hold at least two rows of 8 environments, got 15"
    ):
        SequenceReplay(15, 8, **FIELDS, seed=0)
    assert SequenceReplay.nbytes_of(1000, 8, **FIELDS) > 1000 * 30
