"""Bounds of observations: as the simulator's space says, in the shape and order of what is observed."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.bounds import box_bounds
from fastrl.envs.observations import ObservationMap
from fastrl.envs.single import SingleEnv

INF = float("inf")


@pytest.mark.parametrize(
    ("env_id", "options", "low", "high"),
    [
        ("Pendulum-v1", {}, [-1, -1, -8], [1, 1, 8]),
        ("FrozenLake-v1", {}, [0] * 16, [1] * 16),
        ("Identity-v0", {}, [-INF] * 4, [INF] * 4),
        (
            "CheetahRun-v1",
            {"obs_keys": ["velocity"]},
            [-INF] * 9,
            [INF] * 9,
        ),  # its space says 2.2e-308 to 1.8e+308
    ],
)
def test_bounds_of_vectors(env_id, options, low, high):
    env = make_vector_env(env_id, 2, **options)
    found = env.obs_bounds
    assert [bound.tolist() for bound in found] == [low, high]
    assert all(bound.dtype == np.float32 and bound.shape == env.obs_shape for bound in found)


def test_bounds_of_images_are_those_of_the_part_that_is_seen():
    env = make_vector_env("MiniGrid-MemoryS7-v0", env_kwargs={"crop": 3})
    low, high = env.obs_bounds
    assert (
        low.shape == high.shape == env.obs_shape == (3, 3, 3)
        and low.dtype == np.uint8
        and env.obs_dtype == torch.uint8
    )
    assert low.max() == 0 and high.min() == 255


def test_hidden_columns_have_no_bounds():
    whole, masked = (make_vector_env(env_id).obs_bounds for env_id in ("CartPole-v1", "MaskedCartPole-v1"))
    assert all(np.array_equal(seen, every[[0, 2]]) for seen, every in zip(masked, whole, strict=True))


def test_bounds_of_a_single_environment_are_in_its_space():
    space = SingleEnv("Pendulum-v1").observation_space
    assert space == gym.spaces.Box(np.float32([-1, -1, -8]), np.float32([1, 1, 8]))


def test_bounds_of_several_entries_are_in_the_order_of_the_entries():
    spaces = gym.spaces
    space = spaces.Dict(
        {
            "b": spaces.Box(-3, 4, (2, 1)),
            "a": spaces.MultiDiscrete([2, 1]),
            "c": spaces.Box(0, 9, (1,), np.int64),
            "d": spaces.MultiBinary(2),
        }
    )
    low, high = ObservationMap(space).bounds()
    assert low.tolist() == [0, 0, 0, -3, -3, 0, 0, 0] and high.tolist() == [1, 1, 1, 4, 4, 9, 1, 1]
    low, high = ObservationMap(space, obs_keys=["b"]).bounds()
    assert low.tolist() == [[-3], [-3]] and high.tolist() == [[4], [4]]


def test_bounds_of_a_number_have_one_entry():
    low, high = ObservationMap(gym.spaces.Box(-1, 2, (), np.float64)).bounds()
    assert low.tolist() == [-1] and high.tolist() == [2]


def test_the_largest_numbers_of_a_dtype_stand_for_no_bound():
    limits = np.finfo(np.float64)
    low, high = box_bounds(
        gym.spaces.Box(
            np.array([limits.tiny, limits.min, -1]), np.array([limits.max, 3, np.inf]), dtype=np.float64
        )
    )
    assert low.tolist() == [-INF, -INF, -1] and high.tolist() == [INF, 3, INF]
