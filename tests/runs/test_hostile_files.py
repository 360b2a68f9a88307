"""Loading any file runs no code from it. The checkpoints here have manifests that fit: only the content is
hostile."""

import io
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fastrl.errors import CheckpointError, SettingError
from fastrl.runs import checkpoint
from fastrl.runs.config import RunConfig, values_from_toml

NAME = "step-000000000007-0001"


class Bomb:
    """Unpickling this makes the canary file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def plant(root: Path, state: bytes, tensors: bytes) -> Path:
    """A checkpoint with these files and a manifest that says they are right."""
    folder = root / NAME
    folder.mkdir()
    (folder / "state.json").write_bytes(state)
    (folder / "tensors.safetensors").write_bytes(tensors)
    (folder / "manifest.json").write_bytes(checkpoint._manifest(folder, 7))
    (root / "LATEST").write_text(checkpoint._latest_line(NAME))
    return folder


GOOD_TENSORS = safetensors.torch.save({"0": torch.ones(2)})
GOOD_STATE = b'{"dict":[["a",{"tensor":"0"}]]}'


def bomb_pickle(canary: Path) -> bytes:
    return pickle.dumps(Bomb(canary))


def bomb_torch(canary: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"0": Bomb(canary)}, buffer)
    return buffer.getvalue()


HOSTILE = {
    "a pickle as state": lambda canary: (bomb_pickle(canary), GOOD_TENSORS),
    "a pickle as tensors": lambda canary: (GOOD_STATE, bomb_pickle(canary)),
    "a torch file as tensors": lambda canary: (GOOD_STATE, bomb_torch(canary)),
    "a torch file as state": lambda canary: (bomb_torch(canary), GOOD_TENSORS),
    "python as state": lambda canary: (f"__import__('os').mkdir({str(canary)!r})".encode(), GOOD_TENSORS),
    "python as a kind": lambda canary: (
        json.dumps({"dict": [["a", {"eval": f"os.mkdir({str(canary)!r})"}]]}).encode(),
        GOOD_TENSORS,
    ),
    "a class as a kind": lambda canary: (
        json.dumps({"py/object": "os.mkdir", "py/args": [str(canary)]}).encode(),
        GOOD_TENSORS,
    ),
    "a reduce entry": lambda canary: (
        json.dumps({"__reduce__": ["os.mkdir", [str(canary)]]}).encode(),
        GOOD_TENSORS,
    ),
    "python as an integer": lambda canary: (
        json.dumps({"dict": [["a", {"int": f"os.mkdir({str(canary)!r})"}]]}).encode(),
        GOOD_TENSORS,
    ),
    "a path as a tensor": lambda canary: (b'{"dict":[["a",{"tensor":"../../etc/passwd"}]]}', GOOD_TENSORS),
    "a list as a tensor": lambda canary: (b'{"dict":[["a",{"tensor":["0"]}]]}', GOOD_TENSORS),
    "a list as a key": lambda canary: (b'{"dict":[[{"list":[]},1]]}', GOOD_TENSORS),
    "a key twice": lambda canary: (b'{"dict":[["a",1],["a",2]]}', GOOD_TENSORS),
    "no pair": lambda canary: (b'{"dict":[["a"]]}', GOOD_TENSORS),
    "no dict": lambda canary: (b'{"list":[1]}', GOOD_TENSORS),
    "bare json": lambda canary: (b'{"a":1,"b":2}', GOOD_TENSORS),
    "endless nesting": lambda canary: (b"[" * 200_000, GOOD_TENSORS),
    "deep nesting": lambda canary: (b'{"list":[' * 500 + b"]}" * 500, GOOD_TENSORS),
    "an unknown float": lambda canary: (b'{"dict":[["a",{"float":"1e5000000"}]]}', GOOD_TENSORS),
    "no text": lambda canary: (b"\xff\xfe\x00\xd8", GOOD_TENSORS),
    "a header longer than the file": lambda canary: (GOOD_STATE, struct.pack("<Q", 2**62) + GOOD_TENSORS[8:]),
    "a tensor larger than the file": lambda canary: (
        GOOD_STATE,
        struct.pack("<Q", 68)
        + b'{"0":{"dtype":"F32","shape":[999999999],"data_offsets":[0,3999999996]}}'[:68],
    ),
    "empty files": lambda canary: (b"", b""),
    "a complex tensor that is none": lambda canary: (
        b'{"dict":[["a",{"complex_tensor":"0"}]]}',
        safetensors.torch.save({"0": torch.ones(3)}),
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(tmp_path, hostile):
    canary = tmp_path / "canary"
    root = tmp_path / "root"
    root.mkdir()
    folder = plant(root, *hostile(canary))
    for path in (folder, root):
        with pytest.raises(CheckpointError, match=str(folder)):
            checkpoint.load_checkpoint(path)
    assert not canary.exists()


def test_the_bomb_would_go_off_if_anything_unpickled_it(tmp_path):
    pickle.loads(bomb_pickle(tmp_path / "canary"))
    assert (tmp_path / "canary").exists()


def test_the_planted_checkpoint_loads_when_its_content_is_good(tmp_path):
    assert checkpoint.load_checkpoint(plant(tmp_path, GOOD_STATE, GOOD_TENSORS))["a"].equal(torch.ones(2))


@pytest.mark.parametrize("name", ["../outside", "/etc", "..", "step-000000000007-0001/../../outside", ""])
def test_latest_cannot_lead_outside(tmp_path, name):
    plant(tmp_path, GOOD_STATE, GOOD_TENSORS)
    (tmp_path / "LATEST").write_text(checkpoint._latest_line(name))
    with pytest.warns(UserWarning, match="LATEST is missing or damaged"):
        assert checkpoint.load_checkpoint(tmp_path)["a"].equal(torch.ones(2))


@pytest.mark.parametrize(
    "files", [{"state.json": 1}, {"../state.json": {}, "tensors.safetensors": {}}, [], None, "state.json"]
)
def test_a_manifest_may_only_speak_of_its_own_files(tmp_path, files):
    folder = plant(tmp_path, GOOD_STATE, GOOD_TENSORS)
    (folder / "manifest.json").write_bytes(
        checkpoint._seal({"files": files, "format": checkpoint.FORMAT, "step": 7})
    )
    with pytest.raises(CheckpointError, match="manifest.json is damaged or not the manifest"):
        checkpoint.load_checkpoint(folder)


@pytest.mark.parametrize(
    "text",
    [
        "env_id = __import__('os').system('true')",
        'env_id = "x"\n[__class__]\nname = "os.system"',
        'env_id = {"py/object" = "os.system"}',
        "env_id = !!python/object/apply:os.mkdir [canary]",
        'env_id = "x"\nseed = "2 + 2"',
        "a" * 100_000,
        "env_id = " + "[" * 5_000,
    ],
)
def test_a_hostile_config_is_refused(text):
    with pytest.raises(SettingError, match="config.toml"):
        values_from_toml(RunConfig, text)


def test_nothing_in_the_package_can_run_code_from_a_file():
    package = Path(checkpoint.__file__).parents[1]
    forbidden = (
        "import pickle",
        "cloudpickle",
        "weights_only=False",
        "yaml.load(",
        "torch.load(",
        " eval(",
        "=eval(",
        " exec(",
        "marshal",
    )
    for file in package.rglob("*.py"):
        text = file.read_text()
        assert not [word for word in forbidden if word in text], file


def test_a_tensor_stands_for_one_value(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    plant(root, b'{"dict":[["a",{"tensor":"0"}],["b",{"tensor":"0"}]]}', GOOD_TENSORS)
    with pytest.raises(CheckpointError, match="tensor '0' is missing, or named twice"):
        checkpoint.load_checkpoint(root)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.rename(path.parent.parent / f"real-{path.name}")
    path.symlink_to(path.parent.parent / f"real-{path.name}")


@pytest.mark.parametrize("make, reason", [(make_pipe, "it is a pipe"), (make_link, "it is a link")])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "tensors.safetensors"])
def test_files_of_a_checkpoint_are_regular_files(tmp_path, name, make, reason):
    (tmp_path / "root").mkdir()
    folder = plant(tmp_path / "root", GOOD_STATE, GOOD_TENSORS)
    make(folder / name)
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: {reason}"):
        checkpoint.load_checkpoint(folder)


def test_a_file_of_more_than_the_memory_is_refused_unread(tmp_path):
    folder = plant(tmp_path, GOOD_STATE, GOOD_TENSORS)
    os.truncate(folder / "tensors.safetensors", 10**13)  # takes no room on the disk
    with pytest.raises(CheckpointError, match="it has 10,000,000,000,000 bytes"):
        checkpoint.load_checkpoint(folder)


def test_a_checkpoint_that_is_a_link_to_another_run_is_passed_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "other").mkdir()
    folder = plant(tmp_path / "other", GOOD_STATE, GOOD_TENSORS)
    (tmp_path / "mine" / NAME).symlink_to(folder)
    (tmp_path / "mine" / "LATEST").write_text(checkpoint._latest_line(NAME))
    with pytest.raises(CheckpointError, match=f"there is no checkpoint in {tmp_path / 'mine'}"):
        checkpoint.load_checkpoint(tmp_path / "mine")
    checkpoint.save_checkpoint(tmp_path / "mine", {"a": 1}, step=9, keep=1)
    assert checkpoint.load_checkpoint(tmp_path / "mine") == {"a": 1}
    assert (folder / "state.json").read_bytes() == GOOD_STATE  # nothing was pruned through the link


def test_saving_follows_no_links(tmp_path):
    (tmp_path / "mine").write_text("mine")
    root = tmp_path / "root"
    root.mkdir()
    for name in ("LATEST", "LATEST.tmp", "step-000000000001-0001.tmp"):
        (root / name).symlink_to(tmp_path / "mine")
    checkpoint.save_checkpoint(root, {"a": 1}, step=1)
    assert checkpoint.load_checkpoint(root) == {"a": 1}
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_was_loaded_does_not_depend_on_the_file(tmp_path):
    folder = checkpoint.save_checkpoint(tmp_path, {"w": torch.arange(10_000.0)}, step=1)
    loaded = checkpoint.load_checkpoint(tmp_path)["w"]
    (folder / "tensors.safetensors").open("r+b").truncate(10)
    assert loaded.equal(torch.arange(10_000.0))
    loaded.zero_()  # its own memory, to write to as well


def test_all_files_of_a_checkpoint_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        folder = checkpoint.save_checkpoint(tmp_path, {"w": torch.ones(2)}, step=1)
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in [*folder.iterdir(), tmp_path / "LATEST"]} == {
        "0o640"
    }
