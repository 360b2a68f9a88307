"""The pages on the command line and on checkpoints: examples run, and commands and flags exist."""

import re
from pathlib import Path

import pytest

from fastrl.cli.main import COMMANDS
from fastrl.cli.train_flags import FOLDER_FLAGS
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.training.config import field_types

DOCS = Path(__file__).parents[2] / "docs"
CHECKPOINTS, COMMAND_LINE = ((DOCS / name).read_text(encoding="utf-8") for name in ("checkpoints.md", "command_line.md"))
EXAMPLES = re.findall(r"```python\n(.*?)```", CHECKPOINTS, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number):
    exec(compile(EXAMPLES[number], f"checkpoints.md example {number}", "exec"), {})


def test_the_page_has_examples():
    assert len(EXAMPLES) >= 2


def test_every_command_is_described_and_every_described_one_exists():
    assert set(re.findall(r"^fastrl (\w+)", COMMAND_LINE, flags=re.MULTILINE)) == set(COMMANDS)


def test_the_flags_of_train_exist():
    table = COMMAND_LINE.split("## train")[1].split("Spellings")[0].split("| flag |")[1]
    described = {flag.replace("-", "_") for flag in re.findall(r"`--([\w-]+)`", table)}
    assert described <= set(field_types(VMPOConfig)) | set(FOLDER_FLAGS)
    assert {"env_id", "num_envs", "seed", "device", "total_steps", "out_dir", "threads", "track", "resume", "config"} <= described
