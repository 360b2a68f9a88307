"""The running normaliser: exact merging, statistics that stand still, reward scaling that ignores rows that
are no transition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastrl.nn.normalizer import RewardScaler, RunningNormalizer, merge_moments


def test_moments_of_known_numbers_in_two_batches():
    normalizer = RunningNormalizer((1,), clip=None, epsilon=0.0)
    normalizer.update(torch.tensor([[1.0], [8.0]]))
    mean, var, count = normalizer.statistics()
    assert (mean[0], var[0], count) == (4.5, 12.25, 2)  # population variance
    normalizer.update(torch.tensor([[9.0], [5.0], [3.0]]))
    mean, var, count = normalizer.statistics()
    np.testing.assert_allclose([mean[0], var[0] * 5 / 4, count], [5.2, 11.2, 5], rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.sampled_from([0.0, 1e3, 1e8]),
    st.integers(0, 2**31),
)
def test_batches_give_the_moments_of_their_union(sizes, offset, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(size=(size, 3)) + offset for size in sizes]
    normalizer = RunningNormalizer((3,))
    for batch in batches:
        normalizer.update(torch.from_numpy(batch))
    union = np.concatenate(batches)
    mean, var, count = normalizer.statistics()
    assert count == len(union)
    np.testing.assert_allclose(mean, union.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(var, union.var(0), rtol=1e-5, atol=1e-6)


def test_merge_ignores_order_and_takes_an_empty_sample():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([10.0])
    merged = merge_moments(a.mean(), a.var(), 3, b.mean(), b.var(), 1)
    swapped = merge_moments(b.mean(), b.var(), 1, a.mean(), a.var(), 3)
    np.testing.assert_allclose(merged, swapped)
    np.testing.assert_allclose(merged, (np.concatenate([a, b]).mean(), np.concatenate([a, b]).var(), 4))
    np.testing.assert_allclose(merge_moments(a.mean(), a.var(), 3, 0.0, 1.0, 0), (a.mean(), a.var(), 3))


def test_forward_never_moves_the_statistics_and_clips():
    normalizer = RunningNormalizer((2,), clip=3.0)
    normalizer.set_statistics(torch.zeros(2), torch.ones(2), count=10)
    x = torch.tensor([[100.0, -100.0], [1.0, 0.5]])
    before = normalizer.statistics()
    assert normalizer(x).tolist() == [[3.0, -3.0], [1.0, 0.5]]
    np.testing.assert_equal(normalizer.statistics(), before)
    normalizer.update(x[:0])
    np.testing.assert_equal(normalizer.statistics(), before)


def test_what_has_counted_nothing_changes_nothing():
    normalizer = RunningNormalizer((2,))
    x = torch.tensor([[500.0, -15.0], [1.0, 0.5]])
    assert (
        torch.equal(normalizer(x), x)
        and torch.equal(normalizer.scale(x), x)
        and torch.equal(normalizer.restore(x), x)
    )
    normalizer.update(x)
    assert not torch.equal(normalizer(x), x)


def test_restoring_is_the_way_back():
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e4, 1e-3]) + 50
    normalizer = RunningNormalizer((3,))
    normalizer.update(x)
    torch.testing.assert_close(normalizer.restore(normalizer(x)), x)


def test_normalised_data_has_unit_moments():
    x = (
        torch.randn(5000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.1, 5.0])
        + 7
    )
    normalizer = RunningNormalizer((4,), clip=None)
    normalizer.update(x)
    y = normalizer(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_state_dict_round_trip_renews_what_was_cached():
    trained = RunningNormalizer((3,))
    trained.update(torch.randn(10, 3) * 4 + 2)
    fresh = RunningNormalizer((3,))
    x = torch.randn(2, 3)
    fresh(x)  # fills the cache with the initial statistics
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))


def test_update_names_the_shape_it_wants():
    with pytest.raises(ValueError, match=r"x must have shape \[B, 3\], got \[4, 2\]"):
        RunningNormalizer((3,)).update(torch.zeros(4, 2))


def _returns_by_hand(rewards, done, valid, gamma):
    seen, running = [], np.zeros(rewards.shape[1])
    for t in range(len(rewards)):
        for n in range(rewards.shape[1]):
            if valid[t, n]:
                running[n] = gamma * running[n] + rewards[t, n]
                seen.append(running[n])
                if done[t, n]:
                    running[n] = 0.0
    return np.array(seen)


def test_reward_scaler_follows_discounted_returns_over_valid_rows_and_across_rollouts():
    rng = np.random.default_rng(3)
    rewards, done = rng.normal(size=(20, 3)), rng.random((20, 3)) < 0.2
    valid = np.ones_like(done)
    valid[1:] = ~done[:-1]
    done &= valid
    rewards[~valid] = 1e9  # must not matter
    scaler = RewardScaler(3, gamma=0.9, clip=None)
    for part in (slice(0, 7), slice(7, 20)):
        scaler.update(*(torch.from_numpy(x[part]) for x in (rewards, done, valid)))
    expected = _returns_by_hand(rewards, done, valid, 0.9)
    mean, var, count = scaler.returns.statistics()
    np.testing.assert_allclose(
        (mean, var, count), (expected.mean(), expected.var(), len(expected)), rtol=1e-12
    )
    torch.testing.assert_close(
        scaler(torch.tensor(2.0)), torch.tensor(2.0 / expected.std(), dtype=torch.float32)
    )


def test_reward_scaler_keeps_the_sign_and_clips():
    scaler = RewardScaler(1, gamma=0.5, clip=1.0)
    scaler.update(
        torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1, dtype=torch.bool), torch.ones(2, 1, dtype=torch.bool)
    )
    assert scaler(torch.tensor([-100.0, 0.0, 100.0])).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "cast", [lambda m: m.double().float(), lambda m: m.half(), lambda m: m.to(torch.bfloat16)]
)
def test_statistics_stay_float64_when_networks_are_cast(cast):
    module = nn.Sequential(RunningNormalizer((2,)), nn.Linear(2, 2))
    module[0].update(torch.randn(100, 2))
    before = module[0].statistics()
    cast(module)
    assert all(buffer.dtype == torch.float64 for buffer in module[0].buffers())
    for own, kept in zip(module[0].statistics(), before, strict=True):
        assert np.array_equal(own, kept)
    scaler = RewardScaler(3, gamma=0.9)
    cast(scaler)
    assert all(buffer.dtype == torch.float64 for buffer in scaler.buffers())
