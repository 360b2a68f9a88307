"""From flags to settings: which default wins, spellings, and errors that name the setting."""

from pathlib import Path

import pytest

from fastrl.cli.train_flags import read_train_flags
from fastrl.errors import SettingError
from fastrl.trainers.registry import ALGORITHMS
from fastrl.training.run_folder import create_run


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
    ],
)
def test_spellings(read, words, name, value):
    found = getattr(read("--env-id", "Known-v0", *words.split()).config, name)
    assert found == value and type(found) is type(value)


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
    assert (order.config.env_id, order.config.rate, order.config.seed, order.config.total_steps) == ("Preset-v0", 0.75, 4, 500)


@pytest.mark.parametrize("words", ["--seed 5", "--env-id Known-v0", "--num-envs 3"])
def test_what_belongs_to_the_saved_state_cannot_change(read, old_run, words):
    with pytest.raises(SettingError, match=r"cannot change when a run is continued: runs/old has"):
        read("--resume", "runs/old", *words.split())


def test_a_continued_run_stays_in_its_folder(read, old_run):
    assert read("--resume", "runs/old", "--out-dir", "runs/../runs/old").resume == old_run
    with pytest.raises(SettingError, match="out_dir cannot be given with --resume"):
        read("--resume", "runs/old", "--out-dir", "runs/new")


def test_a_run_of_another_algorithm_says_how_to_continue_it(read, old_run):
    with pytest.raises(SettingError, match="is a run of counting; continue it with `fastrl train counting --resume runs/old`"):
        read_train_flags(ALGORITHMS["vmpo"], ["--resume", "runs/old"])


def test_help_lists_every_flag_with_its_text_and_default(read, capsys):
    with pytest.raises(SystemExit) as end:
        read("--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for part in ("--env-id", "--out-dir", "--resume", "--config", "--sizes", "Rate, in (0, 1]. (default: 0.5)", "--no-normalize"):
        assert part in text


def test_help_with_an_environment_shows_its_preset(read, capsys):
    with pytest.raises(SystemExit):
        read("--env-id", "Preset-v0", "--help")
    assert "Rate, in (0, 1]. (default: 1.0)" in " ".join(capsys.readouterr().out.replace("│", " ").split())
