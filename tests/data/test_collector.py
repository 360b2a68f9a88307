"""The one way to fill a rollout: what is stored, counted, cut off and continued."""

from contextlib import contextmanager

import pytest
import torch

from fastrl.data.collector import Collector
from fastrl.data.rollout import Rollout
from fastrl.envs import make_vector_env


def collector(steps=4, envs=2, **options):
    env = make_vector_env("Counter-v0", envs, seed=0)
    fields = {"obs": (env.obs_shape, env.obs_dtype), "action": (env.action.shape, torch.int64)}
    rollout = Rollout(steps, envs, **fields, extras={"logits": ((3,), torch.float32)})
    made = Collector(env, rollout, **options)
    made.restart()
    return made


def act(obs):
    rows = len(obs)
    return {
        "actions": torch.zeros(rows, dtype=torch.int64),
        "logits": obs.reshape(rows, -1)[:, :1].expand(rows, 3),
    }


def test_rows_follow_one_another_and_what_acting_gave_lies_beside_them():
    made = collector()
    first = made.obs.clone()
    assert made.fill(act)
    rollout = made.rollout
    assert rollout.full and torch.equal(rollout.obs[0], first) and torch.equal(rollout.obs[-1], made.obs)
    assert torch.equal(rollout.extras["logits"][:, :, 0], rollout.obs[:-1].flatten(2)[:, :, 0])


def test_the_next_rollout_begins_where_the_last_one_ended():
    made = collector()
    made.fill(act)
    last = made.obs.clone()
    made.fill(act)
    assert torch.equal(made.rollout.obs[0], last)


def test_valid_transitions_and_ended_episodes_are_counted_as_they_happen():
    counted = []
    made = collector(
        steps=40, count=lambda transitions, episodes: counted.append((transitions, len(episodes)))
    )
    made.fill(act)
    assert len(counted) == 40
    assert sum(transitions for transitions, _ in counted) == int(made.rollout.valid.sum())
    ends = (made.rollout.terminated | made.rollout.truncated) & made.rollout.valid
    assert sum(episodes for _, episodes in counted) == int(ends.sum()) > 0


def test_a_request_to_stop_leaves_what_is_stored_and_the_next_call_goes_on():
    made, whole = collector(), collector()
    asked = iter([False, False, True])
    assert not made.fill(act, stop=lambda: next(asked))
    assert made.rollout.position == 2
    assert made.fill(act) and whole.fill(act)
    assert torch.equal(made.rollout.obs, whole.rollout.obs)
    assert torch.equal(made.rollout.rewards, whole.rollout.rewards)


def test_a_half_filled_rollout_is_saved_and_goes_on_bit_for_bit():
    made, other = collector(), collector()
    asked = iter([False, False, False, True])
    made.fill(act, stop=lambda: next(asked))
    state, environments = made.state_dict(), made.env.state_dict()
    other.env.load_state_dict(environments)
    other.load_state_dict(state)
    assert made.fill(act) and other.fill(act)
    assert torch.equal(made.rollout.obs, other.rollout.obs) and torch.equal(made.obs, other.obs)


def test_a_full_rollout_is_no_half_filled_one():
    made = collector()
    made.fill(act)
    assert made.state_dict()["rollout"] is None


def test_restarting_drops_what_is_half_filled():
    made = collector()
    asked = iter([False, True])
    made.fill(act, stop=lambda: next(asked))
    made.restart()
    assert made.rollout.position == 0


def test_acting_and_rollout_see_observations_through_the_view():
    made = collector(view=lambda obs: obs + 100)
    seen = []
    made.fill(lambda obs: (seen.append(obs.clone()), act(obs))[1])
    assert all(bool((obs >= 100).all()) for obs in seen) and bool((made.rollout.obs >= 100).all())


def test_what_remembers_sees_every_step_once_it_is_stored():
    made = collector()
    steps = []
    made.fill(act, after_step=lambda timestep: steps.append((timestep, made.rollout.position)))
    assert [position for _, position in steps] == [1, 2, 3, 4]
    assert torch.equal(torch.stack([timestep.reward for timestep, _ in steps]), made.rollout.rewards)


def test_phases_are_timed():
    phases = []

    @contextmanager
    def stopwatch(phase):
        phases.append(phase)
        yield

    collector(steps=2, stopwatch=stopwatch).fill(act)
    assert phases == ["acting", "environment"] * 2


@pytest.mark.parametrize("inference", [True, False])
def test_tensors_are_those_of_inference_only_where_that_is_wanted(inference):
    seen = []
    made = collector(inference=inference)
    made.fill(lambda obs: (seen.append(torch.zeros(1).is_inference()), act(obs))[1])
    assert set(seen) == {inference}


def test_a_step_that_fails_is_neither_stored_nor_counted():
    counted = []
    made = collector(count=lambda transitions, episodes: counted.append(transitions))

    def wrong(obs):
        if made.rollout.position == 2:
            return act(obs) | {"actions": torch.full((len(obs),), 99)}
        return act(obs)

    with pytest.raises(Exception, match="99|action"):
        made.fill(wrong)
    assert made.rollout.position == 2 == len(counted)
