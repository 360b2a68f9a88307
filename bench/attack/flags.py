"""Gives `fastrl train` flags and configuration files that nobody would write: each ends with exit code 0, 1
or 2 and one sentence.

    python bench/attack/attack.py --only flags --calls 300 --seed 0

Values are of wrong types, signs and alphabets, not finite, empty, nested or long. Sizes above a thousand are
not tried: what a machine has room for is another matter. What a run may do after a good start is one rollout.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from fastrl.cli.main import main
from fastrl.runs.config import field_types
from fastrl.testing.small_settings import small_settings
from fastrl.trainers.registry import ALGORITHMS, find_algorithm

LONGEST = 60  # seconds of one call
FEW = {"total_steps": 16, "eval_episodes": 1}
SIZES = (
    "threads",
    "env_threads",
    "num_envs",
    "total_steps",
    "eval_episodes",
)  # never more than a few: they cost time, not thought
ENVIRONMENTS = (
    "Identity-v0 Counter-v0 LinearQuadratic-v0 Catch-v0 CartPole-v1 Pendulum-v1 Nothing-v7 ALE/ a:b".split()
    + ["", " "]
)
NUMBERS = "0 -1 1 2 3 0.5 -0.5 1e-30 1e30 1e400 nan inf -inf -0.0 1_0 7.0 1e1".split() + [
    "9" * 40,
    "9" * 5000,
]
WORDS = [
    *"none None true false yes ² ٣ １ é -- - = a=b [1] {} ../.. /dev/null".split(),
    *"cpu cuda cuda:0 cuda:-1 cpu:7 adam gae dae $HOME %s {0}".split(),
    *("", " ", "\n", "\t", "'", '"', "\\", "a=1 b", "a" * 3000, "\u202e", "\udcff"),
]
TOML = [
    *"nan inf -inf 0 -1 2 0.5 1e300 0x10 1_000 true false 1979-05-27 07:32:00".split(),
    *"[] [0] [-1] [1.5] [[1]] [true] [inf] {} [[[[]]]]".split(),
    *(
        '""',
        "''",
        '"none"',
        '"²"',
        '["a"]',
        "[1, 2]",
        "{a = 1}",
        "{a = nan}",
        "{a = []}",
        "{a = [1, 'b']}",
        "{a = {b = [1]}}",
        "{'' = 1}",
    ),
    *(
        '"\\u0000"',
        "{env_id = 1}",
        '"' + "x" * 3000 + '"',
        "[" * 2000 + "]" * 2000,
        "9" * 25,
        "9" * 5000,
        "0x" + "f" * 5000,
    ),
]


class _TookTooLong(BaseException):
    """A call that does not end."""


def run(calls: int, seed: int) -> dict[str, Any]:
    """Make `calls` calls of the command line in this process.

    Returns:
        How many `calls` were made, how many gave each exit code, and the `failures`: flags and what was
            raised, by seed of the call.
    """
    codes: Counter[str] = Counter()
    failures: dict[str, Any] = {}
    names = list(ALGORITHMS)
    with tempfile.TemporaryDirectory() as folder, _in_folder(Path(folder)):
        for call in range(calls):
            draw = random.Random(f"{seed}-{call}")
            words = _words(names[call % len(names)], Path(folder), draw)
            code, complaint = _call(words)
            codes[code] += 1
            if complaint:
                failures[f"{seed}-{call}"] = {"words": [word[:100] for word in words], "complaint": complaint}
    return {"calls": calls, "exit codes": dict(codes), "failures": failures}


def _call(words: list[str]) -> tuple[str, str]:
    """(exit code, what was wrong with it)."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            with _limited(LONGEST):
                code: Any = main(words)
        except SystemExit as end:
            code = end.code
        except _TookTooLong:
            return "none", f"took more than {LONGEST} s"
        except Exception:
            return "traceback", traceback.format_exc(limit=-4)
    said = [
        line
        for line in errors.getvalue().splitlines()
        if line.startswith("fastrl: ") and not line.startswith("fastrl: warning")
    ]
    if code not in (0, 1, 2) or (code != 0 and len(said) != 1):
        return str(code), f"exit code {code} after {errors.getvalue()[:500]!r}"
    return str(code), ""


def _words(algorithm: str, folder: Path, draw: random.Random) -> list[str]:
    """Arguments of one call: good ones, of which a few are replaced, as flags or in a file."""
    config_class = find_algorithm(algorithm).config_class()
    hints = field_types(config_class)
    settings = small_settings(config_class, **FEW)
    file = folder / f"{draw.getrandbits(64):x}.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    words: list[str] = []
    for name in draw.sample(list(hints), draw.choice([1, 1, 1, 2, 3])):
        if draw.random() < 0.5:
            lines = [line for line in lines if not line.startswith(f"{name} = ")]
            lines.append(
                f"{draw.choice([name, name, name, name.upper(), name + '.a'])} = {_toml(name, draw)}"
            )
        else:
            words += _flag(name, draw)
    text = "\n".join(lines).encode(errors="surrogateescape")
    if draw.random() < 0.1:
        text = draw.choice(_spoiled(text, draw))
    file.write_bytes(text)
    return [
        "train",
        algorithm,
        "--config",
        str(file),
        "--out-dir",
        str(folder / f"run-{draw.getrandbits(64):x}"),
        *words,
    ]


def _spoiled(text: bytes, draw: random.Random) -> list[bytes]:
    """What a file may become as a whole."""
    cut = text[: draw.randrange(len(text))]
    return [
        text + b"\n# \xff",
        cut,
        b"\xef\xbb\xbf" + text,
        text + text,
        b"",
        b"\0",
        text + b"\n[env_kwargs]\n",
    ]


def _flag(name: str, draw: random.Random) -> list[str]:
    flag = f"--{draw.choice([name, name.replace('_', '-'), name.replace('_', '-'), 'no-' + name])}"
    values = [_value(name, draw) for _ in range(draw.choice([0, 1, 1, 1, 1, 2, 3]))]
    return [f"{flag}={' '.join(values)}"] if draw.random() < 0.2 else [flag, *values]


def _value(name: str, draw: random.Random) -> str:
    if name == "env_id":
        return draw.choice(ENVIRONMENTS)
    if name == "env_kwargs" and draw.random() < 0.6:
        return f"{draw.choice(['length', 'end', 'num_actions', 'x', ''])}={draw.choice(NUMBERS[:9] + WORDS)}"
    chosen = draw.choice(NUMBERS + WORDS)
    return (
        draw.choice(["0", "-1", "3", "nan", "", "1.5"])
        if name in SIZES and chosen.strip("9") == "" and len(chosen) > 3
        else chosen
    )


def _toml(name: str, draw: random.Random) -> str:
    chosen = (
        json.dumps(draw.choice(ENVIRONMENTS))
        if name == "env_id" and draw.random() < 0.5
        else draw.choice(TOML)
    )
    return "3" if name in SIZES and chosen in ("1e300", "1_000") else chosen


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raises `_TookTooLong` when that many seconds have gone by."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
