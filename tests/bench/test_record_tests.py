"""What is stored about a run of tests is what the run said."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def record_tests(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "record", raising=False)
    spec = importlib.util.spec_from_file_location("record_tests", BENCH / "record_tests.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outcomes_of_a_run(record_tests: object, tmp_path: Path) -> None:
    junit = tmp_path / "run.xml"
    junit.write_text(
        '<testsuites><testsuite><testcase classname="tests.a" name="good" time="1.26"/>'
        '<testcase classname="tests.a" name="left" time="0"><skipped message="no GPU"/></testcase>'
        '<testcase classname="tests.b" name="bad" time="2"><failure message="assert 1 == 2">long</failure>'
        "</testcase>"
        "</testsuite></testsuites>"
    )
    assert record_tests.outcomes(junit) == [  # type: ignore[attr-defined]
        {"test": "tests.a::good", "outcome": "passed", "seconds": 1.3},
        {"test": "tests.a::left", "outcome": "skipped", "reason": "no GPU", "seconds": 0.0},
        {"test": "tests.b::bad", "outcome": "failure", "reason": "assert 1 == 2", "seconds": 2.0},
    ]
