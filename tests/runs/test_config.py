"""Settings: checks that name the setting, and TOML there and back."""

import enum
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig, find_preset, values_from_toml
from fastrl.runs.plain_values import agrees, plain


@dataclass(kw_only=True)
class ExampleConfig(RunConfig):
    """A configuration with a field of every kind."""

    sizes: tuple[int, ...] = (64, 64)
    """Widths."""
    rate: float = 0.1
    """Rate."""
    clip: float | None = 10.0
    """Bound; none: unbounded."""
    flag: bool = True
    """A switch."""
    kind: Literal["a", "b"] = "a"
    """A choice."""
    pair: tuple[int, float] = (1, 2.0)
    """Two numbers."""


OPTIONS = {"crop": 3, "speed": 0.5, "exact": 2.0, "end": "truncated", "number": "3", "fast": True}


def test_toml_there_and_back():
    config = ExampleConfig(
        env_id="Some/Env-v0",
        seed=7,
        sizes=(),
        rate=1e-7,
        clip=None,
        flag=False,
        kind="b",
        threads=2,
        pair=(3, 0.1),
    )
    assert ExampleConfig.from_toml(config.to_toml("example")) == config
    assert ExampleConfig.from_toml(ExampleConfig(env_id="x").to_toml()) == ExampleConfig(env_id="x")


def test_options_of_the_environment_there_and_back():
    config = ExampleConfig(
        env_id="x", env_kwargs=OPTIONS, obs_keys=("b", "a.c"), max_episode_steps=50, stop_at_return=-200.0
    )
    loaded = ExampleConfig.from_toml(config.to_toml("example"))
    assert loaded == config
    assert {name: type(value) for name, value in loaded.env_kwargs.items()} == {
        name: type(value) for name, value in OPTIONS.items()
    }


NESTED = {
    "weights": [1.0, 2.0],
    "config": {"lanes": 3, "deep": [{"a": [True, None]}, {}], "text": ""},
    "empty": [],
    "none": None,
}


def test_lists_and_tables_of_plain_values_there_and_back():
    config = ExampleConfig(env_id="x", env_kwargs=NESTED)
    config.check()
    loaded = ExampleConfig.from_toml(config.to_toml("example"))
    assert loaded == config and loaded.env_kwargs == NESTED and not config.unwritten()
    assert (
        type(loaded.env_kwargs["weights"][0]) is float and type(loaded.env_kwargs["config"]["lanes"]) is int
    )


def test_numbers_and_arrays_of_numpy_become_plain():
    class Kind(enum.StrEnum):
        FAST = "fast"

    given = {
        "a": np.arange(3),
        "b": (np.float32(0.5), np.bool_(True)),
        "c": {"d": np.int64(3), np.str_("e"): Kind.FAST},
        "f": np.array("x"),
    }
    config = ExampleConfig(
        env_id="x",
        env_kwargs=given,
        seed=np.int64(3),
        rate=np.float32(0.5),
        flag=np.bool_(False),
        sizes=np.array([8, 4]),
        total_steps=1e6,
    )
    config.check()
    assert config.env_kwargs == {"a": [0, 1, 2], "b": [0.5, True], "c": {"d": 3, "e": "fast"}, "f": "x"}
    values = (config.seed, config.rate, config.flag, config.sizes, config.total_steps)
    assert values == (3, 0.5, False, (8, 4), 1_000_000) and [type(value) for value in values] == [
        int,
        float,
        bool,
        tuple,
        int,
    ]
    assert ExampleConfig.from_toml(config.to_toml()) == config
    assert ExampleConfig.from_toml('env_id = "x"\ntotal_steps = 1e6\nsizes = [1e1]').sizes == (10,)


def test_what_cannot_be_written_stands_as_a_label_that_says_so():
    config = ExampleConfig(env_id=dict, env_kwargs={"f": max, "list": [object(), 1], "keys": {1: 2}})
    config.check()
    assert config.unwritten() == [
        "env_id (<class: builtins.dict>)",
        "env_kwargs.f (<function: builtins.max>)",
        "env_kwargs.list[0] (<object: builtins.object>)",
        "env_kwargs.keys (<object: builtins.dict>)",
    ]
    loaded = ExampleConfig.from_toml(config.to_toml())
    assert loaded.env_id == "<class: builtins.dict>" and loaded.env_kwargs["list"] == [
        "<object: builtins.object>",
        1,
    ]
    assert loaded.unwritten() == config.unwritten()[1:]
    assert agrees(loaded.env_kwargs, plain(config.env_kwargs)) and not agrees(
        loaded.env_kwargs, {**config.env_kwargs, "list": [3, 2]}
    )


def test_a_line_added_to_the_end_of_a_file_is_a_setting():
    assert ExampleConfig.from_toml(ExampleConfig(env_id="x").to_toml() + "threads = 2").threads == 2


def test_none_is_left_out_unless_the_default_is_another_value():
    text = ExampleConfig(env_id="x", clip=None).to_toml("example")
    assert text.startswith('algorithm = "example"\n')
    assert 'clip = "none"' in text and "threads" not in text.replace("env_threads", "threads").splitlines()[0]
    assert not any(line.startswith(("threads", "env_threads", "track")) for line in text.splitlines())


