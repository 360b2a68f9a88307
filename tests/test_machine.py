"""Cores are counted as this process may use them."""

import os

import pytest

from fastrl import machine
from fastrl.errors import SettingError


def test_cores_are_counted_within_the_limits_of_affinity_and_container(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_control_group_cores", lambda: None)
    assert machine.available_cores() == 8
    monkeypatch.setattr(machine, "_control_group_cores", lambda: 3)
    assert machine.available_cores() == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000\n", None), ("250000 100000\n", 2), ("50000 100000\n", 1), ("broken", None)],
)
def test_a_container_that_limits_cores(monkeypatch, tmp_path, content, expected):
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    assert machine._control_group_cores() == expected


def test_counts_have_bounds(monkeypatch):
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    for count in (None, 1, 64):
        machine.require_threads("threads", count)
    with pytest.raises(SettingError, match="threads must be at most 64 on this machine with 2 cores, got 65"):
        machine.require_threads("threads", 65)
    monkeypatch.setattr(machine, "available_cores", lambda: 100)
    machine.require_threads("env_threads", 400)
    with pytest.raises(SettingError, match="num_envs must be at most 1,048,576 environments"):
        machine.require_envs(2**20 + 1)
    with pytest.raises(SettingError, match="num_envs must be at least 1, got 0"):
        machine.require_envs(0)


def test_a_limit_of_the_process_counts(monkeypatch, tmp_path):
    import resource

    statm = tmp_path / "statm"
    statm.write_text("10 5 3 1 0 2 0\n")
    monkeypatch.setattr(machine, "STATM", statm)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**20, 2**20))
    assert machine.available_memory() == 2**20 - 10 * os.sysconf("SC_PAGE_SIZE")
