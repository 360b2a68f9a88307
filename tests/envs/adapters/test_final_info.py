"""Final infos in the layouts of old and new Gymnasium versions."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl.envs.adapters.final_info import (
    _extract_episode_returns,
    _extract_final_observations,
    _iter_final_info_entries,
)
from fastrl.envs.single import SingleEnv

ENDED = np.array([False, True, False])
INFO = {"episode": {"r": 7.0, "l": 3}, "goal": 1}


def objects(*values):
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


LAYOUTS = {
    "list": {"final_info": [None, INFO, None]},
    "object array with mask": {"final_info": objects({"stale": 1}, INFO, None), "_final_info": ENDED},
    "dict by index": {"final_info": {1: INFO}},
    "dict of arrays": {
        "final_info": {
            "episode": {"r": np.array([0.0, 7.0, 0.0]), "_r": ENDED, "l": np.array([0, 3, 0]), "_l": ENDED},
            "_episode": ENDED,
            "goal": np.array([0, 1, 0]),
            "_goal": ENDED,
            "other": np.array([5, 0, 0]),
            "_other": ~ENDED,
        },
        "_final_info": ENDED,
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_entries_and_returns(layout):
    assert _iter_final_info_entries(LAYOUTS[layout]) == [(1, INFO)]
    assert _extract_episode_returns(LAYOUTS[layout]) == [(1, 7.0)]


def test_a_single_environment_counts_as_index_0():
    assert _iter_final_info_entries({"final_info": INFO}) == [(0, INFO)]
    assert _extract_episode_returns({"episode": {"r": 5.0, "l": 2}}) == [(0, 5.0)]
    assert _extract_episode_returns({"episode": {"r": np.array([5.0])}}) == [(0, 5.0)]


def test_nothing_ended():
    assert _iter_final_info_entries({}) == [] == _extract_episode_returns({})
    assert _extract_final_observations({}, 2) == [None, None]
    assert _extract_episode_returns({"episode": {"r": np.zeros(3)}, "_episode": np.zeros(3, bool)}) == []


@pytest.mark.parametrize("key", ["final_obs", "final_observation"])
def test_final_observations_from_their_own_keys(key):
    last = np.array([1.0, 2.0])
    for infos in (
        {key: objects(None, last, None), f"_{key}": ENDED},
        {key: objects(None, last, None)},
        {key: np.stack([last * 0, last, last * 0]), f"_{key}": ENDED},
        {key: {1: last}},
        {"final_info": [None, {key: last}, None]},
    ):
        found = _extract_final_observations(infos, 3)
        assert found[0] is None and found[2] is None and np.array_equal(found[1], last)


def test_final_observations_of_dict_spaces():
    infos = {"final_obs": {"a": np.array([0.0, 3.0, 0.0]), "_a": ENDED}, "_final_obs": ENDED}
    assert _extract_final_observations(infos, 3) == [None, {"a": 3.0}, None]


def test_the_installed_gymnasium():
    def factory():
        return gym.wrappers.RecordEpisodeStatistics(SingleEnv("Counter-v0", length=3))

    env = SyncVectorEnv([factory, factory], autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    for index in range(3):
        obs, *_, infos = env.step(np.zeros(2, np.int64))
        assert bool(_iter_final_info_entries(infos)) == (index == 2)
    assert obs.tolist() == [[0.0], [0.0]]
    assert [last.tolist() for last in _extract_final_observations(infos, 2)] == [[3.0], [3.0]]
    assert _extract_episode_returns(infos) == [(0, 3.0), (1, 3.0)]
