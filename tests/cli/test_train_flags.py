"""From flags to settings: which default wins, spellings, and errors that name the setting."""

import importlib.util
import itertools
from pathlib import Path

import pytest

from fastrl.cli.train_flags import read_train_flags
from fastrl.errors import SettingError
from fastrl.runs.run_folder import create_run
from fastrl.trainers.registry import ALGORITHMS


@pytest.fixture
def read(counting):
    return lambda *words: read_train_flags(ALGORITHMS["counting"], words)


def test_defaults_then_preset_then_file_then_flags(read):
    Path("my.toml").write_text("rate = 0.25\nseed = 9")
    assert read("--env-id", "Known-v0").config.rate == 0.5
    assert read("--env-id", "Preset-v0").config.rate == 1.0
    config = read("--env-id", "Preset-v0", "--config", "my.toml", "--seed", "11").config
    assert (config.rate, config.seed, config.sizes, config.total_steps) == (0.25, 11, (4,), 70)


def test_the_file_may_name_the_environment_whose_preset_counts(read):
    Path("my.toml").write_text('env_id = "Preset-v0"\ntotal_steps = 5')
    config = read("--config=my.toml").config
    assert (config.env_id, config.total_steps, config.rate) == ("Preset-v0", 5, 1.0)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--total-steps 2_000_000", "total_steps", 2_000_000),
        ("--total_steps=300", "total_steps", 300),
        ("--sizes 256 128 64", "sizes", (256, 128, 64)),
        ("--sizes", "sizes", ()),
        ("--rate 3e-4", "rate", 3e-4),
        ("--rate 1", "rate", 1.0),
        ("--clip none", "clip", None),
        ("--clip None", "clip", None),
        ("--clip 5", "clip", 5.0),
        ("--threads none", "threads", None),
        ("--threads 2", "threads", 2),
        ("--no-normalize", "normalize", False),
        ("--normalize false", "normalize", False),
        ("--normalize=False", "normalize", False),
        ("--normalize", "normalize", True),
        ("--normalize yes", "normalize", True),
        ("--no-normalize false", "normalize", True),
        ("--careful", "careful", True),
        ("--careful true", "careful", True),
        ("--no-careful", "careful", False),
        ("--kind down", "kind", "down"),
        ("--seed 1 --seed 2", "seed", 2),
        ("--track wandb", "track", "wandb"),
        ("--obs-keys velocity a.b", "obs_keys", ("velocity", "a.b")),
        ("--obs-keys none", "obs_keys", None),
        ("--max-episode-steps 50", "max_episode_steps", 50),
        ("--stop-at-return -150", "stop_at_return", -150.0),
        ("--env-kwargs crop=3", "env_kwargs", {"crop": 3}),
        ("--env-kwargs=crop=3 end=a=b", "env_kwargs", {"crop": 3, "end": "a=b"}),
        (
            "--env_kwargs a=1_000 b=-2 c=1e-3 d=true e=False f=",
            "env_kwargs",
            {"a": 1000, "b": -2, "c": 0.001, "d": True, "e": False, "f": ""},
        ),
        ("--env-kwargs", "env_kwargs", {}),
        ("--env-kwargs a=[1.0,2] b=null c='3'", "env_kwargs", {"a": [1.0, 2], "b": None, "c": "3"}),
        (
            '--env-kwargs a={"b":[null,{"c":true}]} d="x"',
            "env_kwargs",
            {"a": {"b": [None, {"c": True}]}, "d": "x"},
        ),
        ("--env-kwargs a={b=1,c=['x']} d={}", "env_kwargs", {"a": {"b": 1, "c": ["x"]}, "d": {}}),
        ("--total-steps 1e6", "total_steps", 1_000_000),
        ("--total-steps=2.5e2", "total_steps", 250),
        ("--seed 7.0", "seed", 7),
        ("--threads 1e0", "threads", 1),
        ("--sizes 1e2 64", "sizes", (100, 64)),
    ],
)
def test_spellings(read, words, name, value):
    found = getattr(read("--env-id", "Known-v0", *words.split()).config, name)
    assert found == value and repr(found) == repr(value)  # repr: 1 is not True, and 1.0 not 1


