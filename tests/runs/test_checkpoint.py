"""Checkpoints: what comes back, names and pruning, and what happens when writing or reading fails."""

import math
import os
import random
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from fastrl.errors import CheckpointError
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    *(torch.complex128, torch.complex64),
]


def round_trip(folder: Path, state: dict) -> dict:
    return load_checkpoint(save_checkpoint(folder, state, step=0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_tensors_of_every_dtype_come_back_bit_for_bit(tmp_path, dtype, shape):
    count = math.prod(shape)
    tensor = (
        torch.tensor([0, 1, 3, 0, 5, 7][:count] or [1][:count], dtype=torch.float32).reshape(shape).to(dtype)
    )
    loaded = round_trip(tmp_path, {"x": tensor})["x"]
    assert loaded.dtype == dtype and loaded.shape == tensor.shape
    assert loaded.flatten().view(torch.uint8).equal(tensor.flatten().view(torch.uint8))


def test_tensors_that_share_memory_or_lie_across_it_come_back_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    loaded = round_trip(
        tmp_path, {"base": base, "transposed": base.T, "row": base[1], "expanded": base[:1].expand(5, 4)}
    )
    assert (
        loaded["transposed"].equal(base.T)
        and loaded["row"].equal(base[1])
        and loaded["expanded"].equal(base[:1].expand(5, 4))
    )
    loaded["base"].zero_()
    assert loaded["row"].equal(base[1])  # nothing shares memory afterwards


def test_parameters_come_back_as_tensors(tmp_path):
    loaded = round_trip(
        tmp_path, torch.nn.Linear(2, 2).state_dict() | {"p": torch.nn.Parameter(torch.ones(2))}
    )
    assert type(loaded["p"]) is torch.Tensor and not loaded["p"].requires_grad


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64", ">i4", ">f8"])
def test_numpy_arrays_come_back_as_numpy_arrays(tmp_path, dtype):
    array = np.array([[0, 1, 3], [5, 7, 0]]).astype(dtype)
    for case in (array, array.T, array[:, ::2], np.array(array[1, 1]), array[:0]):
        loaded = round_trip(tmp_path, {"x": case})["x"]
        assert (
            isinstance(loaded, np.ndarray)
            and loaded.dtype == case.dtype.newbyteorder("=")
            and loaded.shape == case.shape
        )
        assert (loaded == case).all()


def test_values_come_back_exactly_with_their_types(tmp_path):
    state = {
        "integers": [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 2**128 + 7, -(3**50_000)],
        "floats": (0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf),
        "others": [True, False, None, "", "text", "zweitausend €", "\ud800", {"tensor": "0"}, {"dict": []}],
        "empty": [[], (), {}],
        7: {-1: {2**70: "integer keys"}},
        "generator": random.Random(3).getstate(),
    }
    loaded = round_trip(tmp_path, state)
    assert loaded == state
    assert repr(loaded["floats"]) == repr(state["floats"])  # == does not tell -0.0 from 0.0
    assert [type(value) for value in loaded["others"]] == [type(value) for value in state["others"]]
    assert type(loaded["empty"][1]) is tuple and list(loaded) == list(state)


def test_nan_subclasses_and_numpy_scalars(tmp_path):
    loaded = round_trip(
        tmp_path,
        {"nan": math.nan, "ordered": OrderedDict(b=1, a=2), "scalar": np.float32(0.1), "count": np.int64(3)},
    )
    assert math.isnan(loaded["nan"]) and list(loaded["ordered"].items()) == [("b", 1), ("a", 2)]
    assert (
        loaded["scalar"] == float(np.float32(0.1)) and loaded["count"] == 3 and type(loaded["count"]) is int
    )


def test_an_optimiser_continues_as_if_nothing_had_happened(tmp_path):
    def step(model, optimiser):
        optimiser.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimiser.step()

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(model.parameters(), amsgrad=True)
    step(model, optimiser)
    loaded = round_trip(tmp_path, {"model": model.state_dict(), "optimiser": optimiser.state_dict()})
    twin = torch.nn.Linear(3, 2)
    twin_optimiser = torch.optim.Adam(twin.parameters(), lr=9.0)
    twin.load_state_dict(loaded["model"])
    twin_optimiser.load_state_dict(loaded["optimiser"])
    step(model, optimiser)
    step(twin, twin_optimiser)
    assert twin.weight.equal(model.weight)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (object(), r"state\['a'\]\[1\] is a object"),
        (lambda: 0, r"state\['a'\]\[1\] is a function"),
        (b"bytes", r"state\['a'\]\[1\] is a bytes"),
        ({1.5: 0}, r"state\['a'\]\[1\] has the key 1.5"),
        (np.array(["text"]), r"state\['a'\]\[1\] is a numpy array"),
        (np.array([object()]), r"state\['a'\]\[1\] is a numpy array"),
        (torch.zeros(2, 2).to_sparse(), r"state\['a'\]\[1\] is a torch.sparse_coo tensor"),
        (torch.zeros(2, device="meta"), r"state\['a'\]\[1\] is a torch.strided tensor on meta"),
    ],
    ids=["object", "function", "bytes", "float key", "string array", "object array", "sparse", "meta"],
)
def test_what_cannot_be_saved_is_refused_by_its_place_and_nothing_is_written(tmp_path, value, where):
    with pytest.raises(TypeError, match=where):
        save_checkpoint(tmp_path / "root", {"a": [0, value]}, step=0)
    assert not (tmp_path / "root").exists()


