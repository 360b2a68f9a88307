"""The learning curve: drawn from the files of one run or several."""

import math
import subprocess
import sys

import pytest

from fastrl.runs.curve import draw_curve
from fastrl.runs.metrics import MetricsLogger


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run-a"
    logger = MetricsLogger(folder, tensorboard=False)
    for step in (10, 20, 30):
        logger.log({"rollout/ep_return_mean": step / 10} if step > 10 else {"loss": 1.0}, env_steps=step)
    logger.log_eval({"eval/return_mean": 2.0, "eval/return_std": 0.5}, env_steps=30)
    return folder


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_picture_has_the_format_of_its_name(run, tmp_path, suffix, start):
    out = tmp_path / "new" / f"curve{suffix}"
    assert draw_curve([run, run], out, reference_lines={"optimum": 1.2}, title="two")
    assert out.read_bytes().startswith(start)
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


def test_what_is_drawn(run, tmp_path):
    draw_curve([run], tmp_path / "curve.svg", reference_lines={"optimum": 1.2})
    drawn = (tmp_path / "curve.svg").read_text()
    for comment in ("run-a", "training", "evaluation", "optimum", "environment steps", "episode return"):
        assert f"<!-- {comment} -->" in drawn


def test_nothing_to_draw_writes_nothing(tmp_path):
    assert draw_curve([tmp_path], tmp_path / "curve.png") is False
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, fastrl.runs.curve, fastrl.runs.metrics; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numbers_that_no_axis_holds_are_left_out(tmp_path):
    folder = tmp_path / "run"
    logger = MetricsLogger(folder, tensorboard=False)
    for step, value in enumerate((1.0, math.nan, math.inf, -1.7e308, 2.0)):
        logger.log({"rollout/ep_return_mean": value}, env_steps=step)
        logger.log_eval(
            {"eval/return_mean": value, "eval/return_std": -1.0 if step == 4 else 0.5}, env_steps=step
        )
    assert draw_curve([folder], tmp_path / "curve.svg")


def test_dollars_are_no_formula(tmp_path, run):
    named = run.rename(tmp_path / "$\\bad$")
    assert draw_curve(
        [named, named], tmp_path / "curve.svg", reference_lines={"$\\worse$": 1.0}, title="$\\worst$"
    )
