"""A configuration from elsewhere names what does things when it is called: wherever it stands, nothing is
called."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fastrl.errors import SettingError
from fastrl.toolkit.agents import agent_from_config
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.models import PPOClipModel
from fastrl.toolkit.utils.config import Config

GAE = "fastrl.utils.estimators.advantage.GAE"
LAYER = {"func": "torch.nn.Linear", "out_features": 4}
BASE = {
    "env": {"func": "fastrl.envs.GymEnv", "env_name": "Identity-v0"},
    "batch_size": 16,
    "policy_model": {"func": "fastrl.models.A2CModel"},
    "value_model": {"func": "fastrl.models.ValueModel"},
    "optimizer": {"opt_fn": "torch.optim.Adam"},
}
# where the mapping with `func` can stand
PLACES = {
    "argument": lambda call: {"advantage": {"func": GAE, "gamma": call}},
    "list": lambda call: {"advantage": {"func": GAE, "gamma": [call]}},
    "list in a list": lambda call: {"advantage": {"func": GAE, "gamma": [[0.5, [call]]]}},
    "mapping in a list": lambda call: {"advantage": {"func": GAE, "gamma": [{"deep": {"er": call}}]}},
    "argument of a schedule": lambda call: {
        "optimizer": {
            "lr_schedule": {
                "func": "fastrl.utils.utils.linear_schedule",
                "initial": call,
                "final": 0,
                "final_step": 9,
            }
        }
    },
    "list of coefficients": lambda call: {"optimizer": {"loss_coef": [1.0, call]}},
    "options of the optimiser": lambda call: {"optimizer": {"opt_params": {"lr": call}}},
    "class of the optimiser": lambda call: {"optimizer": {"opt_fn": call}},
    "another optimiser": lambda call: {"value_optimizer": {"opt_params": {"betas": [call, 0.9]}}},
    "transforms": lambda call: {"transforms": [call]},
    "all transforms": lambda call: {"transforms": call},
    "argument of a transform": lambda call: {
        "transforms": [{"func": "fastrl.batchers.transforms.RewardClipper", "bound": call}]
    },
    "environment": lambda call: {"env": call},
    "option of the environment": lambda call: {"env": dict(BASE["env"], crop=call)},
    "wrappers": lambda call: {"env": dict(BASE["env"], wrappers=[call])},
    "layer": lambda call: {"policy_nn_config": {"body": [LAYER, call]}},
    "layer of the head": lambda call: {"value_nn_config": {"head": [call]}},
    "argument of a layer": lambda call: {"policy_nn_config": {"body": [dict(LAYER, out_features=call)]}},
    "network": lambda call: {"policy_nn_config": call},
    "model": lambda call: {"policy_model": call},
    "argument of a model": lambda call: {
        "policy_model": {"func": "fastrl.models.PPOClipModel", "ppo_clip_range": call}
    },
    "advantage": lambda call: {"advantage": call},
    "targets": lambda call: {"vtarget": call},
    "advantage model": lambda call: {"advantage_model": call},
    "seed": lambda call: {"seed": call},
    "device": lambda call: {"device": call},
    "batch size": lambda call: {"batch_size": call},
}
CALLS = {
    "a function": {"func": "fastrl.utils.plain_files.write_file", "path": "canary.json", "values": {"a": 1}},
    "a function of functions": {
        "func": "fastrl.utils.utils.get_obj",
        "config": {"func": "fastrl.utils.plain_files.write_file", "path": "canary.json", "values": {}},
    },
    "a class that writes": {"func": "fastrl.utils.logger.Logger", "log_dir": "canary"},
    "a class of another room": {"func": "fastrl.runs.metrics.MetricsLogger", "folder": "canary"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_called(place: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(BASE | PLACES[place](CALLS[call])))
    with pytest.raises(SettingError):
        agent_from_config(file, log_dir=None)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("call", CALLS)
def test_models_from_files_call_nothing_either(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump({"nn_config": {"body": [CALLS[call]]}}))
    with pytest.raises(SettingError, match="body, layer 0: .* is nothing that a configuration may name"):
        PPOClipModel.from_file(file, batcher=RolloutBatcher("Identity-v0", batch_size=4))
    assert list(tmp_path.iterdir()) == [file]


def test_a_named_environment_is_one_only_where_the_environment_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"func": "fastrl.envs.GymEnv", "env_name": "Identity-v0"}
    for place in ("list", "layer", "argument of a model", "class of the optimiser", "transforms"):
        file = tmp_path / "agent.yaml"
        file.write_text(yaml.safe_dump(BASE | PLACES[place](env)))
        with pytest.raises(SettingError, match="must be"):
            agent_from_config(file, log_dir=None)


def test_names_of_packaged_files_are_no_paths(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("body: []")
    for name in (str(tmp_path / "own"), "../defaults/A2C"):
        with pytest.raises(SettingError, match="name must be one of"):
            PPOClipModel.from_arch(name, RolloutBatcher("Identity-v0", batch_size=4))
        with pytest.raises(SettingError, match="name must be one of"):
            Config.from_default(name)
