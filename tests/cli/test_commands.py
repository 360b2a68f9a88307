"""`eval`, `envs`, `plot` and `doctor`."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from fastrl.cli import doctor_checks
from fastrl.cli.arguments import print_json
from fastrl.cli.doctor_checks import DoctorFinding, examine, guarded
from fastrl.cli.main import main


@pytest.fixture
def run(counting):
    for steps in ("20", "40"):
        words = ["--resume", "run"] if Path("run").exists() else ["--env-id", "Known-v0", "--out-dir", "run"]
        assert main(["train", "counting", *words, "--total-steps", steps]) == 0
    return counting


# ---------------------------------------------------------------------------------------------- eval


def test_eval_prints_one_json_object_and_nothing_else(run, capfd):
    capfd.readouterr()
    assert main(["eval", "run", "--episodes", "7", "--seed", "3", "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {
        "eval/return_mean": 43.0,
        "eval/return_std": 0.0,
        "eval/return_min": 43.0,
        "eval/return_max": 43.0,
        "eval/length_mean": 7.0,
    }
    assert "a library talks" in captured.err  # what others print goes elsewhere
    assert run.made[-1].closed


def test_eval_for_people(run, capsys):
    assert main(["eval", "run"]) == 0
    assert "20 episodes: return 40.00 ± 0.00 (min 40.00, max 40.00), length 20.0\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("run", 40),
        ("run/checkpoints", 40),
        ("run/checkpoints/step-000000000020-0001", 20),
        ("run/checkpoints/", 40),
    ],
)
def test_eval_takes_a_run_or_one_of_its_checkpoints(run, capsys, path, steps):
    assert main(["eval", path]) == 0
    assert f"return {steps}.00" in capsys.readouterr().out


def test_eval_without_a_seed_does_not_take_a_default_of_the_trainer(run, monkeypatch):
    seeds, evaluate = [], run.evaluate

    def evaluate_with_a_default(trainer, n_episodes=20, seed=42):
        seeds.append(seed)
        return evaluate(trainer, n_episodes, seed)

    monkeypatch.setattr(run, "evaluate", evaluate_with_a_default)
    assert main(["eval", "run"]) == main(["eval", "run", "--seed", "7"]) == 0
    assert seeds == [None, 7]


def test_eval_of_a_checkpoint_that_is_not_there(run, capsys):
    assert main(["eval", "run/checkpoints/step-000000000099-0009"]) == 2
    assert "there is no run in 'run/checkpoints/step-000000000099-0009'" in capsys.readouterr().err


def test_eval_of_an_algorithm_that_is_not_known(run, capsys):
    Path("run/config.toml").write_text('algorithm = "countin"\nenv_id = "Known-v0"')
    assert main(["eval", "run"]) == 2
    assert "there is no algorithm 'countin'; did you mean 'counting'?" in capsys.readouterr().err


def test_numbers_that_json_lacks_become_null(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1], "c": {"d": "ü"}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1], "c": {"d": "ü"}}


# ---------------------------------------------------------------------------------------------- plot


def test_plot_draws_several_runs(run, capsys):
    assert (
        main(["plot", "run", "run", "--out", "new/curves.svg", "--line", "optimum=50", "--title", "two runs"])
        == 0
    )
    assert capsys.readouterr().out.endswith("wrote new/curves.svg\n")
    assert "<!-- optimum -->" in Path("new/curves.svg").read_text()


def test_plot_of_a_run_without_rows(run, capsys):
    for name in ("metrics.csv", "eval.csv"):
        Path("run", name).unlink()
    assert main(["plot", "run"]) == 2
    assert "there is nothing to draw" in capsys.readouterr().err and not Path("curves.png").exists()


def test_plot_into_a_place_that_cannot_be_written(run, capsys):
    Path("file").write_text("")
    assert main(["plot", "run", "--out", "file/curves.png"]) == 2
    assert "out 'file/curves.png' cannot be written" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- envs


def test_envs_lists_ids_and_where_they_come_from(capsys):
    assert main(["envs", "proofof"]) == 0
    assert capsys.readouterr().out == "ProofofMemory-v0  fastrl\n"


def test_envs_as_json(capfd):
    assert main(["envs", "cartpole-V1", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)["environments"]
    assert {"id": "CartPole-v1", "source": "envpool"} in listed
    assert all("cartpole-v1" in entry["id"].lower() for entry in listed)


def test_envs_that_match_nothing(capsys):
    assert main(["envs", "ProofofMemori"]) == 2
    assert (
        "no environment's id contains 'ProofofMemori'; did you mean 'ProofofMemory-v0'?"
        in capsys.readouterr().err
    )
    assert main(["envs", "ProofofMemori", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"environments": []}


class _TooFar(gym.Env):
    """Its observation is not in its space, unless an option says so."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def __init__(self, scale=3.0):
        self.scale = scale

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.scale * self.np_random.uniform(0.8, 1, 2).astype(np.float32), {}

    def step(self, action):
        return self.scale * self.np_random.uniform(0.8, 1, 2).astype(np.float32), 1.0, False, False, {}


