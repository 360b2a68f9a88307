"""Memory is counted before it is taken."""

import pytest

from fastrl import machine
from fastrl.errors import SettingError
from fastrl.machine import available_memory, in_words, require_memory


def test_what_fits_is_a_line(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 10_000)
    assert require_memory({"rollout": 5_000, "replay": 4_000}, "num_envs") == "rollout 5.0 kB, replay 4.0 kB"


def test_what_does_not_fit_names_the_settings(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 10_000)
    message = (
        "num_envs or num_steps too large: rollout 9.1 kB of memory on cpu, but only 10.0 kB are available"
    )
    with pytest.raises(SettingError, match=message):
        require_memory({"rollout": 9_100}, "num_envs or num_steps")


def test_a_system_that_does_not_tell_refuses_nothing(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: None)
    assert require_memory({"rollout": 10**18}, "num_envs") == "rollout 1,000,000.0 TB"


def test_the_container_limits_the_machine(monkeypatch, tmp_path):
    meminfo, limit, use = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    for name, path in (("MEMINFO", meminfo), ("GROUP_LIMIT", limit), ("GROUP_USE", use)):
        monkeypatch.setattr(machine, name, path)
    assert available_memory() is None
    meminfo.write_text("MemTotal: 8 kB\nMemAvailable:    4 kB\n")
    assert available_memory() == 4096
    limit.write_text("3000\n")
    use.write_text("1000\n")
    assert available_memory() == 2000
    limit.write_text("max\n")
    assert available_memory() == 4096


def test_this_machine_has_memory():
    found = available_memory()
    assert found is None or 2**20 < found < 2**50


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_540_000_000, "1.5 GB")]
)
def test_units(size, words):
    assert in_words(size) == words