def test_a_file_may_set_some_settings_only_and_whole_numbers_serve_as_numbers():
    values = values_from_toml(
        ExampleConfig, 'algorithm = "example"\nrate = 1\nsizes = [3]\nclip = "none"\npair = [1, 2]'
    )
    assert values == {"rate": 1.0, "sizes": (3,), "clip": None, "pair": (1, 2.0)}
    assert type(values["rate"]) is float and type(values["pair"][1]) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "my.toml sets 'sede', which is no setting of ExampleConfig; did you mean 'seed'?"),
        ('seed = "1"', "my.toml: seed must be a whole number, got '1'"),
        ("seed = 1.5", "my.toml: seed must be a whole number, got 1.5"),
        ("seed = inf", "my.toml: seed must be a whole number, got inf"),
        ("seed = true", "my.toml: seed must be a whole number, got True"),
        ("rate = true", "my.toml: rate must be a number, got True"),
        ("flag = 1", "my.toml: flag must be true or false, got 1"),
        ("sizes = 3", "my.toml: sizes must be a list in which each entry is a whole number, got 3"),
        (
            "sizes = [3, 1.5]",
            "my.toml: sizes must be a list in which each entry is a whole number, got [3, 1.5]",
        ),
        ("pair = [1]", "my.toml: pair must be a list"),
        ('kind = "c"', "my.toml: kind must be one of a, b, got 'c'"),
        ("clip = [1]", "my.toml: clip must be a number or none, got [1]"),
        (f"rate = 1{'0' * 400}", "my.toml: rate must be a number, got 1000"),
        (
            "env_kwargs = 3",
            "my.toml: env_kwargs must be name=value pairs, each name once, lists and tables as JSON or "
            "TOML, got 3",
        ),
        ('obs_keys = "a"', "my.toml: obs_keys must be a list in which each entry is text or none, got 'a'"),
        ("env_id = 3", "my.toml: env_id must be text, got 3"),
        ("seed = ", "my.toml is not valid TOML"),
        ("seed = 1\nseed = 2", "my.toml is not valid TOML"),
    ],
)
def test_a_bad_file_is_a_sentence_that_names_file_and_setting(text, message):
    with pytest.raises(SettingError) as error:
        values_from_toml(ExampleConfig, text, "my.toml")
    assert message in str(error.value) and "\n" not in message


def test_from_toml_needs_the_environment():
    with pytest.raises(SettingError, match="config.toml does not set env_id"):
        ExampleConfig.from_toml("seed = 1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"total_steps": 1.5}, "total_steps must be a whole number, got 1.5"),
        ({"env_id": 3}, "env_id must be an id, a factory of environments or an environment, got 3"),
        ({"eval_episodes": 0}, "eval_episodes must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"env_threads": -1}, "env_threads must be at least 1"),
        ({"env_timeout": 0.0}, "env_timeout must be above 0 seconds"),
        ({"env_timeout": float("nan")}, "env_timeout must be above 0 seconds"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
        ({"env_kwargs": {3: 4}}, "env_kwargs must be name=value pairs"),
        ({"stop_at_return": float("inf")}, "stop_at_return must be finite, got inf"),
        ({"stop_at_return": float("nan")}, "stop_at_return must be finite, got nan"),
        ({"eval_interval": -1}, "eval_interval must be at least 0"),
        ({"save_interval": -1}, "save_interval must be at least 0"),
        ({"log_interval": -1}, "log_interval must be at least 0"),
        ({"seed": -1}, r"seed must be in \[0, 2\^31\), got -1"),
        ({"seed": 2**31}, r"seed must be in \[0, 2\^31\)"),
        ({"track": "wanddb"}, "track must be wandb or none, got 'wanddb'; did you mean 'wandb'?"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:<index>, got 'gpu'"),
        ({"device": "cuda:"}, "device must be cpu, cuda or cuda:<index>"),
        ({"sizes": 64}, "sizes must be a list"),
        ({"flag": None}, "flag must be true or false, got None"),
    ],
)
def test_check_names_the_setting(settings, message):
    with pytest.raises(SettingError, match=message):
        ExampleConfig(**({"env_id": "x"} | settings)).check()


def test_check_accepts_what_python_users_write():
    config = ExampleConfig(
        env_id="x",
        sizes=[32, 32],
        rate=1,
        clip=5,
        obs_keys=["b", "a"],
        env_kwargs=OPTIONS,
        stop_at_return=-150,
    )
    config.check()
    assert (
        config.obs_keys == ("b", "a")
        and config.env_kwargs == OPTIONS
        and type(config.stop_at_return) is float
    )
    assert config.sizes == (32, 32) and type(config.rate) is float and type(config.clip) is float


def test_a_device_that_this_machine_lacks(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingError, match="device 'cuda' cannot be used: torch .* sees no GPU here"):
        ExampleConfig(env_id="x", device="cuda").check()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    ExampleConfig(env_id="x", device="cuda:1").check()
    with pytest.raises(SettingError, match="device 'cuda:2' does not exist: there are 2 GPUs"):
        ExampleConfig(env_id="x", device="cuda:2").check()


def test_presets_are_found_by_the_names_of_dm_control_tasks():
    pytest.importorskip("envpool", reason="names of tasks are resolved by EnvPool's list")
    presets = {"CheetahRun-v1": {"num_envs": 3}}
    assert (
        find_preset(presets, "dm_control/cheetah-run")
        == find_preset(presets, "CheetahRun-v1")
        == {"num_envs": 3}
    )
    assert (
        find_preset(presets, "dm_control/no-such") == {}
        and find_preset(presets, "CheetahRun-v1") is not presets["CheetahRun-v1"]
    )


@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "9" * 5000,
        "seed = 0x" + "f" * 5000,
        "num_envs = 99999999999999999999",
        "total_steps = -9" + "9" * 30,
    ],
    ids=["thousands of digits", "hexadecimal", "20 digits", "negative"],
)
def test_integers_of_any_size_are_refused_in_a_short_sentence(text):
    with pytest.raises(SettingError) as error:
        values_from_toml(RunConfig, text)
    assert len(str(error.value)) < 300
