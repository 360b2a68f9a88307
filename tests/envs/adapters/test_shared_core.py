"""Threads that share a core while one steps environments and the other waits."""

import os
import threading

import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.adapters.shared_core import new_threads, on_one_core

LINUX = hasattr(os, "sched_setaffinity")
needs_affinity = pytest.mark.skipif(not LINUX, reason="this system does not let a process choose its cores")


@pytest.fixture
def sleeper():
    wake = threading.Event()
    thread, ids = new_threads(lambda: _started(threading.Thread(target=wake.wait)))
    yield ids
    wake.set()
    thread.join()


def _started(thread):
    thread.start()
    return thread


@needs_affinity
def test_new_threads_are_told_apart(sleeper):
    assert len(sleeper) == 1 and sleeper[0] != threading.get_native_id()


@needs_affinity
def test_threads_share_one_core_inside_and_are_free_again_afterwards(sleeper):
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), on_one_core(sleeper):
        inside = os.sched_getaffinity(0)
        assert len(inside) == 1 and inside <= before and os.sched_getaffinity(sleeper[0]) == inside
        raise KeyError
    assert os.sched_getaffinity(0) == before and os.sched_getaffinity(sleeper[0]) == before


@needs_affinity
def test_a_thread_that_is_gone_changes_nothing(sleeper):
    with on_one_core([2**22 + 1]):  # more than any system hands out
        assert os.sched_getaffinity(0)


@pytest.mark.parametrize("threads", [1, 2])
def test_environments_step_the_same_inside(threads):
    pytest.importorskip("envpool", reason="EnvPool is not installed")

    def observe(inside):
        with make_vector_env("CartPole-v1", 4, seed=3, num_threads=threads) as env:
            seen = [env.reset()]
            actions = torch.tensor([0, 1, 1, 0])
            with env.many_steps() if inside else torch.no_grad():
                seen += [env.step(actions).obs for _ in range(30)]
            return torch.stack(seen)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(observe(True), observe(False))
    finally:
        torch.set_num_threads(before)
