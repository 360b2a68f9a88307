"""What every vector environment promises: stream, statistics, checks of actions, errors that say where."""

import numpy as np
import pytest
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.base import Advance, EnvironmentFailure, Episode, VectorEnv, environment_seeds
from fastrl.errors import SettingError


class Scripted(VectorEnv):
    """Plays back rows of (reward, terminated, truncated); observes the row's number, in reused memory."""

    def __init__(self, rows, num_envs=2, **options):
        settings = {
            "obs_shape": (1,),
            "obs_dtype": torch.float32,
            "action": ActionSpec.discrete(3),
            "max_episode_steps": None,
            "device": "cpu",
        }
        super().__init__(name="Scripted", num_envs=num_envs, **settings | options)
        self.rows = iter(rows)
        self.count = 0

    def _reset_all(self):
        return np.zeros((self.num_envs, 1), np.float32)

    def _advance(self, actions):
        row = next(self.rows)
        if isinstance(row, Exception):
            raise row
        self.count += 1
        reward, terminated, truncated, *more = (None if part is None else np.array(part) for part in row)
        return Advance(
            np.full((self.num_envs, 1), self.count, np.float32), reward, terminated, truncated, *more
        )


def choose(num_envs=2):
    return torch.zeros(num_envs, dtype=torch.int64)


NO, YES = [False, False], [True, True]


def test_the_row_after_an_end_is_no_transition_and_carries_nothing():
    garbage = [float("nan"), 1e9]
    env = Scripted([([1.0, 2.0], [True, False], [False, True]), (garbage, YES, YES), ([3.0, 4.0], NO, NO)])
    env.reset()
    end = env.step(choose())
    assert (
        end.valid.tolist() == YES
        and end.terminated.tolist() == [True, False]
        and end.truncated.tolist() == [False, True]
    )
    reset = env.step(choose())
    assert reset.valid.tolist() == NO
    assert reset.reward.tolist() == [0.0, 0.0]
    assert reset.terminated.tolist() == NO and reset.truncated.tolist() == NO
    after = env.step(choose())
    assert after.valid.tolist() == YES and after.reward.tolist() == [3.0, 4.0]


def test_episodes_are_summed_over_valid_rows_and_popped_once():
    rows = [
        ([1.0, 0.5], NO, NO),
        ([2.0, 0.5], [True, False], NO),
        ([1e9, 0.5], NO, NO),
        ([4.0, 0.5], NO, YES),
    ]
    env = Scripted(rows)
    env.reset()
    for _ in rows:
        env.step(choose())
    assert env.pop_episodes() == [Episode(0, 3.0, 2), Episode(0, 4.0, 1), Episode(1, 2.0, 4)]
    assert env.pop_episodes() == []


def test_many_small_rewards_are_summed_in_double_precision():
    env = Scripted([([0.1], [i == 99_999], [False]) for i in range(100_000)], num_envs=1)
    env.reset()
    for _ in range(100_000):
        env.step(choose(1))
    assert env.pop_episodes()[0].episode_return == pytest.approx(10_000.0, abs=1e-6)


def test_held_columns_are_no_transition_and_their_episode_goes_on():
    rows = [
        ([1.0, 1.0], [True, False], NO),
        ([7.0, 7.0], NO, NO, [False, True]),
        ([1.0, 1.0], NO, [False, True]),
    ]
    env = Scripted(rows)
    env.reset()
    env.step(choose())
    held = env.step(choose())
    assert held.valid.tolist() == NO and held.reward.tolist() == [0.0, 0.0]
    assert env.step(choose()).valid.tolist() == YES
    assert env.pop_episodes()[1:] == [Episode(1, 2.0, 2)]


def test_reported_scores_and_ends_may_differ_from_what_is_learned_from():
    """As on Atari: clipped rewards and lives on the one hand, raw scores and whole games on the other."""
    rows = [
        ([1.0], [True], [False], None, [10.0], [False]),  # a life is lost
        ([1.0], [False], [False], None, [99.0], [False]),  # the next one begins
        ([1.0], [True], [False], None, [20.0], [True]),
    ]
    env = Scripted(rows, num_envs=1)
    env.reset()
    rewards = [env.step(choose(1)).reward.item() for _ in rows]
    assert rewards == [1.0, 0.0, 1.0]
    assert env.pop_episodes() == [Episode(0, 30.0, 2)]


def test_reset_forgets_unfinished_episodes_and_pending_resets():
    env = Scripted([([5.0, 5.0], [True, False], NO), ([1.0, 1.0], YES, NO)])
    env.reset()
    env.step(choose())
    assert env.pop_episodes() == [Episode(0, 5.0, 1)]
    env.reset()
    assert env.step(choose()).valid.tolist() == YES
    assert env.pop_episodes() == [Episode(0, 1.0, 1), Episode(1, 1.0, 1)]


