"""The tables in docs/ that docs/tables.py writes are those of the code, and settings mean one thing each."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fastrl.runs.config import field_types
from fastrl.runs.renamed import RENAMED

DOCS = Path(__file__).parents[1] / "docs"

# by the name that a setting has, names of the same meaning that no algorithm may have
SYNONYMS: dict[str, set[str]] = {
    "num_envs": {"n_envs", "num_environments", "env_count"},
    "num_steps": {"n_steps", "rollout_length", "unroll_length", "horizon"},
    "num_minibatches": {"n_minibatches", "minibatch_count", "num_batches"},
    "update_epochs": {"n_epochs", "epochs", "ppo_epochs", "passes"},
    "learning_rate": {"learn_rate", "step_size", "alpha"},
    "final_learning_rate": {"end_lr", "lr_final"},
    "anneal_lr": {"lr_decay", "decay_lr", "lr_schedule"},
    "policy_lr": {"actor_lr", "pi_lr"},
    "q_lr": {"critic_lr"},
    "value_lr": {"vf_lr", "v_lr"},
    "gamma": {"discount", "discount_factor"},
    "gae_lambda": {"lam", "lambda_gae", "td_lambda"},
    "clip_coef": {"clip_eps", "clip_epsilon", "clip_ratio", "epsilon_clip"},
    "clip_vloss": {"clip_value_loss", "value_clip", "clip_range_vf"},
    "ent_coef": {"entropy_bonus", "entropy_weight", "beta"},
    "vf_coef": {"value_weight", "critic_coef", "vf_weight"},
    "max_grad_norm": {"grad_clip", "clip_grad", "gradient_clip"},
    "target_kl": {"kl_limit", "max_kl"},
    "normalize_advantages": {"normalize_advantage", "standardize_advantages", "adv_norm"},
    "normalize_observation": {"normalize_observations", "norm_obs", "obs_norm"},
    "normalize_reward": {"normalize_rewards", "norm_reward", "reward_norm"},
    "log_std_init": {"init_log_std", "log_std", "std_init"},
    "shared_encoder": {"share_encoder", "shared_network", "shared_trunk"},
    "policy_layer_sizes": {"actor_layer_sizes", "policy_hidden"},
    "critic_layer_sizes": {"q_layer_sizes", "critic_hidden"},
    "batch_size": {"minibatch_size", "sample_size"},
    "replay_size": {"buffer_size", "replay_capacity", "memory_size"},
    "update_after": {"learning_starts", "warmup_steps", "start_steps"},
    "sign_rewards": {"clip_rewards", "reward_clip"},
    "frame_stack": {"stack_num", "num_stack"},
    "frame_skip": {"action_repeat"},
    "grey_scale": {"gray_scale", "grayscale"},
    "sticky_actions": {"repeat_action_probability"},
    "total_steps": {"total_timesteps", "max_steps", "num_timesteps"},
}


def load_tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()


def sorted_fields() -> dict[str, list[str]]:
    """The algorithms that have a setting, by setting."""
    return dict(tables.owners_by_setting())


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_tables_are_those_of_the_code(page: Path) -> None:
    assert tables.written_anew(page) == page.read_text(encoding="utf-8"), "run python docs/tables.py"


def test_every_table_is_in_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    written = {name for _, name, _, _ in tables.BLOCK.findall(text)}
    documented = {"documented vmpo", "documented mpo", "documented ppo-trxl"}  # constructors with defaults
    assert written == {"common", "shared", "single", "renamed", "fixed", "metrics"} | documented


def test_every_setting_has_a_meaning_and_is_listed() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    for name, owners in sorted_fields().items():
        assert f"| `{name}` |" in text
        for owner in owners:
            assert tables.setting_texts(tables.configs()[owner])[name].endswith(".")


def test_no_setting_has_two_names() -> None:
    banned = {word: name for name, words in SYNONYMS.items() for word in words}
    banned |= {old: renamed.name for old, renamed in RENAMED.items()}
    assert not set(banned) & set(SYNONYMS)
    assert {name: banned[name] for name in sorted_fields() if name in banned} == {}


@pytest.mark.parametrize("name", sorted(name for name, owners in sorted_fields().items() if len(owners) > 1))
def test_a_setting_of_several_algorithms_has_one_type_and_one_meaning(name: str) -> None:
    """Docstrings are equal up to the first comma, colon or semicolon; what follows is the algorithm's."""
    classes = {owner: tables.configs()[owner] for owner in sorted_fields()[name]}
    types = {owner: field_types(config)[name] for owner, config in classes.items()}
    assert len(set(map(str, types.values()))) == 1, types
    heads = {owner: tables.head(tables.setting_texts(config)[name]) for owner, config in classes.items()}
    assert len(set(heads.values())) == 1, heads


def test_a_table_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: renamed -->\n| old |\n<!-- end -->\nafter\n", encoding="utf-8")
    anew = tables.written_anew(page)
    assert anew.startswith("before\n<!-- table: renamed -->\n\n| earlier | now |\n")
    assert anew.endswith("\n\n<!-- end -->\nafter\n") and "| old |" not in anew
