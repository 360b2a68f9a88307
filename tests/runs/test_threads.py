"""Threads: never more than the machine has unless the user says so."""

import pytest

from fastrl.errors import SettingError
from fastrl.runs import threads
from fastrl.runs.threads import SMALL_NETWORK, choose_threads


@pytest.fixture(params=[1, 2, 4, 64])
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: request.param)
    return request.param


@pytest.mark.parametrize("num_envs", [1, 7, 16, 1024])
@pytest.mark.parametrize("parameters", [None, 1000, SMALL_NETWORK, 10**9])
def test_the_choice_fits_the_machine(cores, num_envs, parameters):
    choice = choose_threads(num_envs, parameters=parameters)
    assert choice.torch >= 1 and 1 <= choice.env <= max(1, num_envs)
    # one thread of torch is the process's own, which waits while environments step
    assert (choice.torch if choice.torch > 1 else 0) + choice.env <= max(cores, 2 if cores > 1 else 1)


def test_small_networks_get_one_thread(cores):
    assert choose_threads(64).torch == choose_threads(64, parameters=SMALL_NETWORK - 1).torch == 1


def test_large_networks_get_half_the_cores(cores):
    assert choose_threads(64, parameters=SMALL_NETWORK).torch == max(1, cores // 2)


def test_few_environments_get_few_threads(cores):
    assert choose_threads(1).env == 1
    assert choose_threads(1024).env == cores


def test_the_user_has_the_last_word(cores):
    choice = choose_threads(4, threads=3, env_threads=5)
    assert (choice.torch, choice.env) == (3, 5)
    assert choose_threads(1024, threads=2).env == max(1, cores - 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": 1, "threads": 0}, "threads must be at least 1, got 0"),
        ({"num_envs": 1, "env_threads": -2}, "env_threads must be at least 1, got -2"),
    ],
)
def test_impossible_counts(arguments, message):
    with pytest.raises(SettingError, match=message):
        choose_threads(**arguments)


def test_the_description_is_one_line(cores):
    assert (
        str(choose_threads(16, threads=1, env_threads=2))
        == f"threads: torch 1, environments 2 (of {cores} cores)"
    )
