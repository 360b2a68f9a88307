"""The table of rows: names that --rows can pick, and settings that the algorithms have."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from fastrl.trainers.registry import ALGORITHMS


def names(scoreboard: ModuleType, *patterns: str) -> list[str]:
    return [row.name for row in scoreboard.pick(patterns)]


def test_patterns_pick_rows_by_name(scoreboard: ModuleType) -> None:
    assert names(scoreboard) == [row.name for row in scoreboard.ROWS]
    assert names(scoreboard, "vmpo/CartPole-v1") == ["vmpo/CartPole-v1"]
    assert names(scoreboard, "mpo/Pendulum-v1*") == ["mpo/Pendulum-v1", "mpo/Pendulum-v1/bfloat16"]
    assert {name.split("/")[0] for name in names(scoreboard, "*/CartPole-v1")} >= {"vmpo", "a2c", "ppo"}
    assert names(scoreboard, "*/MaskedCartPole-v1", "mpo/*/one-step") == [
        "ppo-trxl/MaskedCartPole-v1",
        "mpo/CheetahRun-v1/one-step",
    ]


def test_a_pattern_that_matches_nothing_is_named(scoreboard: ModuleType) -> None:
    with pytest.raises(ValueError, match="vmpo/cartpole"):
        scoreboard.pick(["ppo/*", "vmpo/cartpole-v1"])


def test_every_row_has_a_name_and_a_file_of_its_own(scoreboard: ModuleType) -> None:
    files = {scoreboard.results.name_of(row.algorithm, row.env_id, row.label) for row in scoreboard.ROWS}
    assert len(files) == len({row.name for row in scoreboard.ROWS}) == len(scoreboard.ROWS)


def test_every_algorithm_has_a_row(scoreboard: ModuleType) -> None:
    assert {row.algorithm for row in scoreboard.ROWS if not row.needs_gpu} == set(ALGORITHMS)


def test_the_settings_of_every_row_can_be_used(scoreboard: ModuleType) -> None:
    for row in scoreboard.ROWS:
        config = scoreboard.runs.settings(
            row.algorithm, row.env_id, row.first_seed, row.total_steps, row.changes
        )
        config.device = "cpu"  # there may be no other here
        config.check()


def test_the_list_says_what_there_is_of_each(
    scoreboard: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scoreboard.py", "--list", "--rows", "mpo/Pendulum-v1*"])
    scoreboard.main()
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["mpo/Pendulum-v1", "not yet run"], ["mpo/Pendulum-v1/bfloat16", "not yet run"]]
