"""Earlier names of settings work in Python, in files and as flags, with a warning that names the new."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fastrl.cli.renamed_flags import as_flag
from fastrl.cli.train_flags import read_train_flags
from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig
from fastrl.runs.renamed import RENAMED, find_renamed
from fastrl.trainers.registry import ALGORITHMS, Algorithm


@dataclass(kw_only=True)
class Config(RunConfig):
    """Every new name, at a value of its type."""

    DOCUMENTED: ClassVar[dict[str, Any]] = {**RunConfig.DOCUMENTED, "log_std_init": -1.0}

    num_steps: int = 1
    update_epochs: int = 1
    num_minibatches: int = 1
    dae_minibatches: int = 1
    learning_rate: float = 1.0
    final_learning_rate: float = 1.0
    clip_coef: float = 0.2
    clip_vloss: bool = False
    max_grad_norm: float = 1.0
    ent_coef: float = 1.0
    vf_coef: float = 1.0
    normalize_advantages: bool = False
    shared_encoder: bool = False
    log_std_init: float = 0.0


@dataclass(kw_only=True)
class EarlierConfig(RunConfig):
    """An earlier name that a class still has is no earlier name."""

    rollout_steps: int = 7


OLD_AND_NEW = {
    "rollout_steps": (3, 3),
    "num_epochs": (3, 3),
    "num_mini_batches": (3, 3),
    "dae_mini_batches": (3, 3),
    "lr": (0.5, 0.5),
    "init_lr": (0.5, 0.5),
    "final_lr": (0.5, 0.5),
    "clip_range": (0.5, 0.5),
    "value_clip_range": (0.2, True),
    "clip_grad_norm": (0.5, 0.5),
    "entropy_coef": (0.5, 0.5),
    "init_ent_coef": (0.5, 0.5),
    "value_coef": (0.25, 0.5),
    "norm_adv": (True, True),
    "shared_body": (True, True),
    "initial_log_std": (-0.5, -0.5),
    "init_std": (0.5, math.log(0.5)),
}
each_name = pytest.mark.parametrize("old", RENAMED)


def flags_of(old: str, value: Any) -> list[str]:
    return [as_flag(old)] if value is True else [as_flag(old), str(value)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`read(*words)`: the configuration that flags make of `Config`."""
    monkeypatch.setattr(Algorithm, "config_class", lambda self: Config)
    algorithm = Algorithm("mine", "", "", "")
    return lambda *words: read_train_flags(algorithm, ["--env-id", "X-v0", *words]).config


def test_the_table_is_tried_whole() -> None:
    assert set(OLD_AND_NEW) == set(RENAMED)
    assert {renamed.name for renamed in RENAMED.values()} <= {
        field.name for field in dataclasses.fields(Config)
    }


@each_name
def test_keyword_arguments(old: str) -> None:
    value, expected = OLD_AND_NEW[old]
    new = RENAMED[old].name
    for make in (Config, Config.documented, lambda **settings: Config.of(settings)):
        with pytest.warns(DeprecationWarning, match=f"^{old} is now {new};") as caught:
            config: Any = make(**{"env_id": "X-v0", old: value})
        assert getattr(config, new) == expected and len(caught) == 1
        with pytest.raises(SettingError, match=f"are one setting, {new}; give it once"):
            make(**{"env_id": "X-v0", old: value, new: expected})


def test_the_warning_says_what_has_become_of_the_value() -> None:
    with pytest.warns(DeprecationWarning, match="twice as much, where values are not clipped"):
        Config(env_id="X-v0", value_coef=0.5)
    with pytest.warns(DeprecationWarning, match="next release; its logarithm$"):
        Config(env_id="X-v0", init_std=0.5)


def test_the_warning_shows_the_line_that_gives_the_name() -> None:
    with pytest.warns(DeprecationWarning) as caught:
        Config(env_id="X-v0", lr=0.5)
    assert caught[0].filename == __file__


@each_name
def test_files(old: str) -> None:
    value, expected = OLD_AND_NEW[old]
    written = str(value).lower()
    with pytest.warns(FutureWarning, match=f"^{old} is now {RENAMED[old].name};"):
        config = Config.from_toml(f'env_id = "X-v0"\n{old} = {written}')
    assert getattr(config, RENAMED[old].name) == expected


