"""`fastrl` with PPO-TrXL: train, go on, evaluate; mistakes in one sentence."""

import json

import pytest

from fastrl.cli.main import main
from fastrl.runs.checkpoint import load_checkpoint

SMALL = [
    "--num-envs",
    "4",
    "--num-steps",
    "16",
    "--num-minibatches",
    "2",
    "--trxl-dim",
    "8",
    "--trxl-memory-length",
    "8",
]


def train(run, *words):
    return main(
        [
            "train",
            "ppo-trxl",
            "--env-id",
            "ProofofMemory-v0",
            *SMALL,
            "--out-dir",
            str(run),
            "--eval-episodes",
            "4",
            *words,
        ]
    )


def test_train_resume_and_eval(tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "--total-steps", "300", "--save-interval", "100") == 0
    reached = load_checkpoint(run / "checkpoints")["env_steps"]
    assert 300 <= reached < 400
    assert main(["train", "ppo-trxl", "--resume", str(run), "--total-steps", "600"]) == 0
    assert load_checkpoint(run / "checkpoints")["env_steps"] >= 600
    assert {"config.toml", "metrics.csv", "eval.csv", "curve.png", "checkpoints"} <= {
        entry.name for entry in run.iterdir()
    }
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert {
        "loss/policy",
        "loss/value",
        "train/approx_kl",
        "train/entropy",
        "train/learning_rate",
        "train/explained_variance",
    } <= set(header.split(","))
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "6", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"eval/return_mean", "eval/length_mean"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--trxl-memory-length", "17"],
            "trxl_memory_length must be at most the longest episode, 16 steps, got 17",
        ),
        (["--trxl-num-heads", "3"], "trxl_num_heads must divide trxl_dim"),
        (["--num-minibatches", "7"], "num_minibatches must divide"),
        (["--trxl-positional-encoding", "relatve"], "did you mean 'relative'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(tmp_path, capsys, words, message):
    assert train(tmp_path / "run", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("fastrl: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
