"""The page on the command line: commands and flags exist."""

import re
from pathlib import Path

from fastrl.cli.main import COMMANDS
from fastrl.cli.train_flags import FOLDER_FLAGS
from fastrl.runs.config import RunConfig, field_types
from fastrl.trainers.registry import ALGORITHMS
from fastrl.trainers.vmpo.config import VMPOConfig

COMMAND_LINE = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")


def test_every_command_is_described_and_every_described_one_exists():
    assert set(re.findall(r"^fastrl (\w+)", COMMAND_LINE, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_flags_of_train_exist():
    table = COMMAND_LINE.split("## train")[1].split("Spellings")[0].split("| flag |")[1]
    described = {flag.replace("-", "_") for flag in re.findall(r"`--([\w-]+)`", table)}
    assert described <= set(field_types(VMPOConfig)) | set(FOLDER_FLAGS) | {"trust"}
    assert {
        "env_id",
        "num_envs",
        "seed",
        "device",
        "total_steps",
        "out_dir",
        "threads",
        "track",
        "resume",
        "config",
    } <= described


def test_the_settings_that_are_fixed_on_resume_are_those_of_the_code():
    """The table itself is compared by tests/test_tables.py."""
    assert "<!-- table: fixed -->" in COMMAND_LINE.split("### Resuming")[1].split("\n### ")[0]
    for algorithm in ALGORITHMS.values():
        config = algorithm.config_class()
        assert set(RunConfig.fixed_on_resume()) <= set(config.fixed_on_resume()) <= set(field_types(config))
