"""`fastrl` as users run it, in processes of its own, with V-MPO on environments with a known optimum."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from fastrl.cli.main import main
from fastrl.runs.checkpoint import load_checkpoint

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = [
    "--num-envs",
    "4",
    "--num-steps",
    "16",
    "--m-steps",
    "2",
    "--policy-layer-sizes",
    "8",
    "--value-layer-sizes",
    "8",
]
OFTEN = ["--eval-interval", "1024", "--save-interval", "192", "--eval-episodes", "4"]


def fastrl(*words: str, code: int = 0) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "fastrl", *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=120
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout if code == 0 else result.stderr


def train(run: Path, *words: str) -> str:
    return fastrl("train", "vmpo", "--env-id", "Identity-v0", *SMALL, *OFTEN, "--out-dir", str(run), *words)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return [
            {name: value for name, value in row.items() if not name.startswith("time/")}
            for row in csv.DictReader(stream)
        ]


def newest(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "LATEST").read_text().split()[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of 4096 steps without interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(run, "--total-steps", "4096")
    return run


def test_a_run_folder_holds_everything(whole):
    names = {entry.name for entry in whole.iterdir()}
    assert {"config.toml", "metrics.csv", "eval.csv", "curve.png", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert {entry.name for entry in newest(whole).iterdir()} == {
        "state.json",
        "tensors.safetensors",
        "manifest.json",
    }


def test_the_weights_open_with_safetensors_alone(whole):
    with safe_open(newest(whole) / "tensors.safetensors", "pt") as file:
        assert len(file.keys()) > 10


def test_eval_is_repeatable_and_its_json_is_all_of_stdout(whole, capfd):
    words = ["eval", str(whole), "--episodes", "6", "--seed", "5", "--json"]
    first = fastrl(*words)
    assert main(words) == 0
    assert first == capfd.readouterr().out and first.count("\n") == 1
    assert set(json.loads(first)) == {
        "eval/return_mean",
        "eval/return_std",
        "eval/return_min",
        "eval/return_max",
        "eval/length_mean",
    }


def test_a_run_stopped_by_sigterm_and_resumed_equals_an_uninterrupted_one(whole, tmp_path):
    """Bit for bit: the whole checkpoint, and the logs but for their times."""
    run = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "fastrl",
        "train",
        "vmpo",
        "--env-id",
        "Identity-v0",
        *SMALL,
        *OFTEN,
        "--out-dir",
        str(run),
    ]
    process = subprocess.Popen(
        [*words, "--total-steps", "4096"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    while not (run / "metrics.csv").exists():  # it has begun to learn
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert f"checkpoint saved; continue with: fastrl train vmpo --resume {run}" in output
    assert load_checkpoint(run / "checkpoints")["env_steps"] < 4096

    fastrl("train", "vmpo", "--resume", str(run))
    assert rows(run / "metrics.csv") == rows(whole / "metrics.csv")
    for name in ("tensors.safetensors", "state.json"):
        assert (newest(run) / name).read_bytes() == (newest(whole) / name).read_bytes()


SIGNALS = """
    import os, random, signal, sys, threading, time
    from pathlib import Path
    from fastrl.cli.main import main
    from fastrl.runs.checkpoint import load_checkpoint
    words = ["train", "vmpo", "--env-id", "Identity-v0", *sys.argv[2:], "--total-steps", "1000000000"]
    random.seed(0)
    for attempt in range(30):
        run = Path(sys.argv[1]) / str(attempt)
        number = random.choice([signal.SIGINT, signal.SIGTERM])

        def send():
            while not run.exists():
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.12))
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=send)
        thread.start()
        code = main([*words, "--out-dir", str(run)])
        thread.join()
        assert code == 128 + number, code
        load_checkpoint(run / "checkpoints")
    print("all saved")
"""


def test_thirty_signals_at_random_phases_leave_thirty_checkpoints(tmp_path):
    script = [sys.executable, "-W", "error", "-c", textwrap.dedent(SIGNALS), str(tmp_path), *SMALL, *OFTEN]
    result = subprocess.run(script, capture_output=True, text=True, env=ENVIRONMENT, timeout=200)
    assert result.returncode == 0 and result.stdout.endswith("all saved\n"), (
        result.stdout[-2000:] + result.stderr[-4000:]
    )


def test_a_killed_run_goes_on_from_its_last_checkpoint(whole, tmp_path):
    run = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "fastrl",
        "train",
        "vmpo",
        "--env-id",
        "Identity-v0",
        *SMALL,
        *OFTEN,
        "--out-dir",
        str(run),
    ]
    process = subprocess.Popen(
        [*words, "--total-steps", "100000000"], stdout=subprocess.DEVNULL, env=ENVIRONMENT
    )
    while not (run / "checkpoints" / "LATEST").exists():
        time.sleep(0.001)
    time.sleep(random.Random(1).uniform(0.0, 0.2))
    process.kill()
    process.wait()
    reached = load_checkpoint(run / "checkpoints")["env_steps"]
    output = fastrl("train", "vmpo", "--resume", str(run), "--total-steps", str(reached + 200))
    assert f"continuing at {reached:,} of" in output
    steps = [int(row["env_steps"]) for row in rows(run / "metrics.csv")]
    assert steps == sorted(set(steps)) and steps[-1] >= reached + 200


def test_environments_that_cannot_save_their_state_resume_too(tmp_path):
    run = tmp_path / "run"
    fastrl(
        "train",
        "vmpo",
        "--env-id",
        "CartPole-v1",
        *SMALL,
        "--out-dir",
        str(run),
        "--total-steps",
        "300",
        "--eval-episodes",
        "2",
    )
    reached = load_checkpoint(run / "checkpoints")["env_steps"]
    output = fastrl("train", "vmpo", "--resume", str(run), "--total-steps", "600")
    assert f"continuing at {reached:,} of 600" in output and "finished at" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env-id", "CartPol-v1"], "did you mean 'CartPole-v1'?"),
        (["--env-id", "Identity-v0", "--gamma", "2"], "gamma"),
        (["--env-id", "Identity-v0", "--advantage-estimator", "dea"], "advantage_estimator"),
        (["--env-id", "Identity-v0", "--num-steps", "0"], "num_steps must be at least 1"),
        (["--env-id", "Identity-v0", "--optimizer-type", "adm"], "optimizer_type"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, capsys, words, message):
    assert main(["train", "vmpo", *words, "--out-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("fastrl: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
