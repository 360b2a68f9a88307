"""The on-policy store: time-major, bootstrap row, valid rows, state."""

import pytest
import torch

from fastrl.data.rollout import Rollout

FLOAT = torch.float32


def filled(steps=4, envs=2):
    rollout = Rollout(
        steps, envs, obs=((3,), FLOAT), action=((), torch.int64), extras={"logits": ((5,), FLOAT)}
    )
    obs = torch.zeros(envs, 3)
    for t in range(steps):
        valid = torch.tensor([True, t != 2])
        rollout.append(
            obs=obs,
            actions=torch.full((envs,), t),
            next_obs=obs + 1,
            rewards=torch.full((envs,), float(t)),
            terminated=torch.tensor([False, t == 1]),
            truncated=torch.zeros(envs, dtype=torch.bool),
            valid=valid,
            logits=torch.full((envs, 5), float(t)),
        )
        obs = obs + 1
    return rollout


def test_rows_are_time_major_and_the_last_observation_is_kept():
    rollout = filled()
    assert rollout.full
    assert rollout.obs[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert rollout.rewards[:, 1].tolist() == [0, 1, 2, 3]
    assert rollout.terminated[:, 1].tolist() == [False, True, False, False]
    assert rollout.extras["logits"][3, 0].tolist() == [3.0] * 5


def test_every_row_keeps_the_observation_it_was_given():
    """Also where it is not the one that the step before returned, as after a reset from outside."""
    rollout = Rollout(2, 1, obs=((1,), FLOAT), action=((), torch.int64))
    flag, zero = torch.zeros(1, dtype=torch.bool), torch.zeros(1)
    for given, following in ((1.0, 2.0), (7.0, 8.0)):
        obs, next_obs = torch.full((1, 1), given), torch.full((1, 1), following)
        rollout.append(
            obs=obs,
            actions=zero,
            next_obs=next_obs,
            rewards=zero,
            terminated=flag,
            truncated=flag,
            valid=~flag,
        )
    assert rollout.obs.flatten().tolist() == [1.0, 7.0, 8.0]


def test_valid_rows_leaves_reset_rows_out_in_one_order_for_every_field():
    rollout = filled()
    assert rollout.valid_rows(rollout.actions).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert rollout.valid_rows(rollout.obs)[:, 0].tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_a_full_rollout_refuses_another_row_and_reset_empties_it():
    rollout = filled()
    row = {
        name: getattr(rollout, name)[0]
        for name in ("obs", "actions", "rewards", "terminated", "truncated", "valid")
    }
    with pytest.raises(IndexError, match="all 4 rows"):
        rollout.append(**row, next_obs=row["obs"])
    rollout.reset()
    assert not rollout.full and rollout.position == 0


def test_state_goes_round_and_names_a_wrong_size():
    source, target = (
        filled(),
        Rollout(4, 2, obs=((3,), FLOAT), action=((), torch.int64), extras={"logits": ((5,), FLOAT)}),
    )
    target.load_state_dict(source.state_dict())
    assert (
        target.position == 4
        and torch.equal(target.obs, source.obs)
        and torch.equal(target.extras["logits"], source.extras["logits"])
    )
    other = Rollout(5, 2, obs=((3,), FLOAT), action=((), torch.int64), extras={"logits": ((5,), FLOAT)})
    with pytest.raises(ValueError, match="obs must have shape"):
        other.load_state_dict(source.state_dict())


def test_nbytes_counts_every_field():
    rollout = Rollout(4, 2, obs=((3,), FLOAT), action=((), torch.int64))
    assert rollout.nbytes == 5 * 2 * 3 * 4 + 8 * 8 + 8 * 4 + 3 * 8
