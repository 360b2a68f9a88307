"""Damages metrics.csv and eval.csv in every way that comes to mind, and goes on with the run and draws it:
neither may raise.

python bench/attack/attack.py --only damaged_logs --calls 500 --seed 0
"""

from __future__ import annotations

import random
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrl.runs.csv_table import read_columns
from fastrl.runs.curve import draw_curve
from fastrl.runs.metrics import MetricsLogger

CURVE = ("rollout/ep_return_mean",)
DRAWN = 20  # one in so many is drawn too, which takes a hundred times as long as everything else


def run(calls: int, seed: int) -> dict[str, Any]:
    """Damage a run's logs `calls` times, each time anew, resume it, add rows and read them.

    Returns:
        How many `calls` were made, how many files were `set aside`, how many times the file was read whole
        (`not noticed`), and the
        `failures`: what was raised, by seed of the call.
    """
    counts: dict[str, Any] = {"calls": 0, "set aside": 0, "not noticed": 0, "failures": {}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = _a_run(Path(folder) / "good")
        for call in range(calls):
            draw = random.Random(f"{seed}-{call}")
            target = Path(folder) / str(call)
            target.mkdir()
            for name, data in good.items():
                (target / name).write_bytes(draw.choice(DAMAGES)(data, draw))
            try:
                _go_on(target, plot=call % DRAWN == 0)
            except Exception:
                counts["failures"][f"{seed}-{call}"] = traceback.format_exc(limit=-3)
            aside = len(list(target.glob("*.damaged-*.csv")))
            counts["calls"] += 1
            counts["set aside"] += aside
            counts["not noticed"] += len(good) - aside
    return counts


def _a_run(folder: Path) -> dict[str, bytes]:
    with MetricsLogger(folder, tensorboard=False) as logger:
        for step in range(10, 210, 10):
            logger.log(
                {"rollout/ep_return_mean": step / 7, "loss/policy": -1 / step, "time/env_steps_per_s": 1e4},
                env_steps=step,
            )
            if step % 50 == 0:
                logger.log_eval({"eval/return_mean": step / 3, "eval/return_std": 0.25}, env_steps=step)
    return {name: (folder / name).read_bytes() for name in ("metrics.csv", "eval.csv")}


def _go_on(folder: Path, *, plot: bool) -> None:
    if plot:
        draw_curve([folder], folder / "before.png")
    logger = MetricsLogger(folder, tensorboard=False)
    logger.resume_from(120)
    logger.log({"rollout/ep_return_mean": 1.5, "a column that comes late": 2.0}, env_steps=130)
    logger.log({"rollout/ep_return_mean": 2.5}, env_steps=140)
    logger.log_eval({"eval/return_mean": 3.0, "eval/return_std": 0.0}, env_steps=140)
    rows = read_columns(folder / "metrics.csv", *CURVE)
    if rows[-2:] != [(130.0, 1.5), (140.0, 2.5)] or logger.failed:
        raise AssertionError(f"the new rows are not in the file: {rows[-2:]}, {logger.failed}")
    if plot:
        draw_curve([folder], folder / "after.png")


# ------------------------------------------------------------------------------------------- damages


def _flip_a_bit(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _overwrite(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.randrange(1, 40)) + data[at + 40 :]


def _change_a_cell(data: bytes, draw: random.Random) -> bytes:
    lines = [line.split(b",") for line in data.split(b"\n")]
    line = draw.choice(lines)
    line[draw.randrange(len(line))] = draw.choice(CELLS)
    return b"\n".join(b",".join(line) for line in lines)


def _change_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    kind = draw.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, draw.choice(lines))
    elif kind == 2:
        draw.shuffle(lines)
    elif kind == 3:
        lines[at] += draw.choice(CELLS) + b"," * draw.randrange(1, 5)
    else:
        lines.insert(at, b"")
    return b"\n".join(lines)


CELLS = [
    *(
        b"",
        b"nan",
        b"-inf",
        b"1e999",
        b"-1",
        b"1_0",
        b" 5",
        b"0x10",
        b"\0",
        b'"',
        b'"1',
        b"\r",
        b"9" * 40,
        b"9" * 5000,
        b"1" * 200_000,
    ),
    *(
        b"5e-324",
        b"1.7e308",
        b"\xff",
        b"\xed\xa0\x80",
        "²".encode(),
        "٣".encode(),
        b"env_steps",
        b"loss/policy",
        b"rollout/ep_return_mean",
    ),
]
DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    _flip_a_bit,
    _overwrite,
    _change_a_cell,
    _change_a_cell,
    _change_lines,
    lambda data, draw: data[: draw.randrange(len(data))],
    lambda data, draw: data[draw.randrange(len(data)) :],
    lambda data, draw: b"",
    lambda data, draw: draw.randbytes(draw.randrange(1, 3000)),
    lambda data, draw: b"\0" * draw.randrange(1, 3000),
    lambda data, draw: data.decode().encode(draw.choice(["utf-16", "utf-32", "utf-8-sig"])),
    lambda data, draw: data.replace(b"\n", draw.choice([b"\r\n", b"\r", b"\n\n", b" "])),
    lambda data, draw: data.replace(b",", draw.choice([b";", b"\t", b", ", b",,"])),
    lambda data, draw: data + data,
]