def test_a_state_that_contains_itself_is_refused(tmp_path):
    state: dict = {}
    state["again"] = state
    with pytest.raises(TypeError, match="deeper than"):
        save_checkpoint(tmp_path, state, step=0)


def test_the_newest_are_kept_and_names_are_never_used_twice(tmp_path):
    names = [
        save_checkpoint(tmp_path, {"save": save}, step=step, keep=2).name
        for save, step in enumerate([5, 5, 3, 9])
    ]
    assert len(set(names)) == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(
        ["LATEST", *names[2:]]
    )  # by time of saving, not by step
    assert load_checkpoint(tmp_path) == {"save": 3}
    assert load_checkpoint(tmp_path / names[2]) == {"save": 2}


@pytest.mark.parametrize("name", ["step-000000000005-0001", "step-000000000005-0002"])
def test_a_link_in_the_way_of_the_next_name_is_passed_by(tmp_path, name):
    root, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / name).symlink_to(elsewhere)
    for save in range(2):
        save_checkpoint(root, {"save": save}, step=5)
    assert load_checkpoint(root) == {"save": 1} and list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"step": -1}, {"step": 0, "keep": 0}])
def test_impossible_arguments(tmp_path, arguments):
    with pytest.raises(ValueError, match="save_checkpoint: step must be at least 0 and keep at least 1"):
        save_checkpoint(tmp_path, {}, **arguments)


def test_a_killed_save_leaves_nothing_that_stays(tmp_path):
    save_checkpoint(tmp_path, {"a": 1}, step=1)
    (tmp_path / "step-000000000002-0002.tmp").mkdir()
    (tmp_path / "step-000000000002-0002.tmp" / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / "step-000000000000-0000.old").mkdir()
    (tmp_path / "LATEST.tmp").write_text("half")
    (tmp_path / "notes.txt").write_text("the user's own")
    assert load_checkpoint(tmp_path) == {"a": 1}
    newest = save_checkpoint(tmp_path, {"a": 2}, step=2)
    assert {entry.name for entry in tmp_path.iterdir()} == {
        "LATEST",
        "step-000000000001-0001",
        newest.name,
        "notes.txt",
    }


def test_nothing_to_load_is_an_error_and_never_a_fresh_start(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=f"there is no checkpoint in {path}"):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "step-000000000001-0001")


def test_a_missing_newest_checkpoint_is_said(tmp_path):
    save_checkpoint(tmp_path, {"a": 1}, step=1)
    newest = save_checkpoint(tmp_path, {"a": 2}, step=2)
    newest.rename(tmp_path / "elsewhere")
    with pytest.warns(
        UserWarning, match=f"there is no checkpoint {newest}; continuing from the earlier checkpoint"
    ):
        assert load_checkpoint(tmp_path) == {"a": 1}
    # and its name is not used again
    assert save_checkpoint(tmp_path, {"a": 3}, step=2).name != newest.name


def test_when_every_checkpoint_is_damaged_each_is_named(tmp_path):
    folders = [save_checkpoint(tmp_path, {"a": step}, step=step) for step in (1, 2)]
    for folder in folders:
        (folder / "state.json").write_text("{}")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    assert all(str(folder / "state.json") in str(error.value) for folder in folders)


FULL_DISK = """
    import resource, sys, torch
    from pathlib import Path
    from fastrl.errors import CheckpointError
    from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
    root = Path(sys.argv[1])
    save_checkpoint(root, {"x": torch.ones(10)}, step=1)
    # from here on a file cannot grow beyond this, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    for state in ({"x": torch.ones(100_000)}, {"x": "text" * 10_000}):
        try:
            save_checkpoint(root, state, step=2)
        except CheckpointError as error:
            print(error)
    assert load_checkpoint(root)["x"].equal(torch.ones(10))
    print(sorted(entry.name for entry in root.iterdir()))
"""


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "root")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    *errors, listing = result.stdout.splitlines()
    assert len(errors) == 2
    for error in errors:
        assert "could not be written" in error and "File too large" in error
        assert "the earlier checkpoint step-000000000001-0001 is untouched" in error
    assert listing == "['LATEST', 'step-000000000001-0001']"


def test_a_root_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written .* there is no earlier checkpoint"):
        save_checkpoint(tmp_path / "file" / "root", {}, step=0)


def test_an_old_checkpoint_that_cannot_be_removed_does_not_stop_the_run(tmp_path, monkeypatch):
    first = save_checkpoint(tmp_path, {"a": 1}, step=1, keep=1)
    monkeypatch.setattr(
        "shutil.rmtree", lambda path, **_: (_ for _ in ()).throw(PermissionError(f"denied: {path}"))
    )
    with pytest.warns(UserWarning, match="could not be removed: denied"):
        save_checkpoint(tmp_path, {"a": 2}, step=2, keep=1)
    monkeypatch.undo()
    save_checkpoint(tmp_path, {"a": 3}, step=3, keep=1)
    assert len(os.listdir(tmp_path)) == 2 and not first.exists()
