"""The feed: what environments return is what the replay holds, and when batches become due."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.data.feed import Feed
from fastrl.envs import make_vector_env
from fastrl.errors import SettingError

CPU = torch.device("cpu")


@dataclass
class Settings:
    replay_size: int = 200
    batch_size: int = 8
    update_after: int = 20
    save_replay: bool = True
    window: int = 1
    updates_per_transition: float = 0.5


def make_feed(num_envs=2, env_id="Counter-v0", settings=None, extras=None, **more):
    env = make_vector_env(env_id, num_envs, seed=0)
    feed = Feed(env, settings or Settings(), extras, name="test", seed=0, device=CPU, **more)
    feed.restart()
    return feed


def act(obs):
    return {"actions": torch.zeros(len(obs), dtype=torch.int64)}


def test_rows_are_the_steps_of_the_environments_with_the_fields_of_the_policy():
    feed = make_feed(extras={"noise": ((), torch.float32)})
    seen = []
    for step in range(12):
        seen.append(feed.obs.clone())
        feed.step(lambda obs, step=step: act(obs) | {"noise": torch.full((2,), float(step))})
    fields = feed.replay.storage.fields
    assert torch.equal(fields["obs"][:12], torch.stack(seen))
    assert fields["noise"][:12, 0].tolist() == list(range(12))
    assert not fields["valid"][:12].all()  # the row that resets an environment is no transition
    assert len(feed.replay) == fields["valid"][:12].sum() == feed.stepped


def test_batches_become_due_after_the_first_steps_and_in_proportion():
    counted = []
    feed = make_feed(
        settings=Settings(update_after=20, updates_per_transition=0.25),
        count=lambda transitions, episodes: counted.append(transitions),
    )
    drawn = 0
    for _ in range(60):
        feed.step(act)
        for batch in feed.batches():
            assert batch.obs.shape == (2, 8, 1) and batch.valid.all()
            drawn += 1
    assert feed.stepped == sum(counted) and drawn == pytest.approx((feed.stepped - 20) / 4, abs=2)
    assert 0 <= feed.due < 1


def test_a_batch_waits_for_enough_transitions():
    feed = make_feed(settings=Settings(update_after=0, batch_size=30))
    feed.step(act)
    while len(feed.replay) < 30:
        assert feed.due == 0 and not list(feed.batches())
        feed.step(act)
    assert feed.due > 0


class _Wild(gym.Env):
    """An observation that overflows once it is squared at every fifth step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        value = 3e38 if self.steps % 5 == 0 else float(self.steps)
        return np.full(1, value, np.float32), 1.0, False, self.steps == 12, {}


def test_numbers_that_overflow_are_refused_and_break_the_sequence():
    feed = make_feed(env_id=_Wild, num_envs=1)
    with pytest.warns(RuntimeWarning, match="test: 1 transitions that are not finite, or too large"):
        for _ in range(13):
            feed.step(act)
            assert feed.obs.abs().max() < 100
    fields = feed.replay.storage.fields
    assert fields["valid"][:12, 0].tolist() == [True] * 4 + [False] * 2 + [True] * 3 + [False] * 2 + [True]
    assert feed.refused == 4 and feed.stepped == 12
    assert all(torch.isfinite(field.float()).all() for field in fields.values())


def test_a_feed_goes_on_exactly_from_its_state_or_fills_a_new_replay():
    first = make_feed()
    for _ in range(30):
        first.step(act)
    state = first.state_dict()
    second = make_feed()
    second.env.load_state_dict(first.env.state_dict())
    second.load_state_dict(state, environments_continue=True)
    for feed in (first, second):
        for _ in range(10):
            feed.step(act)
    assert (first.due, first.stepped) == (second.due, second.stepped) and first.due > 0
    for one, other in zip(first.batches(), second.batches(), strict=True):
        assert torch.equal(one.obs, other.obs) and torch.equal(one.rewards, other.rewards)
    third = make_feed(settings=Settings(save_replay=False))
    third.load_state_dict(state | {"replay": None}, environments_continue=True)
    assert (len(third.replay), third.due, third.stepped) == (0, 0.0, 0)


