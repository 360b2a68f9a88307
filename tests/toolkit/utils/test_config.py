"""Configurations: ordered, copied deeply, kept in plain files that run nothing."""

import copy
import importlib.util
import json
import math
import pickle
import re
import tomllib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastrl.errors import SettingError
from fastrl.nn import FlattenLinear
from fastrl.toolkit.utils.config import DEFAULTS, Config
from fastrl.toolkit.utils.dotted import dotted_name, resolve
from fastrl.toolkit.utils.net_builder import nn_from_config
from fastrl.toolkit.utils.utils import get_obj, linear_schedule

NAMES = ["A2C", "PPOAdaptive", "PPOClip", "SurrogatePG", "VanillaPG"]


# -------------------------------------------------------------------------------------------- values


def test_values_keep_their_order_and_are_attributes_and_keys():
    config = Config(7, "x", b=1, a=2)
    config.z = 3
    config["y"] = 4
    assert list(config) == list(config.keys()) == ["attr0", "attr1", "b", "a", "z", "y"]
    assert config.as_list() == list(config.values()) == [7, "x", 1, 2, 3, 4] and dict(config.items()) == {
        **config
    }
    assert config.attr0 == 7 and config["z"] == 3 and "a" in config and "c" not in config and len(config) == 6
    config.b = 9
    assert list(config)[2] == "b"
    assert (
        config.pop("b") == 9
        and config.pop("b", 5) == 5
        and config.get("b") is None
        and config.get("b", 1) == 1
    )
    with pytest.raises(KeyError):
        config.pop("b")
    del config.z
    assert "z" not in config
    config.update({"n": 1})
    config.update(Config(m=2))
    assert config.n == 1 and config.m == 2


def test_a_missing_name_is_an_attribute_error():
    config = Config(learning_rate=1)
    with pytest.raises(AttributeError, match="no 'learning_rat'; did you mean 'learning_rate'?"):
        _ = config.learning_rat
    with pytest.raises(AttributeError):
        del config.gone
    assert not hasattr(config, "anything")


def test_names_of_methods_and_private_names_are_refused():
    for name in ("items", "save", "_entries", "__class__", 3):
        with pytest.raises(SettingError, match="cannot be the name of a value"):
            setattr(Config(), name, 1) if isinstance(name, str) else Config().__setitem__(name, 1)


def test_sections():
    config = Config()
    config.new_section("net", attr1=Config(deep=1), attr2=2)
    config.ordered = OrderedDict(a=OrderedDict(b=1))
    config.plain = {"a": 1}
    with pytest.raises(SettingError, match="3 cannot be the name of a value"):
        config.numbers = OrderedDict({3: 1})
    assert Config(self=1).self == 1
    assert config.net.attr1.deep == 1 and config.ordered.a.b == 1
    assert isinstance(config.ordered, Config) and type(config.plain) is dict
    assert (lambda **arguments: arguments)(**config.net) == {"attr1": config.net.attr1, "attr2": 2}


def test_as_dict_is_a_deep_copy():
    config = Config(net=Config(layers=[{"func": nn.Linear, "sizes": [1]}]), plain={"inner": Config(a=[1])})
    values = config.as_dict()
    assert (
        isinstance(values, OrderedDict)
        and isinstance(values["net"], OrderedDict)
        and isinstance(values["plain"]["inner"], OrderedDict)
    )
    assert values["net"]["layers"][0]["func"] is nn.Linear
    values["net"]["layers"][0]["sizes"].append(2)
    values["net"]["new"] = 1
    values["plain"]["inner"]["a"].append(2)
    assert config == Config(
        net=Config(layers=[{"func": nn.Linear, "sizes": [1]}]), plain={"inner": Config(a=[1])}
    )
    assert Config(**config.as_dict()) == config and config != Config() and config != {}


def test_copies_and_pickles():
    config = Config(a=Config(b=[1]))
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        other.new = 1
    assert list(config) == ["a"] and copy.copy(config).a is config.a
    copy.deepcopy(config).a.b.append(2)
    assert config.a.b == [1]


def test_repr_is_yaml_and_never_fails():
    assert repr(Config(a=1, net=Config(func=nn.Linear))) == "a: 1\nnet:\n  func: torch.nn.Linear\n"
    assert repr(Config(f=len, x=3)) == "Config(f=<built-in function len>, x=3)"


# --------------------------------------------------------------------------------------------- files