def test_folders(read):
    order = read("--env-id", "Known-v0", "--out-dir", "runs/x")
    assert order.out_dir == Path("runs/x") and order.resume is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--totl-steps 3", "there is no flag --totl-steps; did you mean '--total-steps'?"),
        ("--no-rate", "there is no flag --no-rate"),
        ("--total-steps abc", "total_steps must be a whole number, got 'abc'"),
        ("--total-steps 1.5", "total_steps must be a whole number, got '1.5'"),
        ("--total-steps 1e-3", "total_steps must be a whole number, got '1e-3'"),
        ("--total-steps 1e999999999", "total_steps must be a whole number, got '1e999999999'"),
        ("--total-steps inf", "total_steps must be a whole number, got 'inf'"),
        ("--env-kwargs a=[1,", "lists and tables as JSON or TOML, got 'a=[1,'"),
        ("--total-steps", "total_steps must be a whole number, got 'nothing'"),
        ("--total-steps 0", "total_steps must be at least 1, got 0"),
        ("--rate fast", "rate must be a number, got 'fast'"),
        ("--clip abc", "clip must be a number or none, got 'abc'"),
        ("--sizes 3 x", "sizes must be a list in which each entry is a whole number, got '3 x'"),
        ("--kind sideways", "kind must be one of up, down, got 'sideways'"),
        ("--normalize maybe", "'maybe' is one value too many"),
        ("--seed 1 2", "'2' is one value too many"),
        ("--seed -1", "seed must be in [0, 2^31), got -1"),
        ("--track tensorboard", "track must be wandb or none, got 'tensorboard'"),
        (
            "--env-kwargs crop",
            "env_kwargs must be name=value pairs, each name once, lists and tables as JSON or TOML, got "
            "'crop'",
        ),
        ("--env-kwargs none", "env_kwargs must be name=value pairs"),
        ("--env-kwargs =3", "env_kwargs must be name=value pairs"),
        ("--env-kwargs a=1 a=2", "env_kwargs must be name=value pairs, each name once"),
        ("--max-episode-steps 0", "max_episode_steps must be at least 1, got 0"),
        ("--stop-at-return inf", "stop_at_return must be finite, got inf"),
        ("--config missing.toml", "config file 'missing.toml' cannot be read: No such file or directory"),
        ("--config .", "config file '.' cannot be read: Is a directory"),
        ("--resume missing", "there is no run in 'missing'"),
    ],
)
def test_errors_are_one_sentence_that_names_the_setting(read, words, message):
    with pytest.raises(SettingError) as error:
        read("--env-id", "Known-v0", *words.split())
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_environment_is_needed(read):
    with pytest.raises(SettingError, match="env_id is missing: give --env-id, for example"):
        read("--seed", "1")


def test_a_value_before_any_flag(read):
    with pytest.raises(SettingError, match="'CartPole-v1' stands where a flag should"):
        read("CartPole-v1")


def test_a_preset_or_file_of_the_wrong_type_is_caught(read):
    Path("my.toml").write_text('rate = "fast"')
    with pytest.raises(SettingError, match="my.toml: rate must be a number, got 'fast'"):
        read("--env-id", "Known-v0", "--config", "my.toml")


@pytest.fixture
def old_run(read):
    config = read("--env-id", "Preset-v0", "--rate", "0.75", "--seed", "4").config
    return create_run("counting", config, Path("runs/old"))


def test_a_continued_run_keeps_its_settings_but_for_the_flags(read, old_run):
    order = read("--resume", "runs/old", "--total-steps", "500")
    assert order.resume == old_run
    assert (order.config.env_id, order.config.rate, order.config.seed, order.config.total_steps) == (
        "Preset-v0",
        0.75,
        4,
        500,
    )


