"""Evaluation: a fixed number of episodes per environment, valid rows only, and an end even where episodes
have none."""

import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.base import ActionSpec, Advance, VectorEnv
from fastrl.runs import evaluation
from fastrl.runs.evaluation import MemorylessActor, evaluate_policy


def zeros(obs, deterministic):
    return torch.zeros(obs.shape[0], dtype=torch.int64)


def test_short_episodes_are_not_counted_more_often_than_long_ones():
    """Environments with episodes of 2 and of 8 steps: each gives its share, though the first could give four
    times as many."""
    env = make_vector_env("Counter-v0", 2, env_kwargs={"length": [2, 8]})
    metrics = evaluate_policy(MemorylessActor(zeros), env, 6)
    assert metrics["eval/length_mean"] == 5.0
    assert (metrics["eval/return_min"], metrics["eval/return_max"]) == (1.0, 28.0)
    assert metrics["eval/return_mean"] == 14.5 and metrics["eval/return_std"] == 13.5


def test_an_uneven_number_of_episodes_is_shared_out():
    env = make_vector_env("Counter-v0", 4, env_kwargs={"length": [2, 4, 6, 8]})
    assert evaluate_policy(MemorylessActor(zeros), env, 5)["eval/length_mean"] == (2 * 2 + 4 + 6 + 8) / 5


def test_it_can_be_interrupted():
    calls = iter([False] * 3 + [True])
    assert (
        evaluate_policy(
            MemorylessActor(zeros), make_vector_env("Counter-v0", 2), 4, interrupted=lambda: next(calls)
        )
        is None
    )


def test_no_episodes_are_an_error():
    with pytest.raises(ValueError, match="n_episodes"):
        evaluate_policy(MemorylessActor(zeros), make_vector_env("Counter-v0", 2), 0)


class Endless(VectorEnv):
    """Pays 1 a step; environment 0 never ends, environment 1 ends every third step."""

    def __init__(self):
        super().__init__(
            name="Endless",
            num_envs=2,
            obs_shape=(1,),
            obs_dtype=torch.float32,
            action=ActionSpec.discrete(2),
            max_episode_steps=None,
            device="cpu",
        )

    def _reset_all(self):
        self.count = 0
        return np.zeros((2, 1), np.float32)

    def _advance(self, actions):
        self.count += not self._done[1]
        ends = np.array([False, self.count % 3 == 0 and not self._done[1]])
        return Advance(np.zeros((2, 1), np.float32), np.ones(2, np.float32), ends, np.zeros(2, bool))


def test_an_episode_without_end_is_left_and_counts_as_it_stands(monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST_EPISODE", 20)
    with pytest.warns(UserWarning, match="1 of 3 episodes of Endless were left after 20 steps"):
        metrics = evaluate_policy(MemorylessActor(zeros), Endless(), 4)
    assert metrics["eval/cut_episodes"] == 1.0
    assert (metrics["eval/return_min"], metrics["eval/return_max"]) == (3.0, 20.0)
    assert metrics["eval/length_mean"] == pytest.approx((20 + 3 + 3) / 3)


@pytest.mark.parametrize(
    ("limit", "wanted", "bound"),
    [
        (None, None, 10_000),
        (500, None, None),
        (100_000, None, None),
        (2**31 - 1, None, 10_000),
        (500, 100, 100),
        (500, 500, None),
        (None, 7, 7),
    ],
)
def test_the_bound_of_an_episode(limit, wanted, bound):
    assert evaluation.step_bound(limit, wanted) == bound


def test_a_bound_below_one_is_refused():
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        evaluate_policy(MemorylessActor(zeros), Endless(), 4, max_steps=0)