EVERYTHING = Config(
    z=1,
    a=[1, 2.5, [True, None]],
    text="1e-3",
    words=["yes", "null", "2026-01-01", "", " spaces ", "ünï: - #", "12", ".5", "1:30"],
    small=1e-5,
    large=1e22,
    infinite=math.inf,
    section=Config(opt_fn=torch.optim.Adam, empty=Config(), none=[]),
    body=[dict(func=nn.Linear, out_features=64), dict(func=FlattenLinear, out_features=3)],
)


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".YAML"])
def test_what_is_saved_is_loaded(tmp_path, suffix):
    path = tmp_path / f"config{suffix}"
    EVERYTHING.save(path)
    found = Config.load(str(path))
    wanted = EVERYTHING.as_dict()
    wanted["section"]["opt_fn"] = "torch.optim.Adam"
    wanted["body"][0]["func"], wanted["body"][1]["func"] = "torch.nn.Linear", "fastrl.nn.FlattenLinear"
    assert (
        found.as_dict() == wanted
        and list(found) == list(EVERYTHING)
        and list(found.section) == ["opt_fn", "empty", "none"]
    )
    assert isinstance(found.section.empty, Config) and type(found.body[0]) is dict
    assert (
        Config(**json.loads(json.dumps(found.as_dict()))).section["opt_fn"] == "torch.optim.Adam"
    )  # plain values
    second = tmp_path / f"second{suffix}"
    found.save(second)
    assert second.read_bytes() == path.read_bytes()


def test_a_file_has_the_name_it_was_given_and_the_format_of_its_suffix(tmp_path):
    Config(a=1).save(tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == {"a": 1} and [
        path.name for path in tmp_path.iterdir()
    ] == ["c.json"]
    for name in ("c", "c.toml"):
        with pytest.raises(SettingError, match=r"file_path must end in .json, .yaml or .yml, got '.*c"):
            Config(a=1).save(tmp_path / name)
        with pytest.raises(SettingError, match="file_path must end in"):
            Config.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Config.load(tmp_path / "missing.json")


def test_yaml_numbers_are_what_people_mean(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "a: 1e-3\nb: 3E4\nc: .5\nd: -1.5e+2\ne: .inf\nf: 12\ng: 1.\nh: 2026-01-01\ni: v1e3\nj: -.inf\nk: "
        ".nan\n"
    )
    found = Config.load(path)
    assert [found[name] for name in "abcdefghij"] == [
        1e-3,
        3e4,
        0.5,
        -150.0,
        math.inf,
        12,
        1.0,
        "2026-01-01",
        "v1e3",
        -math.inf,
    ]
    assert math.isnan(found.k) and type(found.f) is int


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "a: !!python/object/apply:os.system ['touch PROOF']", "could not determine a constructor"),
        ("c.yaml", "a: !!python/name:os.system", "could not determine a constructor"),
        ("c.yaml", "a: &x [1]\nb: *x", "line 1 has an anchor or alias"),
        ("c.yaml", "a: *x", "line 1 has an anchor or alias"),
        ("c.yaml", "a: 1\na: 2", "'a' is set twice"),
        ("c.yaml", "a: {b: 1, b: 2}", "'b' is set twice"),
        ("c.json", '{"a": 1, "a": 2}', "'a' is set twice"),
        ("c.yaml", "1: 2", "must have names as keys, got 1"),
        ("c.yaml", "a: {1: 2}", "must have names as keys, got 1"),
        ("c.yaml", "- 1", "must hold a mapping, it holds list"),
        ("c.yaml", "", "must hold a mapping, it holds nothing"),
        ("c.yaml", "a: !!binary aGVsbG8=", "a is bytes, which a file cannot hold"),
        ("c.yaml", "a: !!set {x, y}", "a is set, which a file cannot hold"),
        ("c.yaml", "a: [1", "while parsing"),
        ("c.yaml", "? [a, b]\n: 1", "must have names as keys, got ['a', 'b']"),
        ("c.yaml", "a: " + "[" * 5000, ""),
        ("c.json", "[" * 100000, ""),
        ("c.json", "{", "Expecting property name"),
        ("c.json", "[1]", "must hold a mapping, it holds list"),
        ("c.yaml", "items: 1", "'items' cannot be the name of a value"),
        ("c.yaml", "_entries: 1", "'_entries' cannot be the name of a value"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingError, match=f"{name}: .*{re.escape(message)}"):
        Config.load(name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_a_file_cannot_hold_is_named_and_nothing_is_written(tmp_path):
    for value, message in (
        (object(), "net.body[1] is object"),
        (json.JSONDecoder, "net.body[1]: json.decoder"),
        (lambda: 1, "net.body[1]: "),
    ):
        with pytest.raises(SettingError, match=re.escape(message)):
            Config(net=Config(body=[1, value])).save(tmp_path / "c.yaml")
    assert not list(tmp_path.iterdir())
    Config(a=np.float32(0.5), b=(1, 2)).save(tmp_path / "c.yaml")
    assert Config.load(tmp_path / "c.yaml") == Config(a=0.5, b=[1, 2])


# -------------------------------------------------------------------------------------- dotted names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("torch.nn.Linear", nn.Linear),
        ("torch.optim.Adam", torch.optim.Adam),
        ("fastrl.nn.FlattenLinear", FlattenLinear),
        ("fastrl.utils.Config", Config),
        ("fastrl.utils.utils.linear_schedule", linear_schedule),
    ],
)
def test_names_and_what_they_stand_for(name, value):
    assert resolve(name) is value and dotted_name(value) == name


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "fastrl",
        "torch.nn",
        "torch.nn.",
        "torch.nnx.Linear",
        "torch.nn.NoSuchLayer",
        "fastrl.no_such.Thing",
        "fastrl.utils.config.copy",  # a module that a module imported
        "fastrl.utils.dotted.importlib.import_module",
        "fastrl.utils.config.Path",  # a class from elsewhere
        "fastrl.cli.main.main",  # a function that does things
        "fastrl.utils.config.Config.load",
        "fastrl.utils.plain_files._Loader",
        "fastrl.utils.plain_files.yaml",
        "torch.nn.Linear.__init__",
        "torch.nn.functional.relu",
        "torch.optim.lr_scheduler.LambdaLR",  # neither a layer nor an optimiser, though of their rooms
        "fastrl.envs.Timestep",
        "../x",
        3,
    ],
)
def test_names_of_anything_else_are_refused(name):
    with pytest.raises(SettingError, match=re.escape(repr(name))):
        resolve(name)