@pytest.fixture
def too_far():
    gym.register("TooFar-v0", entry_point=_TooFar, max_episode_steps=9)
    yield "TooFar-v0"
    del gym.registry["TooFar-v0"]


def test_envs_check_says_what_does_not_fit(too_far, capsys):
    assert main(["envs", "check", too_far, "--steps", "50"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("TooFar-v0: look at this in 50 random steps, 5 episodes ended (1 warning, ")
    assert (
        "warning  observations  the observation at [0] was 2." in text
        and "its space declares -1 to 1" in text
    )
    assert main(["envs", "check", too_far, "--steps", "50", "--env-kwargs", "scale=0.5"]) == 0
    assert "nothing wrong found" in capsys.readouterr().out


def test_envs_check_as_json(too_far, capfd):
    assert (
        main(["envs", "check", too_far, "--json", "--steps", "20", "--max-episode-steps", "5", "--seed", "3"])
        == 1
    )
    result = json.loads(capfd.readouterr().out)
    assert (result["name"], result["ok"], result["steps"], result["episodes"]) == (too_far, False, 20, 4)
    assert {finding["level"] for finding in result["findings"]} == {"warning", "note"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "fastrl envs check: the following arguments are required: env_id"),
        (["Cartpol-v1"], "there is no environment 'Cartpol-v1'; did you mean 'CartPole-v1'?"),
        (["CartPole-v1", "--env-kwargs", "length"], "--env-kwargs: 'length' is no name=value"),
        (["CartPole-v1", "--steps", "0"], "steps must be at least 1, got 0"),
        (["CartPole-v1", "--step", "9"], "there is no argument --step; did you mean '--steps'?"),
    ],
)
def test_envs_check_of_what_is_not_there(words, message, capsys):
    assert main(["envs", "check", *words]) == 2
    assert message in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- doctor


def test_doctor_finds_this_installation_whole(capfd):
    assert main(["doctor"]) == 0
    text = capfd.readouterr().out
    for part in (
        "torch",
        "ops on the CPU",
        "gae agrees with its reference",
        "envpool",
        "gymnasium",
        "threads",
        "Everything that is",
    ):
        assert part in text


def test_doctor_as_json(capfd):
    assert main(["doctor", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["ok"] is True
    names = [finding["name"] for finding in result["findings"]]
    assert names == [
        *("fastrl", "python", "torch", "cuda", "native module", "ops on the CPU", "ops on the GPU"),
        *("envpool", "gymnasium", "threads", "wandb"),
    ]
    assert {finding["status"] for finding in result["findings"]} <= {"ok", "note"}


def problems():
    return {finding.name: finding for finding in examine() if finding.status == "problem"}


def test_doctor_says_what_to_do_about_ops_that_do_not_load(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("undefined symbol: aoti_torch_something")

    monkeypatch.setattr("fastrl.ops.gae", broken)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert (
        "PROBLEM  ops on the CPU  undefined symbol: aoti_torch_something" in text
        and "-> reinstall fastrl" in text
    )
    assert "1 problem found." in text


def test_doctor_notices_ops_that_compute_something_else(monkeypatch):
    monkeypatch.setattr("fastrl.ops.gae", lambda rewards, values, *args, **kwargs: (rewards, rewards))
    assert "differs from its reference" in problems()["ops on the CPU"].detail


def test_doctor_notices_a_torch_that_is_too_old(monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.9.1")
    finding = problems()["torch"]
    assert "2.11" in finding.detail and finding.advice == "`pip install --upgrade 'torch>=2.11'`"


def test_doctor_notices_a_build_of_another_version(monkeypatch):
    monkeypatch.setattr(doctor_checks, "__version__", "9.9")
    assert "but this is 9.9" in problems()["native module"].detail


def test_doctor_notices_missing_packages(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "envpool", None)
    finding = problems()["envpool"]
    assert "cannot be imported" in finding.detail and finding.advice == "`pip install --upgrade envpool`"


def test_a_check_that_fails_is_itself_a_finding():
    def _broken_check():
        raise ValueError("no\nidea")

    assert guarded(_broken_check) == [
        DoctorFinding("broken check", "problem", "ValueError: no idea", doctor_checks.REINSTALL)
    ]
