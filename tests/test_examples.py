"""The examples run as they stand, for a few iterations."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("envpool", reason="the examples step EnvPool environments")

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "vanilla_pg_cartpole.py": ["1500"],
    "ppo_halfcheetah.py": ["2048", "run"],
    "network_from_config.py": ["2048"],
    "ppo_trxl_attention.py": ["--total-steps", "2048"],
}


def run(name, arguments, folder):
    """What an example prints, run in a folder of its own."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


def test_the_policy_gradient_on_cartpole(tmp_path):
    out = run("vanilla_pg_cartpole.py", ARGUMENTS["vanilla_pg_cartpole.py"], tmp_path)
    assert out.startswith("Writing logs to: runs/vanilla_pg_cartpole\n")
    assert (
        8
        < float(
            re.search(r"Return of 20 episodes with the most probable actions: ([\d.]+) of at most 500", out)[
                1
            ]
        )
        <= 500
    )
    source = (EXAMPLES / "vanilla_pg_cartpole.py").read_text()
    assert (
        len(
            [
                line
                for line in source.splitlines()
                if line.strip() and not line.startswith(("import", "from", '"""'))
            ]
        )
        <= 20
    )


def test_ppo_on_halfcheetah_leaves_a_run_that_goes_on(tmp_path):
    steps = []
    for arguments in (["2048", "run"], ["4096", "run"]):
        out = run("ppo_halfcheetah.py", arguments, tmp_path)
        steps.append(int(re.search(r"(\d+) steps are in run", out)[1]))
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        assert [int(row["env_steps"]) for row in csv.DictReader(file)] == steps == [2048, 4096]
    assert {"config.toml", "eval.csv", "curve.png", "checkpoints"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_network_from_a_file(tmp_path):
    out = run("network_from_config.py", ARGUMENTS["network_from_config.py"], tmp_path)
    assert "(1): LayerNorm((64,)" in out and re.search(
        r"Return of 20 episodes with the most probable actions: [\d.]+", out
    )


def test_attention_of_a_transformer_is_drawn(tmp_path):
    assert run("ppo_trxl_attention.py", ARGUMENTS["ppo_trxl_attention.py"], tmp_path).endswith(
        "\nattention.png\n"
    )
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