# ------------------------------------------------------------------------------------------ defaults


def test_there_is_a_default_of_each_algorithm_and_of_nothing_else():
    assert sorted(path.stem for path in DEFAULTS.iterdir()) == NAMES
    for name in ("PPO", "CHANGE", "add_more", "", "../config", 3):
        with pytest.raises(ValueError, match=f"name must be one of {', '.join(NAMES)}, got {name!r}"):
            Config.from_default(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_default_holds_what_an_agent_needs(name):
    config = Config.from_default(name)
    assert (
        config.env.env_name == "CartPole-v1"
        and config.env.num_envs >= 1
        and config.batch_size % config.env.num_envs == 0
    )
    state, action = {"shape": (4,)}, {"shape": 2, "space": "discrete", "dtype": "int64"}
    for part in (config.policy_nn_config, config.value_nn_config):
        network = nn_from_config(part, state, action)
        assert network(torch.zeros(3, 4)).shape == (3, 64)
    for optimizer in filter(None, (config.optimizer, config.get("value_optimizer"))):
        assert list(optimizer)[:5] == [
            "num_epochs",
            "num_mini_batches",
            "opt_fn",
            "opt_params",
            "clip_grad_norm",
        ]
        resolve(optimizer.opt_fn)(network.parameters(), **optimizer.opt_params)
    assert get_obj(config.advantage).gamma == 0.99 and get_obj(config.vtarget) is not None
    assert (
        0 < get_obj(config.advantage).gae_lambda <= 1
        and isinstance(config.normalize_advantages, bool)
        and config.max_steps > 0
    )
    assert (
        config.policy_model.func == f"fastrl.models.{name}Model" and config.policy_model.entropy_coef == 0.01
    )
    config.env.num_envs = 1000
    assert Config.from_default(name).env.num_envs != 1000  # nothing is shared


@pytest.mark.skipif(
    importlib.util.find_spec("fastrl.models") is None, reason="fastrl.models is not there yet"
)
@pytest.mark.parametrize("name", NAMES)
def test_the_models_of_a_default_are_there(name):
    config = Config.from_default(name)
    assert resolve(config.policy_model.func) and resolve(config.value_model.func) and resolve(config.env.func)


def test_wheels_hold_the_defaults_and_archs():
    project = Path(__file__).parents[3]
    patterns = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "fastrl"
    ]
    packed = {path for pattern in patterns for path in (project / "fastrl").glob(pattern)}
    assert set((project / "fastrl" / "toolkit" / "utils").glob("*/*.yaml")) <= packed and len(packed) >= 7


def test_settings_of_the_algorithms():
    assert Config.from_default("PPOClip").policy_model.ppo_clip_range == 0.2
    adaptive = Config.from_default("PPOAdaptive").policy_model
    assert adaptive.kl_target == 0.01 and adaptive.kl_penalty == 1.0
