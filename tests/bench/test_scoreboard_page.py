"""docs/scoreboard.md from made-up results, its figures by hand, and the page that is checked in."""

from __future__ import annotations

import importlib
import json
import statistics
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def result(scoreboard: ModuleType, row: Any, **content: Any) -> dict[str, Any]:
    """A result of two seeds that end with 400 and 500; the first gets to 450 at no time, the second after 40
    of 80 s."""
    config = scoreboard.runs.settings(row.algorithm, row.env_id, row.first_seed, row.total_steps, row.changes)
    curves = [
        {"env_steps": [10, 20, 40], "return_mean": returns}
        for returns in ([9.0, 300.0, 400.0], [9.0, 460.0, 500.0])
    ]
    machine = {"machine": {"cores": 2, "processor": "abacus"}, "commit": "abc123"}
    figures = {
        "env_steps": 40_000,
        "final_returns": [400.0, 500.0],
        "curves": curves,
        "seconds": [90.0, 80.0],
    }
    return {
        **machine,
        "seeds": row.seeds,
        "first_seed": row.first_seed,
        **figures,
        "config": config.to_toml(row.algorithm),
    } | content


def put(
    scoreboard: ModuleType, row: Any, content: dict[str, Any], date: str = "2026-01-01", picture: bool = True
) -> None:
    folder = scoreboard.record.RESULTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{date}-{scoreboard.results.name_of(row.algorithm, row.env_id, row.label)}.json"
    path.write_text(json.dumps(content))
    if picture:
        path.with_suffix(".png").touch()


def lines_of(scoreboard: ModuleType, *rows: Any) -> list[str]:
    scoreboard.write_page(rows, scoreboard.record.RESULTS, scoreboard.PAGE)
    lines: list[str] = scoreboard.PAGE.read_text(encoding="utf-8").splitlines()
    return lines


@pytest.fixture
def row(scoreboard: ModuleType) -> Any:
    return scoreboard.Row(
        "ppo",
        "CartPole-v1",
        2,
        450,
        first_seed=11,
        published=scoreboard.pick(["a2c/CartPole-v1"])[0].published,
    )


def test_a_row_with_a_result(scoreboard: ModuleType, row: Any) -> None:
    put(scoreboard, row, result(scoreboard, row))
    zoo = "500.0 ± 0.0 (CartPole-v1, 500k steps, [RL Baselines3 Zoo](https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md))"
    name = "../results/2026-01-01-learning-ppo-CartPole-v1"
    what = f"450 [400, 500] | ≥ 450 | — (1 of 2) | {zoo} | abc123 | [curves]({name}.png) [file]({name}.json)"
    lines = lines_of(scoreboard, row)
    assert f"| CartPole-v1 | ppo | 40k | 2 (11–12) | {what} |" in lines
    assert any("2 cores of an abacus" in line for line in lines)
    easier = lines_of(scoreboard, row._replace(threshold=300))
    assert any(
        "| ≥ 300 | 42 s |" in line for line in easier
    )  # 90 · 20 / 40 and 80 · 20 / 40, the median of which is 42.5
    assert any(
        "| 450 [400, 500] | — | — |" in line for line in lines_of(scoreboard, row._replace(threshold=None))
    )


def test_a_seed_whose_seconds_are_not_known_did_get_there_all_the_same(
    scoreboard: ModuleType, row: Any
) -> None:
    row = row._replace(threshold=300)
    for seconds, expected in (
        ([None, 80.0], "40 s (of 1 of 2)"),
        ([None, None], "not known"),
        ([90.0, 80.0], "42 s"),
    ):
        put(scoreboard, row, result(scoreboard, row, seconds=seconds))
        assert any(f"| ≥ 300 | {expected} |" in line for line in lines_of(scoreboard, row))
    put(scoreboard, row, result(scoreboard, row, seconds=[None, None]))
    assert any("| — (1 of 2) |" in line for line in lines_of(scoreboard, row._replace(threshold=450)))


def test_a_result_of_a_device_that_is_not_here_is_the_rows(scoreboard: ModuleType) -> None:
    row = scoreboard.Row("ppo", "CartPole-v1", 2, 450, changes=('device="cuda:7"',), needs_gpu=True)
    put(scoreboard, row, result(scoreboard, row))
    assert scoreboard.state(row) == "done at abc123"


def test_the_newest_result_of_the_present_settings_is_taken(scoreboard: ModuleType, row: Any) -> None:
    put(scoreboard, row, result(scoreboard, row, commit="old"), "2026-01-01")
    put(scoreboard, row, result(scoreboard, row, commit=["new", "newer"]), "2026-01-02", picture=False)
    put(scoreboard, row, result(scoreboard, row, commit="fewer", seeds=1, final_returns=[1.0]), "2026-01-03")
    put(scoreboard, row._replace(label="other"), result(scoreboard, row, commit="other"), "2026-01-04")
    (line,) = [line for line in lines_of(scoreboard, row) if "| ppo |" in line]
    assert "| new, newer | [file](../results/2026-01-02-" in line
    (line,) = [
        line
        for line in lines_of(scoreboard, row._replace(changes=("learning_rate=0.5",)))
        if "| ppo |" in line
    ]
    assert "| 1 (11) | 1 | ≥ 450 |" in line and "| fewer; the row has changed since |" in line


