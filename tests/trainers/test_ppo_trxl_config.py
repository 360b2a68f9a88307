"""Settings of PPO-TrXL: ranges, and the documented constructor."""

import inspect

import pytest
from trxl_cases import SETTINGS, Unlimited, make_trainer, weights_hash

from fastrl.errors import SettingError
from fastrl.trainers.ppo_trxl.config import PRESETS, PPOTrXLConfig
from fastrl.trainers.ppo_trxl.trainer import PPOTRxLTrainer, PPOTrXLTrainer


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trxl_dim": 9, "trxl_num_heads": 3}, "trxl_dim must be even"),
        ({"trxl_dim": 10, "trxl_num_heads": 4}, "trxl_num_heads must divide trxl_dim"),
        ({"trxl_positional_encoding": "rotary"}, "trxl_positional_encoding must be"),
        (
            {"trxl_memory_length": 31},
            "trxl_memory_length must be at most the longest episode, 30 steps, got 31",
        ),
        ({"num_minibatches": 5}, "num_minibatches must divide num_envs × num_steps = 64, got 5"),
        ({"num_minibatches": 8, "minibatches": "environments"}, "num_minibatches must divide num_envs = 4"),
        (
            {"env_id": Unlimited, "env_kwargs": None, "max_episode_steps": None},
            "max_episode_steps must be given",
        ),
        ({"endless": True}, "trxl_positional_encoding must be relative or none"),
        ({"minibatches": "row"}, "minibatches must be rows or environments.*did you mean"),
        ({"clip_coef": 0.0}, "clip_coef must be finite and above 0"),
        ({"trxl_gating": "lstm"}, "trxl_gating must be"),
        ({"capture_video": True}, "capture_video needs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_setting_is_named(settings, words):
    with pytest.raises(SettingError, match=words):
        make_trainer(**settings).close()


DOCUMENTED_NAMES = {  # arguments of the documented constructor that have another name in the configuration
    "init_lr": "learning_rate",
    "final_lr": "final_learning_rate",
    "norm_adv": "normalize_advantages",
    "init_ent_coef": "ent_coef",
}


def test_the_configuration_has_the_defaults_of_the_documented_constructor():
    """And every argument but the prefix of video files is a setting."""
    config = PPOTrXLConfig.documented(env_id="ProofofMemory-v0")
    parameters = inspect.signature(PPOTrXLTrainer).parameters
    for name, parameter in parameters.items():
        if name in ("run_name", "settings"):
            continue
        setting = DOCUMENTED_NAMES.get(name, name)
        assert hasattr(config, setting), name
        if parameter.default is not inspect.Parameter.empty:
            assert getattr(config, setting) == parameter.default, name
    assert not config.normalize_observation and config.eval_interval == config.save_interval == 0


def test_the_documented_constructor_and_the_configuration_make_one_trainer():
    """Arguments under their documented names, and the settings that they stand for."""
    with make_trainer("ProofofMemory-v0") as trainer:
        settings = {DOCUMENTED_NAMES.get(name, name): value for name, value in SETTINGS.items()}
        config = PPOTrXLConfig.documented(env_id="ProofofMemory-v0", **settings | {"device": "cpu"})
        with PPOTRxLTrainer.from_config(config) as other:
            assert type(other) is type(trainer) and other.config == trainer.config
            assert weights_hash(other) == weights_hash(trainer)


@pytest.mark.parametrize("env_id", PRESETS)
def test_presets_are_settings_in_range(env_id):
    PPOTrXLConfig(env_id=env_id, **PPOTrXLConfig.preset(env_id)).check()