def test_a_broken_sequence_is_still_broken_after_loading():
    """Cut behind each step: the rows are those of one feed that was never saved."""
    whole = make_feed(env_id=_Wild, num_envs=1)
    with pytest.warns(RuntimeWarning):
        for _ in range(13):
            whole.step(act)
    for cut in (4, 5, 6):
        first, second = (make_feed(env_id=_Wild, num_envs=1) for _ in range(2))
        with pytest.warns(RuntimeWarning):
            for _ in range(cut + 1):
                first.step(act)
        second.env = first.env
        second.load_state_dict(first.state_dict(), environments_continue=True)
        for _ in range(12 - cut):
            second.step(act)
        for name, field in whole.replay.storage.fields.items():
            assert torch.equal(second.replay.storage.fields[name][:13], field[:13]), (cut, name)


@pytest.mark.parametrize("refused", [False, True])
def test_transitions_by_hand_go_on_after_loading(refused):
    whole, first, second = (make_feed(num_envs=1) for _ in range(3))
    for feed in (whole, first):
        feed.add_transition(np.array([5.0]), np.array([6.0]), rewards=2.0)
        if refused:
            with pytest.warns(RuntimeWarning):
                feed.add_transition(np.array([6.0]), np.array([np.nan]), rewards=1.0)
    second.load_state_dict(first.state_dict(), environments_continue=True)
    for feed in (whole, second):
        feed.add_transition(np.array([6.0]), np.array([7.0]), rewards=3.0)
    assert second.replay.index.rows == whole.replay.index.rows == (3 if refused else 2)
    for name, field in whole.replay.storage.fields.items():
        assert torch.equal(second.replay.storage.fields[name][:3], field[:3]), name


def test_new_episodes_after_loading_without_a_replay_begin_with_their_own_row():
    settings = Settings(save_replay=False)
    first, second = (make_feed(num_envs=1, settings=settings) for _ in range(2))
    first.add_transition(np.array([5.0]), np.array([6.0]), rewards=2.0)
    second.load_state_dict(first.state_dict(), environments_continue=False)
    start = second.obs.clone()
    second.step(act)
    assert second.replay.index.rows == 1 and torch.equal(second.replay.storage.fields["obs"][0], start)


def test_environments_that_begin_anew_are_not_what_followed_the_saved_rows():
    first, second = make_feed(), make_feed()
    for _ in range(3):
        first.step(act)
    for _ in range(5):
        second.step(act)
    second.load_state_dict(first.state_dict(), environments_continue=False)
    fields = second.replay.storage.fields
    assert second.replay.index.rows == 4 and torch.equal(fields["obs"][3], first.obs)
    assert not fields["valid"][3].any() and torch.equal(second.obs, make_feed().obs)


def test_a_state_that_is_none_leaves_the_feed_as_it_was():
    feed = make_feed()
    for _ in range(3):
        feed.step(act)
    state = feed.state_dict()
    del state["replay"]["rows"]["rewards"]
    with pytest.raises(ValueError, match="the replay's 'rewards' must be a"):
        feed.load_state_dict(state | {"stepped": 99}, environments_continue=False)
    assert (len(feed.replay), feed.stepped, feed.replay.index.rows) == (6, 6, 3)


def test_new_episodes_are_not_what_followed_the_stored_ones():
    feed = make_feed()
    for _ in range(3):
        feed.step(act)
    last = feed.obs.clone()
    feed.restart()
    fields = feed.replay.storage.fields
    assert feed.replay.index.rows == 4 and torch.equal(fields["obs"][3], last)
    assert not fields["valid"][3].any()


def test_transitions_by_hand_take_the_fields_that_are_given():
    feed = make_feed(num_envs=1, extras={"noise": ((), torch.float32)})
    assert feed.add_transition(np.array([5.0]), np.array([6.0]), rewards=2.0, noise=0.5, terminated=1.0)
    fields = feed.replay.storage.fields
    row = {name: field[0, 0].item() for name, field in fields.items()}
    assert row == {
        **{"obs": 5.0, "actions": 0, "rewards": 2.0, "noise": 0.5},
        **{"terminated": True, "truncated": False, "valid": True},
    }
    with pytest.warns(RuntimeWarning, match="test: 1 transitions"):
        assert not feed.add_transition(np.array([6.0]), np.array([np.nan]), rewards=1.0)


def test_a_replay_without_room_for_a_window_is_refused():
    with pytest.raises(SettingError, match="replay_size must hold at least 9 rows of 2 environments"):
        make_feed(settings=Settings(replay_size=16, window=8))
