"""`fastrl` with MPO: train, go on, evaluate; mistakes in one sentence."""

import csv
import json

import pytest

from fastrl.cli.main import main
from fastrl.runs.checkpoint import load_checkpoint

SMALL = [
    "--num-envs",
    "4",
    "--policy-layer-sizes",
    "8",
    "--critic-layer-sizes",
    "8",
    "--batch-size",
    "32",
    "--update-after",
    "100",
]
FEW = [
    "--samples-per-insert",
    "4",
    "--replay-size",
    "2000",
    "--use-retrace",
    "--retrace-steps",
    "4",
    "--log-interval",
    "100",
]


def train(run, *words, env_id="IdentityContinuous-v0"):
    return main(
        [
            "train",
            "mpo",
            "--env-id",
            env_id,
            *SMALL,
            *FEW,
            "--out-dir",
            str(run),
            "--eval-episodes",
            "4",
            *words,
        ]
    )


def rows(path):
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.startswith("time/")}
            for row in csv.DictReader(file)
        ]


def test_train_resume_and_eval(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "--total-steps", "300", "--save-interval", "100") == 0
    assert load_checkpoint(run / "checkpoints")["trainer"]["replay"] is None  # kept only if one asks for it
    assert main(["train", "mpo", "--resume", str(run), "--total-steps", "600"]) == 0
    assert load_checkpoint(run / "checkpoints")["env_steps"] >= 600
    assert {"config.toml", "metrics.csv", "eval.csv", "curve.png", "checkpoints"} <= {
        entry.name for entry in run.iterdir()
    }
    assert {"loss/q", "loss/policy", "mpo/temperature", "kl/mean", "replay/transitions"} <= set(
        rows(run / "metrics.csv")[-1]
    )
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "6", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"eval/return_mean", "eval/length_mean"}


def test_a_run_that_keeps_its_replay_goes_on_as_if_never_stopped(tmp_path):
    assert train(tmp_path / "whole", "--save-replay", "--total-steps", "800") == 0
    assert train(tmp_path / "halves", "--save-replay", "--total-steps", "400") == 0
    assert main(["train", "mpo", "--resume", str(tmp_path / "halves"), "--total-steps", "800"]) == 0
    assert rows(tmp_path / "halves" / "metrics.csv") == rows(tmp_path / "whole" / "metrics.csv")


def test_names_of_dm_control_tasks_are_taken(tmp_path):
    for number, env_id in enumerate(("dm_control/cartpole-swingup", "dm_control/cheetah/run")):
        assert (
            train(tmp_path / str(number), "--total-steps", "200", "--max-episode-steps", "50", env_id=env_id)
            == 0
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retrace-steps", "0"], "retrace_steps must be at least 1"),
        (["--batch-size", "30"], "batch_size must be a multiple of retrace_steps = 4, got 30"),
        (["--batch-size", "4000"], "batch_size must be at most replay_size = 2000, got 4000"),
        (
            ["--replay-size", "12", "--batch-size", "4"],
            "replay_size must hold at least 5 rows of 4 environments",
        ),
        (["--replay-size", "10000000000000"], "replay_size too large"),
        (["--optimizer-type", "adm"], "did you mean 'adam'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, capsys, words, message):
    assert train(tmp_path / "run", "--total-steps", "200", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("fastrl: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
