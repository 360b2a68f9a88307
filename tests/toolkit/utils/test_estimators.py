"""Estimators against numbers worked out by hand, and against loops over time written here."""

import numpy as np
import pytest
import torch

from fastrl.errors import SettingError
from fastrl.toolkit.utils.estimators import advantage, value
from fastrl.toolkit.utils.memories import SimpleMemory

GAMMA, LAMBDA = 0.9, 0.7


def golden(**changes):
    reward = np.array([[0, 1, 3, 0, 0, 0, 1, 2], [1, 0, 0, 0, 2, 1, 0, 1]], np.float64).T
    done = np.array([[0, 0, 0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 0, 0]], bool).T
    values = np.full((9, 2), 5.0)
    values[8] = 42.0
    return SimpleMemory(
        reward=reward, terminated=done, truncated=np.zeros_like(done), state_value_t_and_tp1=values, **changes
    )


def columns(env0, env1):
    return torch.tensor([env0, env1], dtype=torch.float64).T


RETURNS = columns([3.33, 3.7, 3, 0, 0, 2.52, 2.8, 2], [1, 0, 0, 0, 2, 32.428, 34.92, 38.8])
GAE = columns(
    [-0.105422, 0.626315, 0.2005, -3.65, -5, -1.3757, -1.39, -3],
    [-4, -2.7995, -3.65, -5, -3, 13.60022, 20.794, 33.8],
)
TD_TARGET = columns([4.5, 5.5, 7.5, 4.5, 0, 4.5, 5.5, 2], [1, 4.5, 4.5, 0, 2, 5.5, 4.5, 38.8])
UNBOOTSTRAPPED = columns([3.33, 3.7, 3, 0, 0, 2.52, 2.8, 2], [1, 0, 0, 0, 2, 1.81, 0.9, 1])

CASES = {
    "GAE": (advantage.GAE(GAMMA, LAMBDA), GAE),
    "TD": (advantage.TD(GAMMA), TD_TARGET - 5.0),
    "Baseline": (advantage.Baseline(GAMMA), RETURNS - 5.0),
    "CompleteReturn": (advantage.CompleteReturn(GAMMA), UNBOOTSTRAPPED),
    "TDTarget": (value.TDTarget(GAMMA), TD_TARGET),
    "value.CompleteReturn": (value.CompleteReturn(GAMMA), RETURNS),
}
EVERY = [pytest.param(*case, id=name) for name, case in CASES.items()]


@pytest.mark.parametrize(("estimator", "expected"), EVERY)
def test_golden_numbers(estimator, expected):
    found = estimator(golden())
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_last_reward_is_not_replaced_by_a_value():
    returns = value.CompleteReturn(GAMMA)(golden())[:, 1]
    assert returns[7].item() == pytest.approx(1 + 0.9 * 42)  # not 5, the value of the last state but one
    assert advantage.Baseline(GAMMA)(golden())[7, 1].item() == pytest.approx(1 + 0.9 * 42 - 5)


def test_from_advantage_is_the_lambda_return():
    batch = golden()
    batch.advantage = advantage.GAE(GAMMA, LAMBDA)(batch)
    torch.testing.assert_close(value.FromAdvantage()(batch), GAE + 5.0, rtol=0, atol=1e-5)
    batch.advantage = batch.advantage.numpy()
    torch.testing.assert_close(value.FromAdvantage()(batch), GAE + 5.0, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("estimator", "expected"), EVERY)
def test_done_alone_is_termination_and_mappings_and_objects_are_batches(estimator, expected):
    batch = golden()
    done = batch.pop("terminated")
    del batch.truncated
    batch.done = done
    assert torch.equal(estimator(dict(batch)), estimator(golden()))
    assert torch.equal(estimator(type("Batch", (), dict(batch))()), estimator(golden()))
    tensors = {key: torch.as_tensor(entry) for key, entry in batch.items()}
    assert torch.equal(estimator(tensors), estimator(golden()))
    batch.done = done.astype(np.float32)  # flags as numbers
    assert torch.equal(estimator(batch), estimator(golden()))


@pytest.mark.parametrize(("estimator", "expected"), EVERY)
def test_inputs_are_left_alone_and_results_have_no_graph(estimator, expected):
    batch = golden()
    batch.state_value_t_and_tp1 = torch.tensor(batch.state_value_t_and_tp1, requires_grad=True)
    before = {key: torch.as_tensor(entry).clone() for key, entry in batch.items()}
    assert not estimator(batch).requires_grad
    assert all(torch.equal(torch.as_tensor(entry), before[key]) for key, entry in batch.items()) and set(
        batch
    ) == set(before)


def slow(batch, gamma, gae_lambda):
    """Advantages by a loop, rows that are no transition left out."""
    values, found = batch["state_value_t_and_tp1"], np.zeros_like(batch["reward"])
    for e in range(found.shape[1]):
        following = 0.0
        for t in reversed(range(found.shape[0])):
            if not batch["valid"][t, e]:
                following = 0.0
                continue
            terminated, over = (
                batch["terminated"][t, e],
                batch["terminated"][t, e] or batch["truncated"][t, e],
            )
            delta = batch["reward"][t, e] + gamma * (0.0 if terminated else values[t + 1, e]) - values[t, e]
            following = found[t, e] = delta + (0.0 if over else gamma * gae_lambda * following)
    return found


