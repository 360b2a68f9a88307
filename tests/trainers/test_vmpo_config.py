"""V-MPO's settings: ranges, and what a continued run may change."""

import inspect
import math
from dataclasses import fields

import pytest

from fastrl.cli.main import main
from fastrl.errors import SettingError
from fastrl.trainers.vmpo.agent import VMPOAgent
from fastrl.trainers.vmpo.config import PRESETS, VMPOConfig
from fastrl.trainers.vmpo.trainer import VMPOTrainer

POSITIVE = [
    *(
        "policy_lr",
        "value_lr",
        "advantage_lr",
        "temperature_lr",
        "alpha_lr",
        "epsilon_eta",
        "epsilon_mu",
        "epsilon_sigma",
    ),
    *(
        "temperature_init",
        "alpha_mu_init",
        "alpha_sigma_init",
        "kl_stop",
        "max_grad_norm",
        "clip_observation",
        "clip_reward",
    ),
]
COUNTS = [
    "num_steps",
    "m_steps",
    "updates_per_step",
    "target_update_period",
    "dae_epochs",
    "dae_minibatches",
]
RESUMABLE = {
    "popart_rate",
    *(
        "total_steps",
        "device",
        "threads",
        "env_threads",
        "env_timeout",
        "eval_interval",
        "eval_episodes",
        "eval_max_steps",
        "stop_at_return",
        "save_interval",
    ),
    *(
        "log_interval",
        "track",
        "updates_per_step",
        "m_steps",
        "gamma",
        "gae_lambda",
        "dae_epochs",
        "dae_minibatches",
        "dae_lambda",
        "normalize_advantages",
    ),
    *(
        "policy_lr",
        "value_lr",
        "advantage_lr",
        "temperature_lr",
        "alpha_lr",
        "sgd_momentum",
        "topk_fraction",
        "epsilon_eta",
        "epsilon_mu",
    ),
    *("epsilon_sigma", "kl_stop", "max_grad_norm", "clip_observation", "clip_reward"),
}


def refuse(name, value, words):
    with pytest.raises(SettingError) as error:
        VMPOConfig(env_id="Identity-v0", **{name: value}).check()
    assert str(error.value).startswith(f"{name} must be {words}, got ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_that_must_be_finite_and_positive(name, value):
    refuse(name, value, "finite and above 0")


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    refuse(name, 0, "at least 1")


@pytest.mark.parametrize("name", ["gamma", "gae_lambda", "dae_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_discounts(name, value):
    refuse(name, value, r"in [0, 1]")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("topk_fraction", 0.0, "in (0, 1]"),
        ("topk_fraction", 1.5, "in (0, 1]"),
        ("sgd_momentum", 1.0, "in [0, 1)"),
        ("sgd_momentum", -0.1, "in [0, 1)"),
        ("log_std_init", -math.inf, "finite"),
        ("log_std_init", math.nan, "finite"),
        ("policy_layer_sizes", (64, 0), "layer widths of at least 1"),
        ("value_layer_sizes", (-64,), "layer widths of at least 1"),
    ],
)
def test_other_ranges(name, value, words):
    refuse(name, value, words)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer_type", "adm", "optimizer_type must be adam or sgd, got 'adm'; did you mean 'adam'?"),
        (
            "advantage_estimator",
            "gea",
            "advantage_estimator must be returns or gae or dae, got 'gea'; did you mean 'gae'?",
        ),
    ],
)
def test_words(name, value, message):
    with pytest.raises(SettingError) as error:
        VMPOConfig(env_id="Identity-v0", **{name: value}).check()
    assert str(error.value) == message


@pytest.mark.parametrize(
    "settings", [{}, *PRESETS.values(), {"kl_stop": None, "clip_observation": None, "clip_reward": None}]
)
def test_presets_and_the_ends_of_ranges_pass(settings):
    ends = {"gamma": 1, "gae_lambda": 0, "topk_fraction": 1, "sgd_momentum": 0, "policy_layer_sizes": ()}
    VMPOConfig(env_id="Identity-v0", **(ends | settings)).check()


@pytest.mark.parametrize("documented", [VMPOTrainer, VMPOAgent])
def test_the_documented_configuration_has_the_defaults_of_the_constructors(documented):
    config = VMPOConfig.documented(env_id="Identity-v0").to_dict()
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(documented).parameters.items()
        if name in config and parameter.default is not parameter.empty
    }
    assert len(defaults) >= 17
    assert {name: config[name] for name in defaults} == defaults


def test_what_is_documented_differs_from_the_command_line():
    own = {name: value for name, value in VMPOConfig.DOCUMENTED.items() if name in vars(VMPOConfig)}
    assert own and all(value != getattr(VMPOConfig, name) for name, value in own.items())


def test_every_setting_is_either_fixed_when_a_run_is_continued_or_known_to_be_free():
    fixed = set(VMPOConfig.fixed_on_resume())
    assert fixed | RESUMABLE == {field.name for field in fields(VMPOConfig)} and not fixed & RESUMABLE


SMALL = [
    "--num-envs",
    "2",
    "--num-steps",
    "8",
    "--m-steps",
    "2",
    "--policy-layer-sizes",
    "8",
    "--value-layer-sizes",
    "8",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "run"
    words = [
        "--env-id",
        "Counter-v0",
        "--env-kwargs",
        "length=5",
        "end=truncated",
        "--total-steps",
        "32",
        "--eval-episodes",
        "2",
    ]
    assert main(["train", "vmpo", *words, *SMALL, "--out-dir", str(folder)]) == 0
    return folder


def test_options_of_the_environment_arrive(run):
    last = (run / "eval.csv").read_text().splitlines()[-1]
    assert last.split(",")[1:3] == ["5", "10"]  # length, and 0 + 1 + 2 + 3 + 4


@pytest.mark.parametrize(
    "words",
    [
        *(
            "--policy-layer-sizes 16",
            "--value-layer-sizes 8 8",
            "--shared-encoder",
            "--target-update-period 2",
            "--optimizer-type sgd",
        ),
        *(
            "--no-normalize-reward",
            "--no-normalize-observation",
            "--num-steps 4",
            "--env-kwargs length=6",
        ),
        *("--alpha-mu-init 2", "--log-std-init -1"),
    ],
)
def test_what_the_saved_state_is_built_on_cannot_change(run, words, capsys):
    before = (run / "config.toml").read_bytes()
    assert main(["train", "vmpo", "--resume", str(run), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"cannot change when a run is continued: {run} has " in error
    assert (run / "config.toml").read_bytes() == before


def test_what_may_change_does(run):
    words = (
        "--policy-lr 0.01 --m-steps 3 --epsilon-mu 0.5 --gamma 0.9 --clip-reward none --total-steps 64 "
        "--eval-interval 16"
    )
    assert main(["train", "vmpo", "--resume", str(run), *words.split()]) == 0
    config = VMPOConfig.from_toml((run / "config.toml").read_text())
    assert (config.policy_lr, config.m_steps, config.clip_reward, config.total_steps) == (0.01, 3, None, 64)
