"""Every flipped byte and every truncation is found, and the earlier checkpoint is used with a warning that
names the file."""

import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fastrl.errors import CheckpointError
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint

PLACES = 200


def make_state(step: int) -> dict:
    return {
        "step": step,
        "weights": torch.arange(50.0) + step,
        "array": np.arange(9),
        "nested": [{"text": "abc", "flag": True}],
    }


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    for step in (1, 2):
        save_checkpoint(root, make_state(step), step=step)
    return root


def damage(file: Path, how: random.Random) -> None:
    content = bytearray(file.read_bytes())
    place = how.randrange(len(content))
    if how.random() < 0.3:
        file.write_bytes(content[:place])
    else:
        content[place] ^= 1 << how.randrange(8)
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_damage_in_a_checkpoint(pristine, tmp_path, name):
    how = random.Random(name)
    for place in range(PLACES // 3 + 1):
        root = shutil.copytree(pristine, tmp_path / str(place))
        newest = root / "step-000000000002-0002"
        damage(newest / name, how)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(newest)
        with pytest.warns(
            UserWarning, match=f"{newest / name} is damaged.*continuing from the earlier checkpoint"
        ):
            assert load_checkpoint(root)["step"] == 1


def test_damage_in_latest(pristine, tmp_path):
    how = random.Random(1)
    for place in range(PLACES):
        root = shutil.copytree(pristine, tmp_path / str(place))
        damage(root / "LATEST", how)
        with pytest.warns(
            UserWarning, match="LATEST is missing or damaged; taking the newest good checkpoint"
        ):
            assert load_checkpoint(root)["step"] == 2


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_missing_file(pristine, tmp_path, name):
    root = shutil.copytree(pristine, tmp_path / "root")
    (root / "step-000000000002-0002" / name).unlink()
    with pytest.warns(UserWarning, match=f"{name} cannot be read .No such file"):
        assert load_checkpoint(root)["step"] == 1


def test_files_of_another_checkpoint_do_not_fit(pristine, tmp_path):
    root = shutil.copytree(pristine, tmp_path / "root")
    for name in ("tensors.safetensors", "state.json"):
        shutil.copy(root / "step-000000000001-0001" / name, root / "step-000000000002-0002" / name)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(root / "step-000000000002-0002")


def test_an_undamaged_one_loads_without_a_word(pristine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_checkpoint(pristine)
    assert loaded["step"] == 2 and loaded["weights"].equal(make_state(2)["weights"])