@pytest.mark.parametrize(
    ("words", "name", "values"),
    [
        ("--seed 5", "seed", "4, got 5"),
        ("--env-id Known-v0", "env_id", "'Preset-v0', got 'Known-v0'"),
        ("--num-envs 3", "num_envs", "16, got 3"),
        ("--obs-keys a b", "obs_keys", "None, got ('a', 'b')"),
        ("--max-episode-steps 9", "max_episode_steps", "None, got 9"),
        ("--env-kwargs length=2", "env_kwargs", "{}, got {'length': 2}"),
        ("--depth 2", "depth", "1, got 2"),
    ],
)
def test_what_belongs_to_the_saved_state_cannot_change(read, old_run, words, name, values):
    with pytest.raises(SettingError) as error:
        read("--resume", "runs/old", *words.split())
    assert str(error.value) == f"{name} cannot change when a run is continued: runs/old has {values}"


def test_a_file_cannot_change_it_either(read, old_run):
    Path("my.toml").write_text("depth = 2")
    with pytest.raises(
        SettingError, match="depth cannot change when a run is continued: runs/old has 1, got 2"
    ):
        read("--resume", "runs/old", "--config", "my.toml")


def test_the_same_value_is_no_change(read):
    create_run(
        "counting",
        read("--env-id", "Known-v0", "--env-kwargs", "a=1", "--obs-keys", "x").config,
        Path("runs/new"),
    )
    config = read(
        "--resume", "runs/new", "--depth", "1", "--env-kwargs", "a=1", "--obs-keys", "x", "--rate", "0.25"
    ).config
    assert (config.rate, config.env_kwargs, config.obs_keys) == (0.25, {"a": 1}, ("x",))


def test_a_continued_run_stays_in_its_folder(read, old_run):
    assert read("--resume", "runs/old", "--out-dir", "runs/../runs/old").resume == old_run
    with pytest.raises(SettingError, match="out_dir cannot be given with --resume"):
        read("--resume", "runs/old", "--out-dir", "runs/new")


def test_a_run_of_another_algorithm_says_how_to_continue_it(read, old_run):
    with pytest.raises(
        SettingError, match="is a run of counting; continue it with `fastrl train counting --resume runs/old`"
    ):
        read_train_flags(ALGORITHMS["vmpo"], ["--resume", "runs/old"])


def test_help_lists_every_flag_with_its_text_and_default(read, capsys):
    with pytest.raises(SystemExit) as end:
        read("--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in (
        "--env-id",
        "--out-dir",
        "--resume",
        "--config",
        "--sizes",
        "Rate, in (0, 1]. (default: 0.5)",
        "--no-normalize",
    ):
        assert part in text


def test_help_shows_how_pairs_are_written(read, capsys):
    Path("my.toml").write_text("[env_kwargs]\nfast = true\ncrop = 3")
    with pytest.raises(SystemExit):
        read("--config", "my.toml", "--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--env-kwargs [NAME=VALUE ...]" in text and "(default: fast=true crop=3)" in text


def test_help_with_an_environment_shows_its_preset(read, capsys):
    with pytest.raises(SystemExit):
        read("--env-id", "Preset-v0", "--help")
    assert "Rate, in (0, 1]. (default: 1.0)" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_short_part_of_the_fuzzing_gives_sentences_and_exit_codes():
    spec = importlib.util.spec_from_file_location(
        "attack_flags", Path(__file__).parents[2] / "bench" / "attack" / "flags.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = module.run(40, seed=3)
    assert counts["calls"] == sum(counts["exit codes"].values()) == 40 and not counts["failures"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_fills_its_lines(name, capsys):
    """No line ends early where the code's docstring happened to break."""
    with pytest.raises(SystemExit):
        read_train_flags(ALGORITHMS[name], ["--env-id", "Identity-v0", "--help"])
    lines = [line.replace("│", " ").rstrip() for line in capsys.readouterr().out.splitlines()]
    for line, following in itertools.pairwise(lines):
        if all(text.startswith(" " * 25) for text in (line, following)):
            assert len(line) + 1 + len(following.split()[0]) > 78, (line, following)