@each_name
def test_flags(old: str, read: Callable[..., Any]) -> None:
    value, expected = OLD_AND_NEW[old]
    new = RENAMED[old].name
    with pytest.warns(FutureWarning, match=f"^{as_flag(old)} is now {as_flag(new)};") as caught:
        config = read(*flags_of(old, value))
    assert getattr(config, new) == expected and len(caught) == 1
    with pytest.raises(SettingError, match=f"are one setting, {as_flag(new)}; give it once"):
        read(*flags_of(old, value), *flags_of(new, expected))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--lr=0.5", "learning_rate", 0.5),
        ("--init_lr 0.5 --init-lr 0.25", "learning_rate", 0.25),
        ("--no-shared-body", "shared_encoder", False),
        ("--shared-body false", "shared_encoder", False),
        ("--num-epochs 1e1", "update_epochs", 10),
        ("--value-clip-range none", "clip_vloss", False),
    ],
)
def test_spellings_of_earlier_flags(read: Callable[..., Any], words: str, name: str, value: Any) -> None:
    with pytest.warns(FutureWarning):
        found = getattr(read(*words.split()), name)
    assert found == value and type(found) is type(value)


def test_flags_of_today_are_left_as_they_are(read: Callable[..., Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read("--learning-rate=0.5", "--env-kwargs=a=--lr", "b=1").env_kwargs == {"a": "--lr", "b": 1}


def test_a_value_clip_range_of_another_width_is_spoken_of(read: Callable[..., Any], tmp_path: Path) -> None:
    words = "values are clipped with clip_coef = 0.1 too, not with value_clip_range = 0.4"
    with pytest.warns(DeprecationWarning, match=words):
        assert Config(env_id="X-v0", value_clip_range=0.4, clip_coef=0.1).clip_vloss
    with pytest.warns(FutureWarning, match=words):
        assert read("--value-clip-range", "0.4", "--clip-coef", "0.1").clip_vloss
    (tmp_path / "my.toml").write_text("value_clip_range = 0.4\nclip_coef = 0.1")
    with pytest.warns(FutureWarning, match=words):
        assert read("--config", str(tmp_path / "my.toml")).clip_vloss


@pytest.mark.parametrize(
    ("settings", "vf_coef"),
    [
        # earlier value_coef · mean (V − G)², or where clipped value_coef · ½ mean max(...); 0.5 by default
        ({"value_coef": 0.5}, 1.0),
        ({"value_coef": 0.5, "value_clip_range": "none"}, 1.0),
        ({"value_coef": 0.25, "value_clip_range": 0.2}, 0.25),
        ({"value_clip_range": 0.2, "value_coef": 0.25}, 0.25),
        ({"value_coef": 0.25, "clip_vloss": True}, 0.25),
        ({"value_coef": 0.25, "clip_vloss": False}, 0.5),
        ({"value_clip_range": 0.2}, 0.5),
        ({"value_clip_range": "none"}, 1.0),
        ({"value_clip_range": 0.2, "vf_coef": 1.0}, 1.0),
        ({"clip_vloss": True}, 1.0),
    ],
)
def test_earlier_names_give_the_value_loss_that_they_gave(
    read: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], vf_coef: float
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    words = [word for name, value in settings.items() for word in (as_flag(name), str(value))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configs = Config(env_id="X-v0", **settings), read("--config", str(file)), read(*words)
    assert [config.vf_coef for config in configs] == [vf_coef] * 3


@pytest.mark.parametrize("value", [0, -1.0, "wide", None, []])
def test_a_value_without_a_meaning_now(value: Any) -> None:
    with pytest.raises(SettingError, match="^init_std, now log_std_init, cannot be"):
        Config(env_id="X-v0", init_std=value)


def test_a_name_that_a_class_has_is_no_earlier_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EarlierConfig(env_id="X-v0", rollout_steps=3).rollout_steps == 3
    with pytest.raises(SettingError, match="lr is no setting of EarlierConfig"):
        EarlierConfig.of({"env_id": "X-v0", "lr": 0.5})


def test_signatures_are_those_of_the_settings() -> None:
    names = {field.name for field in dataclasses.fields(Config)}
    assert set(inspect.signature(Config).parameters) == names


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_algorithm_has_an_earlier_name(algorithm: str) -> None:
    names = {field.name for field in dataclasses.fields(ALGORITHMS[algorithm].config_class())}
    assert not names & set(RENAMED)
    assert all(find_renamed(old, names) for old, new in RENAMED.items() if new.name in names)


def test_the_earlier_factor_of_the_value_loss_had_no_half_in_front():
    from fastrl.trainers.policy_gradient.config import PPOConfig

    with pytest.warns(DeprecationWarning, match="value_coef is now vf_coef"):
        assert PPOConfig(env_id="CartPole-v1", value_coef=0.25).vf_coef == 0.5