def test_starting_episodes_takes_the_reset_row_where_all_have_ended():
    over = [None, None, NO]  # no game is over, though both episodes are
    env = Scripted(
        [
            ([5.0, 6.0], [True, False], [False, True], *over),
            ([9.0, 9.0], NO, NO, *over),
            ([2.0, 2.0], NO, YES),
        ]
    )
    assert env.start_episodes().tolist() == [[0.0], [0.0]]
    env.step(choose())
    assert env.start_episodes().tolist() == [[2.0], [2.0]] and env.pop_episodes() == []
    assert env.step(choose()).valid.tolist() == YES
    assert env.pop_episodes() == [Episode(0, 7.0, 2), Episode(1, 8.0, 2)]
    assert env.unfinished_episodes()[1].tolist() == [0, 0]


def test_starting_episodes_resets_all_where_one_goes_on():
    env = Scripted([([5.0, 5.0], [True, False], NO), ([1.0, 1.0], YES, NO)])
    env.reset()
    env.step(choose())
    assert env.start_episodes().tolist() == [[0.0], [0.0]] and env.step(choose()).valid.tolist() == YES


def test_an_exception_names_environment_step_and_seed():
    env = Scripted([([0.0, 0.0], NO, NO), ZeroDivisionError("joint 3")], seeds=[11, 12])
    env.reset()
    env.step(choose())
    with pytest.raises(
        EnvironmentFailure,
        match=r"Scripted failed at step 1 \(seeds \[11, 12\]...\): ZeroDivisionError: joint 3",
    ):
        env.step(choose())


def test_steps_before_reset_and_after_close_are_refused():
    env = Scripted([])
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(choose())
    with env:
        env.reset()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.step(choose())
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()
    assert env.state_dict() is None


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"shape \[2\] \(discrete\), got \[3\]"),
        (torch.zeros(2, 1, dtype=torch.int64), r"shape \[2\]"),
        (torch.zeros(2), "integers"),
        (torch.zeros(2, dtype=torch.bool), "integers"),
        (torch.tensor([0, 3]), "0 to 2 .* got 3 for environment 1"),
        (torch.tensor([-1, 0]), "0 to 2 .* got -1 for environment 0"),
    ],
)
def test_wrong_discrete_actions_are_refused(actions, message):
    env = Scripted([([0.0, 0.0], NO, NO)])
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    env.step(choose())  # nothing was stepped by the refused call


def test_multi_discrete_actions_are_checked_per_branch():
    spec = ActionSpec("multi_discrete", (2,), (2, 5))
    assert spec.check(torch.tensor([[1, 4], [0, 0]], dtype=torch.int32), 2).tolist() == [[1, 4], [0, 0]]
    with pytest.raises(ValueError, match=r"below \[2, 5\] .* got \[2, 0\] for environment 1"):
        spec.check(torch.tensor([[1, 4], [2, 0]]), 2)
    assert spec.dim == 2
    with pytest.raises(ValueError, match="num_actions"):
        _ = spec.num_actions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_continuous_actions_are_clipped_and_the_callers_tensor_is_not(dtype):
    spec = ActionSpec(
        "continuous", (2,), (), torch.tensor([-1.0, -torch.inf]), torch.tensor([1.0, torch.inf])
    )
    given = torch.tensor([[-3.0, -3.0], [3.0, 3.0]], dtype=dtype)
    checked = spec.check(given, 2)
    assert checked.dtype == np.float32
    assert checked.tolist() == [[-1.0, -3.0], [1.0, 3.0]]
    assert given.tolist() == [[-3.0, -3.0], [3.0, 3.0]]


def test_wrong_continuous_actions_are_refused():
    spec = ActionSpec("continuous", (1,), (), -torch.ones(1), torch.ones(1))
    with pytest.raises(ValueError, match=r"shape \[2, 1\] \(continuous\), got \[2\]"):
        spec.check(torch.zeros(2), 2)
    with pytest.raises(ValueError, match="floating point"):
        spec.check(torch.zeros(2, 1, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="NaN .* environment 1"):
        spec.check(torch.tensor([[0.0], [torch.nan]]), 2)


def test_seeds_of_environments_do_not_repeat_between_neighbouring_runs():
    runs = [environment_seeds(seed, 16) for seed in range(50)]
    assert len({seed for run in runs for seed in run}) == 50 * 16
    assert runs[3] == environment_seeds(3, 16)
    assert environment_seeds(3, 4) == runs[3][:4]
    assert all(0 <= seed < 2**31 for run in runs for seed in run)
    assert environment_seeds(2**40, 1) != environment_seeds(0, 1)
    with pytest.raises(SettingError, match="seed"):
        environment_seeds(-1, 1)
