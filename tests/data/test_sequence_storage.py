"""The replay's memory: where fields lie, what is written is what comes back, bad rows leave it as it was;
together with the index."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from fastrl.data.sequence_index import SequenceIndex
from fastrl.data.sequence_storage import SequenceStorage
from fastrl.native import load_module
from fastrl.ops import gather_sequences_reference
from fastrl.testing.case import random_elements

FIELDS: dict[str, Any] = {
    "obs": ((17,), torch.float32),
    "terminated": ((), torch.bool),
    "reward": ((), torch.float32),
    "action": ((2, 3), torch.float64),
    "pixels": ((5, 7), torch.uint8),
    "count": ((), torch.int64),
    "half": ((3,), torch.bfloat16),
    "nothing": ((0, 4), torch.float32),
    "wave": ((2,), torch.complex64),
}
REPLAY: dict[str, Any] = {
    "obs": ((17,), torch.float32),
    "action_exec": ((6,), torch.float32),
    "action_raw": ((6,), torch.float32),
    "behaviour_logp": ((), torch.float32),
    "reward": ((), torch.float32),
    "terminated": ((), torch.bool),
    "truncated": ((), torch.bool),
}


def random_row(
    fields: dict[str, Any], num_envs: int, seed: int, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if dtype.is_complex:
            return torch.randn((num_envs, *shape), dtype=dtype, generator=generator).to(device)
        return random_elements((num_envs, *shape), dtype, torch.device(device), generator)

    return {name: draw(*field) for name, field in fields.items()}


@pytest.mark.parametrize("num_envs", [1, 5])
def test_windows_are_what_was_written(num_envs: int, device: torch.device) -> None:
    storage = SequenceStorage(FIELDS, capacity=7, num_envs=num_envs, device=device)
    plain = {name: torch.zeros((7, num_envs, *shape), dtype=dtype) for name, (shape, dtype) in FIELDS.items()}
    for step in range(10):  # goes round
        row = random_row(FIELDS, num_envs, step, device)
        storage.write(step % 7, row)
        for name, value in row.items():
            plain[name][step % 7] = value.cpu()
    for name, field in storage.fields.items():
        assert torch.equal(field.cpu(), plain[name]) and storage[name] is field
    start, env = torch.tensor([0, 3, 6, 6]), torch.tensor([0, num_envs - 1, 0, num_envs // 2])
    windows = storage.gather(start, env, 4)
    assert list(windows) == list(FIELDS)
    for (name, window), expected in zip(
        windows.items(), gather_sequences_reference(list(plain.values()), start, env, 4), strict=True
    ):
        assert torch.equal(window.cpu(), expected), name
        assert window.is_contiguous() and window.device.type == device.type
    out = {name: torch.zeros_like(window) for name, window in windows.items()}
    again = storage.gather(start, env, 4, out=out)
    assert all(again[name] is out[name] and torch.equal(out[name], windows[name]) for name in FIELDS)


def test_a_row_begins_with_a_cache_line_unless_that_wastes_too_much() -> None:
    def row_bytes(*fields: tuple[tuple[int, ...], torch.dtype]) -> int:
        return SequenceStorage({str(i): field for i, field in enumerate(fields)}, 3, 2).row_bytes

    assert SequenceStorage(REPLAY, 3, 2).row_bytes == 128  # 4 (17 + 6 + 6 + 1 + 1) + 2 = 126
    assert row_bytes(((376,), torch.float32)) == 1536  # 1504: two in a hundred more
    assert row_bytes(((8,), torch.float32), ((2,), torch.bool)) == 36  # 34: to whole elements only
    assert row_bytes(((3,), torch.bool)) == 3
    assert row_bytes(((), torch.bool), ((), torch.float64)) == 16
    assert row_bytes(((0,), torch.float64)) > 0


def test_fields_of_a_row_lie_together_and_so_do_the_rows_of_an_environment() -> None:
    storage = SequenceStorage(REPLAY, capacity=10, num_envs=3)
    first = min(field.data_ptr() for field in storage.fields.values())
    assert first % 64 == 0
    for name, field in storage.fields.items():
        assert field.shape == (10, 3, *REPLAY[name][0]) and field.dtype == REPLAY[name][1]
        assert field.stride(0) * field.element_size() == 128
        # the lines of a row of all environments lie at different places of a cache, as if they lay together
        assert field.stride(1) * field.element_size() == 4096 + 128
        assert first <= field.data_ptr() and field.data_ptr() + field[0, 0].nbytes <= first + 126
    covered = sorted(
        (field.data_ptr(), field.data_ptr() + field[0, 0].nbytes) for field in storage.fields.values()
    )
    assert all(
        end <= begin for (_, end), (begin, _) in zip(covered, covered[1:], strict=False)
    )  # nothing lies on anything else


def test_the_size_is_told_before_it_is_taken() -> None:
    storage = SequenceStorage(FIELDS, 11, 3)
    assert storage.nbytes == SequenceStorage.nbytes_of(FIELDS, 11, 3)
    assert 0 <= SequenceStorage.nbytes_of(FIELDS, 10**6, 64) - 64 * 10**6 * storage.row_bytes < 64 * 5000
    assert storage.nbytes >= sum(field.nbytes for field in storage.fields.values())
    assert SequenceStorage.nbytes_of(FIELDS, 10**9, 1000) > 10**14  # asked for nothing yet


def test_it_begins_as_zeros_and_takes_memory_only_when_written() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    storage = SequenceStorage(REPLAY, capacity=5_000_000, num_envs=4)  # 2.6 GB
    storage.write(4_999_999, random_row(REPLAY, 4, 0))
    assert not storage["obs"][123_456].any() and storage["obs"][4_999_999].any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_memory_that_the_system_does_not_have_is_an_error() -> None:
    with pytest.raises(MemoryError, match="SequenceStorage: the system does not give"):
        SequenceStorage(REPLAY, capacity=2**50, num_envs=2)


def test_views_and_windows_outlive_the_storage() -> None:
    storage = SequenceStorage(REPLAY, 4, 2)
    row = random_row(REPLAY, 2, 0)
    storage.write(3, row)
    view = storage["obs"]
    del storage
    gc.collect()
    assert torch.equal(view[3], row["obs"])


def test_what_is_done_to_views_handed_out_does_not_lead_writing_astray() -> None:
    storage = SequenceStorage(REPLAY, 4, 2)
    storage["obs"].transpose_(0, 2)
    storage["reward"].set_(torch.zeros(1))  # type: ignore[call-overload]
    row = random_row(REPLAY, 2, 0)
    storage.write(1, row)
    windows = storage.gather(torch.tensor([1]), torch.tensor([1]), 1)
    assert torch.equal(windows["obs"][0, 0], row["obs"][1]) and torch.equal(
        windows["reward"][0, 0], row["reward"][1]
    )


@pytest.mark.parametrize(
    "layout", ["arrays", "transposed", "gaps", "reversed arrays", "expanded", "need gradients", "parameters"]
)
def test_values_of_any_layout(layout: str) -> None:
    fields = {name: field for name, field in FIELDS.items() if name not in ("half", "wave")}
    row = random_row(fields, 3, seed=1)

    def relaid(value: torch.Tensor) -> Any:
        if layout == "arrays":
            return value.numpy()
        if layout == "reversed arrays":
            return np.ascontiguousarray(value.numpy()[::-1])[::-1]
        if layout == "transposed":
            return value.movedim(0, -1).contiguous().movedim(-1, 0)
        if layout == "gaps":
            wide = value.new_zeros([2 * size for size in value.shape])
            wide[tuple(slice(None, None, 2) for _ in value.shape)] = value
            return wide[tuple(slice(None, None, 2) for _ in value.shape)]
        if layout == "expanded":
            return value[:1].expand_as(value)
        if value.is_floating_point():
            return value.clone().requires_grad_() if layout == "need gradients" else torch.nn.Parameter(value)
        return value

    storage = SequenceStorage(fields, 2, 3)
    given = {name: relaid(value) for name, value in row.items()}
    storage.write(1, given)
    for name in fields:
        assert torch.equal(
            storage[name][1],
            torch.as_tensor(np.ascontiguousarray(given[name])) if "arrays" in layout else given[name],
        )


def test_values_put_off_by_torch_are_refused_or_right() -> None:
    storage = SequenceStorage({"wave": ((2,), torch.complex64), "part": ((2,), torch.float32)}, 2, 1)
    wave = torch.randn(1, 2, dtype=torch.complex64)
    storage.write(0, {"wave": wave, "part": wave.real})
    for bad in ({"wave": wave.conj(), "part": wave.real}, {"wave": wave, "part": wave.conj().imag}):
        with pytest.raises(
            TypeError, match="SequenceStorage.write: (wave|part) must be a dense tensor that numpy can show"
        ):
            storage.write(0, bad)
    assert torch.equal(storage["wave"][0], wave) and torch.equal(storage["part"][0], wave.real)


GOOD = random_row(REPLAY, 3, 0)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (None, TypeError, "values must be a dict, got NoneType"),
        ([GOOD["obs"]], TypeError, "values must be a dict, got list"),
        ({}, ValueError, "values must have obs"),
        (
            {name: value for name, value in GOOD.items() if name != "truncated"},
            ValueError,
            "values must have truncated",
        ),
        (GOOD | {"more": GOOD["obs"]}, ValueError, "values must not have more"),
        (GOOD | {7: GOOD["obs"]}, ValueError, "values must not have 7"),
        (
            GOOD | {"truncated": GOOD["truncated"][1:]},
            ValueError,
            "truncated must have shape [N, ...] = [3], got [2]",
        ),
        (
            GOOD | {"truncated": GOOD["truncated"][:, None]},
            ValueError,
            "truncated must have shape [N, ...] = [3], got [3, 1]",
        ),
        (
            GOOD | {"action_raw": GOOD["action_raw"].T},
            ValueError,
            "action_raw must have shape [N, ...] = [3, 6], got [6, 3]",
        ),
        (GOOD | {"reward": GOOD["reward"].double()}, TypeError, "reward must be float32, got float64"),
        (
            GOOD | {"reward": GOOD["reward"].numpy().astype(np.float64)},
            TypeError,
            "reward must be float32, got float64",
        ),
        (
            GOOD | {"reward": GOOD["reward"].numpy().astype(">f4")},
            TypeError,
            "reward must be float32, got another dtype",
        ),
        (GOOD | {"reward": GOOD["reward"].numpy().astype(object)}, TypeError, "reward must be"),
        (GOOD | {"truncated": GOOD["truncated"].byte()}, TypeError, "truncated must be bool, got uint8"),
        (GOOD | {"reward": 1.0}, TypeError, "reward must be a tensor or a numpy array, got float"),
        (GOOD | {"reward": [1.0, 2.0, 3.0]}, TypeError, "reward must be a tensor or a numpy array, got list"),
        (GOOD | {"truncated": None}, TypeError, "truncated must be a tensor or a numpy array, got NoneType"),
        (
            GOOD | {"truncated": GOOD["truncated"].to("meta")},
            ValueError,
            "truncated must be on the CPU, got meta",
        ),
        (GOOD | {"truncated": GOOD["truncated"].to_sparse()}, TypeError, "truncated must be a dense tensor"),
    ],
)
def test_bad_values_are_refused_by_name_and_nothing_is_written(
    values: Any, error: type[Exception], message: str
) -> None:
    storage = SequenceStorage(REPLAY, 4, 3)
    with pytest.raises(error) as caught:
        storage.write(2, values)
    assert str(caught.value).startswith(f"SequenceStorage.write: {message}")
    assert not any(field.any() for field in storage.fields.values())


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        (4, IndexError, "row must be in [0, 4), got 4"),
        (-1, IndexError, "row must be in [0, 4), got -1"),
        (2**80, IndexError, "row must be in [0, 4), got"),
        (1.0, TypeError, "row must be an int, got float"),
        (True, TypeError, "row must be an int, got bool"),
        (None, TypeError, "row must be an int, got NoneType"),
    ],
)
def test_bad_rows_are_refused(row: Any, error: type[Exception], message: str) -> None:
    storage = SequenceStorage(REPLAY, 4, 3)
    with pytest.raises(error) as caught:
        storage.write(row, GOOD)
    assert str(caught.value).startswith(f"SequenceStorage.write: {message}")
    storage.write(np.int64(3), GOOD)  # type: ignore[arg-type]
    assert torch.equal(storage["obs"][3], GOOD["obs"])


@pytest.mark.parametrize(
    ("fields", "sizes", "error", "message"),
    [
        ({}, (4, 3), ValueError, "fields must name at least one field"),
        (None, (4, 3), ValueError, "fields must name at least one field"),
        ({"obs": torch.float32}, (4, 3), TypeError, "field obs must be (shape, dtype)"),
        ({"obs": ((3,), "float32")}, (4, 3), TypeError, "field obs must be (shape, dtype)"),
        ({"obs": (3, torch.float32)}, (4, 3), TypeError, "field obs must be (shape, dtype)"),
        (
            {"obs": ((3.0,), torch.float32)},
            (4, 3),
            ValueError,
            "the shape of field obs must be of ints, at least 0, got (3.0,)",
        ),
        (
            {"obs": ((-3,), torch.float32)},
            (4, 3),
            ValueError,
            "the shape of field obs must be of ints, at least 0, got (-3,)",
        ),
        ({3: ((3,), torch.float32)}, (4, 3), TypeError, "names of fields must be str, got 3"),
        (REPLAY, (0, 3), ValueError, "capacity must be at least 1, got 0"),
        (REPLAY, (4, -3), ValueError, "num_envs must be at least 1, got -3"),
        (REPLAY, (4.0, 3), TypeError, "capacity must be an int, got float"),
        (REPLAY, (2**40, 2**40), ValueError, "capacity, num_envs or fields too large"),
    ],
)
def test_bad_sizes_are_refused(
    fields: Any, sizes: tuple[Any, Any], error: type[Exception], message: str
) -> None:
    for make in (SequenceStorage, SequenceStorage.nbytes_of):
        with pytest.raises(error) as caught:
            make(fields, *sizes)
        assert str(caught.value).startswith(f"SequenceStorage: {message}")


def test_bad_windows_are_refused_by_name() -> None:
    storage = SequenceStorage(REPLAY, 4, 3)
    start, env = torch.tensor([0, 4]), torch.tensor([0, 2])
    with pytest.raises(IndexError, match=r"gather_sequences: start must be in \[0, C\) = \[0, 4\), got 4"):
        storage.gather(start, env, 2)
    with pytest.raises(ValueError, match=r"gather_sequences: seq_len must be in \[1, C\] = \[1, 4\], got 5"):
        storage.gather(env, env, 5)


def test_the_native_writer_guards_itself_too() -> None:
    writer = load_module().RowWriter
    field = torch.zeros(4, 3, 2)
    for names, fields in [
        ((), ()),
        (("a",), ()),
        (("a",), (torch.zeros(4),)),
        (("a",), (field[..., ::2].expand(4, 3, 2),)),
        (("a", "b"), (field, field[1:])),
        (("a",), (None,)),
    ]:
        with pytest.raises((TypeError, ValueError)):
            writer(names, fields)
    good = writer(("a",), (field,))
    for arguments in ((4, {"a": field[0]}), (-1, {"a": field[0]}), (0, {}), (0, None), (0, {"a": 1})):
        with pytest.raises((IndexError, TypeError, ValueError)):
            good.write(*arguments)
    assert not field.any()


def test_a_gradient_of_windows_written_over_is_refused() -> None:
    storage = SequenceStorage({"x": ((2,), torch.float32)}, 4, 1)
    zero, weights = torch.tensor([0]), torch.ones(3, 1, 2, requires_grad=True)
    out = storage.gather(zero, zero, 3)
    loss = (storage.gather(zero, zero, 3, out=out)["x"] * weights).sum()
    storage.gather(zero, zero, 3, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, weights)


def test_index_storage_and_gather_together_give_consecutive_steps() -> None:
    """Counters of several environments with reset rows, over several rounds of the ring: every window counts
    on from its first row."""
    capacity, num_envs, steps = 50, 6, 333
    index = SequenceIndex(capacity, num_envs, seed=5)
    storage = SequenceStorage(
        {"clock": ((), torch.int64), "env": ((1,), torch.float32), "valid": ((), torch.bool)},
        capacity,
        num_envs,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        valid = torch.rand(num_envs, generator=generator) < 0.8
        row = {
            "clock": torch.full((num_envs,), step),
            "env": torch.arange(num_envs, dtype=torch.float32)[:, None],
            "valid": valid,
        }
        storage.write(index.write_position, row)
        index.append(valid)
        seq_len = 1 + step % 9
        if step % 10 == 0 and index.num_windows(seq_len):
            start, env = index.sample(64, seq_len)
            windows = storage.gather(start, env, seq_len)
            clock = windows["clock"]
            assert torch.equal(clock, clock[0] + torch.arange(seq_len)[:, None])
            assert (clock[0] > step - capacity).all() and (clock[-1] <= step).all()
            assert (windows["env"][..., 0] == env).all()
            assert windows["valid"][0].all()