def random_batch(seed, steps=40, envs=7):
    rng = np.random.default_rng(seed)
    terminated, truncated = rng.random((steps, envs)) < 0.1, rng.random((steps, envs)) < 0.1
    valid = np.ones((steps, envs), bool)
    valid[1:] = ~(terminated | truncated)[:-1]  # the row after an end resets
    terminated, truncated = terminated & valid, truncated & valid & ~terminated
    reward = np.where(valid, rng.normal(size=(steps, envs)), np.nan)
    return {
        "reward": reward,
        "terminated": terminated,
        "truncated": truncated,
        "valid": valid,
        "state_value_t_and_tp1": rng.normal(size=(steps + 1, envs)),
    }


@pytest.mark.parametrize("seed", range(3))
def test_truncations_bootstrap_and_rows_that_are_no_transition_count_for_nothing(seed):
    batch = random_batch(seed)
    values = torch.as_tensor(batch["state_value_t_and_tp1"][:-1])
    for estimator, gae_lambda in (
        (advantage.GAE(0.8, 0.6), 0.6),
        (advantage.TD(0.8), 0.0),
        (advantage.Baseline(0.8), 1.0),
    ):
        expected = torch.as_tensor(slow(batch, 0.8, gae_lambda))
        found = estimator(batch)
        torch.testing.assert_close(found, expected)
        assert not found[~torch.as_tensor(batch["valid"])].any()
    torch.testing.assert_close(
        value.CompleteReturn(0.8)(batch), torch.as_tensor(slow(batch, 0.8, 1.0)) + values
    )
    torch.testing.assert_close(value.TDTarget(0.8)(batch), torch.as_tensor(slow(batch, 0.8, 0.0)) + values)
    unvalued = dict(batch, state_value_t_and_tp1=np.zeros_like(batch["state_value_t_and_tp1"]))
    del batch["state_value_t_and_tp1"]
    torch.testing.assert_close(
        advantage.CompleteReturn(0.8)(batch), torch.as_tensor(slow(unvalued, 0.8, 1.0))
    )


def test_dtype_is_that_of_the_values(device):
    batch = {key: torch.as_tensor(entry, device=device) for key, entry in golden().items()}
    batch["state_value_t_and_tp1"] = batch["state_value_t_and_tp1"].float()
    found = advantage.GAE()(batch)
    assert found.dtype == torch.float32 and found.device.type == device.type
    assert (
        advantage.CompleteReturn(0.9)(
            {"reward": np.ones((2, 1), np.int64), "done": np.zeros((2, 1), bool)}
        ).dtype
        == torch.float32
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(reward=None), "batch must have 'reward'"),
        (dict(reward=np.zeros(8)), r"reward must have shape \[T, E\], got \[8\]"),
        (dict(state_value_t_and_tp1=None), "batch must have 'state_value_t_and_tp1' for this estimator"),
        (
            dict(state_value_t_and_tp1=np.zeros((8, 2))),
            r"state_value_t_and_tp1 must have shape \[T\+1, E\] = \[9, 2\], got \[8, 2\]",
        ),
        (dict(terminated=None, truncated=None), "batch must have 'terminated' and 'truncated', or 'done'"),
        (dict(terminated=None), "batch must have 'terminated' and 'truncated', or 'done'"),
        (dict(valid=np.ones(8, bool)), r"valid must have the shape of reward, \[8, 2\], got \[8\]"),
    ],
)
def test_what_a_batch_lacks_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        advantage.GAE()({**golden(), **change})


def test_from_advantage_names_what_is_missing():
    with pytest.raises(ValueError, match="batch must have 'advantage'"):
        value.FromAdvantage()(golden())
    with pytest.raises(ValueError, match=r"state_value_t_and_tp1 must have shape \[T\+1, E\] = \[3, 2\]"):
        value.FromAdvantage()(golden(advantage=np.zeros((2, 2))))


def test_discounts_are_checked_once_made_fixed_and_defaults_documented():
    for wrong in (1.1, -0.1, "0.9", True, float("nan"), None):
        with pytest.raises(SettingError, match="gamma must be a number in"):
            advantage.TD(gamma=wrong)
    with pytest.raises(SettingError, match="gae_lambda must be a number in"):
        advantage.GAE(gae_lambda=2)
    assert advantage.GAE() == advantage.GAE(gamma=0.99, gae_lambda=0.95) and advantage.TD() == advantage.TD(
        0.99
    )
    with pytest.raises(AttributeError):
        advantage.GAE().gamma = 0.5  # one object may serve many agents
    assert not advantage.CompleteReturn.needs_values and advantage.GAE.needs_values
    assert torch.equal(advantage.TD(1)(golden()), advantage.GAE(1, 0)(golden()))
