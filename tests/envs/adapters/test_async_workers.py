"""Environments in worker processes: the one that fails is named, and closing ends every process."""

import os
import signal
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv

from fastrl.envs import EnvironmentFailure, make_vector_env
from fastrl.envs.adapters.workers import Workers
from fastrl.errors import NonFiniteError


class Worker(gym.Env):
    """Its third step does `act`."""

    observation_space = gym.spaces.Box(-1, 1, (3,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, act=lambda: None):
        self.act, self.steps = act, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        reward = self.act() if self.steps == 3 else None
        return np.zeros(3, np.float32), reward or 0.0, False, False, {}


def fail():
    raise FloatingPointError("joint limit")


def make(act, wrap=lambda env: env):
    return make_vector_env(wrap(AsyncVectorEnv([Worker, lambda: Worker(act), Worker])), seed=3)


def run(env):
    """Three steps; afterwards all processes are gone, whatever came of it."""
    processes = Workers.of(env.env).env.processes
    try:
        env.reset()
        for _ in range(3):
            env.step(torch.zeros(3, dtype=torch.int64))
    finally:
        env.close()
        assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: os._exit(7), "its worker process ended with exit code 7"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "its worker process was ended by SIGKILL"),
        (fail, "FloatingPointError: joint limit"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda env: env, gym.wrappers.vector.RecordEpisodeStatistics], ids=["bare", "wrapped"]
)
def test_a_worker_that_fails_is_named(act, words, wrap):
    with pytest.raises(
        EnvironmentFailure, match=rf"environment 1 of AsyncVectorEnv failed at step 2 \(seed \d+\): {words}"
    ):
        run(make(act, wrap))


def test_a_worker_that_hangs_is_named_and_ended():
    env = make(lambda: time.sleep(60))
    env.timeout = 0.3
    worker = Workers.of(env.env).env.processes[1]
    with pytest.raises(
        EnvironmentFailure,
        match=r"environment 1 of AsyncVectorEnv failed at step 2 .*: no answer within 0.3 s",
    ):
        run(env)
    assert worker.exitcode == -signal.SIGKILL


def test_a_number_of_a_worker_that_is_not_finite_is_named():
    with pytest.raises(
        NonFiniteError,
        match=r"environment 1 of AsyncVectorEnv \(seed \d+\) returned a non-finite reward at step 2",
    ):
        run(make(lambda: float("inf")))


def test_workers_close_their_environments_before_they_end(tmp_path):
    class Tidy(Worker):
        def close(self):
            (tmp_path / str(os.getpid())).touch()

    env = make_vector_env(AsyncVectorEnv([Tidy, Tidy]))
    pids = [process.pid for process in env.env.processes]
    env.reset()
    env.close()
    assert all((tmp_path / str(pid)).exists() for pid in pids)