@pytest.mark.parametrize(
    ("algorithm", "setting"),
    [("ppo", "dae_epochs=3"), ("vmpo", "dae_lambda=0.5"), ("vmpo", "advantage_lr=0.5")],
)
def test_settings_of_an_estimator_that_is_not_used_do_not_count(
    scoreboard: ModuleType, row: Any, algorithm: str, setting: str
) -> None:
    row = row._replace(algorithm=algorithm)
    for estimator, counts in (("gae", False), ("dae", True)):
        changes = (f'advantage_estimator="{estimator}"',)
        put(
            scoreboard,
            row._replace(changes=changes),
            result(scoreboard, row._replace(changes=(*changes, setting))),
        )
        (line,) = [
            line for line in lines_of(scoreboard, row._replace(changes=changes)) if f"| {algorithm} |" in line
        ]
        assert ("the row has changed since" in line) is counts


def test_rows_without_a_result_are_listed(scoreboard: ModuleType, row: Any) -> None:
    gpu = scoreboard.Row("ppo-trxl", "Pong-v5", 3, 18, total_steps=10_000_000, needs_gpu=True)
    lines = lines_of(scoreboard, row._replace(published=()), gpu)
    assert lines[lines.index("## Not yet run") + 4] == "| `ppo/CartPole-v1` | 500k | 2 (11–12) | ≥ 450 | — |"
    assert (
        lines[lines.index("## Not run: wants a GPU") + 4]
        == "| `ppo-trxl/Pong-v5` | 10M | 3 (1–3) | ≥ 18 | — |"
    )
    put(scoreboard, row, result(scoreboard, row))
    assert "## Not yet run" not in lines_of(scoreboard, row, gpu)


def test_bootstrap_intervals_by_hand(scoreboard: ModuleType) -> None:
    bootstrap = scoreboard.results.bootstrap
    assert bootstrap([3.0, 3.0, 3.0]) == [3.0, 3.0]
    assert bootstrap([0.0, 1.0]) == [0.0, 1.0]  # a quarter of the resamples are (0, 0), another (1, 1)
    # of ten draws, at most 2 ones come with probability 0.930, at most 3 with 0.987
    assert bootstrap([0.0] * 9 + [1.0]) == pytest.approx([0.0, 0.3])
    assert bootstrap([1.0, 5.0, 7.0, 20.0]) == bootstrap([1.0, 5.0, 7.0, 20.0])


def test_the_result_has_both_intervals(scoreboard: ModuleType) -> None:
    found = scoreboard.results.summarize([1.0, 2.0, 3.0])
    assert found["final_return_mean"] == 2.0 and found["bootstrap_95"] == [1.0, 3.0]
    assert found["interval_95"] == pytest.approx([2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5])


@pytest.mark.parametrize(("seeds", "factor"), [(2, 12.706), (7, 2.447), (9, 2.306), (12, 2.262), (40, 2.093)])
def test_every_number_of_seeds_has_an_interval(scoreboard: ModuleType, seeds: int, factor: float) -> None:
    finals = [float(seed) for seed in range(seeds)]
    low, high = scoreboard.results.summarize(finals)["interval_95"]
    assert high - low == pytest.approx(2 * factor * statistics.stdev(finals) / seeds**0.5)


def test_one_seed_has_none(scoreboard: ModuleType) -> None:
    assert json.loads(json.dumps(scoreboard.results.summarize([3.0]), allow_nan=False))["interval_95"] is None


@pytest.mark.parametrize(
    ("threshold", "returns", "seconds", "expected"),
    [
        (5.0, [0.0, 5.0, 9.0], 80.0, 40.0),
        (5.0, [6.0, 0.0, 0.0], 80.0, 20.0),  # that it falls again does not count
        (-3.0, [-9.0, -4.0, -3.0], 80.0, 80.0),
        (5.0, [0.0, 4.9, 4.99], 80.0, None),
        (1.185, [1.1849999999999998, 0.0, 0.0], 80.0, 20.0),  # a mean's rounding
        (5.0, [9.0, 9.0, 9.0], None, None),
    ],
)
def test_time_to_threshold_by_hand(
    scoreboard: ModuleType,
    threshold: float,
    returns: list[float],
    seconds: float | None,
    expected: float | None,
) -> None:
    assert (
        scoreboard.results.time_to(threshold, {"env_steps": [10, 20, 40], "return_mean": returns}, seconds)
        == expected
    )


def test_numbers_are_written_as_people_read_them(scoreboard: ModuleType) -> None:
    page = importlib.import_module("page")
    assert [page.number(value) for value in (0.89594, -191.2, 500.0, 2113.18, -1234.6)] == [
        "0.8959",
        "−191.2",
        "500",
        "2,113",
        "−1,235",
    ]
    assert [page.steps(count) for count in (15_444, 501_460, 999_999, 2_049_918)] == [
        "15.4k",
        "501k",
        "1M",
        "2.05M",
    ]
    assert [page.duration(seconds) for seconds in (0.38, 44.4, 299, 1500, 9000)] == [
        "0.38 s",
        "44 s",
        "299 s",
        "25 min",
        "2.5 h",
    ]


def test_the_page_that_is_checked_in_is_that_of_the_results(scoreboard: ModuleType) -> None:
    page = ROOT / "docs" / "scoreboard.md"
    text = importlib.import_module("page").text_of(scoreboard.ROWS, ROOT / "bench" / "results", page)
    assert page.read_text(encoding="utf-8") == text, (
        "python bench/learning/scoreboard.py --page writes it anew"
    )
