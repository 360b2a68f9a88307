"""Cores are counted as this process may use them."""

import pytest

from fastrl import machine


def test_cores_are_counted_within_the_limits_of_affinity_and_container(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_control_group_cores", lambda: None)
    assert machine.available_cores() == 8
    monkeypatch.setattr(machine, "_control_group_cores", lambda: 3)
    assert machine.available_cores() == 3


@pytest.mark.parametrize(("content", "expected"), [("max 100000\n", None), ("250000 100000\n", 2), ("50000 100000\n", 1), ("broken", None)])
def test_a_container_that_limits_cores(monkeypatch, tmp_path, content, expected):
    (tmp_path / "cpu.max").write_text(content)
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    assert machine._control_group_cores() == expected
