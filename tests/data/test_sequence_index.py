"""The replay's bookkeeping: counted against a list, uniform by chi-square, restored exactly, and never fooled
by a damaged state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from fastrl.data.sequence_index import SequenceIndex
from fastrl.native import load_module
from fastrl.runs.state_codec import decode_state, encode_state


class ListModel:
    """The same ring as a list of rows, the oldest first: (position, flags)."""

    def __init__(self, capacity: int, num_envs: int) -> None:
        self.capacity, self.num_envs = capacity, num_envs
        self.stored: list[tuple[int, list[bool]]] = []
        self.appended = 0

    def append(self, valid: list[bool]) -> int:
        position = self.appended % self.capacity
        self.appended += 1
        self.stored = [*self.stored, (position, valid)][-self.capacity :]
        return position

    def windows(self, seq_len: int) -> set[tuple[int, int]]:
        starts = self.stored[: max(0, len(self.stored) - seq_len + 1)]
        return {(position, env) for position, valid in starts for env in range(self.num_envs) if valid[env]}


def filled(
    capacity: int, num_envs: int, rows: int, share: float = 0.8, seed: int = 0
) -> tuple[SequenceIndex, ListModel]:
    index, model = SequenceIndex(capacity, num_envs, seed=seed), ListModel(capacity, num_envs)
    for valid in np.random.default_rng(seed).random((rows, num_envs)) < share:
        assert index.append(valid) == model.append(valid.tolist())
    return index, model


def drawn(index: SequenceIndex, count: int, seq_len: int) -> list[tuple[int, int]]:
    start, env = index.sample(count, seq_len)
    return list(zip(start.tolist(), env.tolist(), strict=True))


def run_program(number: int) -> None:
    """Random calls, each compared with the list."""
    rng = random.Random(number)
    capacity, num_envs = rng.choice(
        [(rng.randint(1, 12), rng.randint(1, 5)), (rng.randint(1, 300), rng.randint(1, 70))]
    )
    index, model = SequenceIndex(capacity, num_envs, seed=number), ListModel(capacity, num_envs)
    share = rng.choice((0.0, 0.02, 0.5, 0.9, 1.0))
    for _ in range(rng.randint(1, 40)):
        call = rng.random()
        if call < 0.7:
            for _ in range(rng.choice((1, 1, 3, capacity // 2))):
                valid = [rng.random() < share for _ in range(num_envs)]
                given = torch.tensor(valid) if rng.random() < 0.5 else np.array(valid)
                assert index.write_position == model.appended % capacity
                assert index.append(given) == model.append(valid)
        elif call < 0.95:
            seq_len = rng.randint(1, max(1, min(capacity + 1, len(model.stored) + 1)))
            windows = model.windows(seq_len)
            assert index.num_windows(seq_len) == len(windows)
            if windows:
                assert set(drawn(index, rng.randint(0, 30), seq_len)) <= windows
            else:
                with pytest.raises(
                    ValueError, match=rf"^SequenceIndex\.sample: .*{index.rows} rows are stored"
                ):
                    index.sample(1, seq_len)
        else:
            other = SequenceIndex(capacity, num_envs, seed=0)
            other.load_state_dict(index.state_dict())
            index = other
        assert (len(index), index.rows) == (sum(sum(valid) for _, valid in model.stored), len(model.stored))


def test_two_thousand_random_programs_agree_with_a_list() -> None:
    for number in range(2000):
        try:
            run_program(number)
        except AssertionError as error:
            raise AssertionError(f"program {number}") from error


def chi_square(counts: np.ndarray) -> float:
    """How many standard deviations the statistic of equal probabilities lies above its mean."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize(
    ("capacity", "num_envs", "rows", "share"),
    [
        pytest.param(40, 3, 25, 0.8, id="not yet full"),
        pytest.param(40, 3, 40, 0.8, id="just full"),
        pytest.param(40, 3, 97, 0.8, id="gone round"),
        pytest.param(40, 3, 97, 1.0, id="transitions only"),
        pytest.param(40, 3, 97, 0.3, id="around the number where guessing stops"),
        pytest.param(300, 5, 777, 0.05, id="few transitions"),
        pytest.param(64, 64, 100, 0.9, id="whole words"),
    ],
)
@pytest.mark.parametrize("seq_len", [1, 2, 7])
def test_every_window_is_drawn_with_the_same_probability(
    capacity: int, num_envs: int, rows: int, share: float, seq_len: int
) -> None:
    index, model = filled(capacity, num_envs, rows, share)
    windows = model.windows(seq_len)
    start, env = index.sample(1_000_000, seq_len)
    found, counts = torch.unique(start * num_envs + env, return_counts=True)
    assert set(found.tolist()) == {position * num_envs + env for position, env in windows}
    assert abs(chi_square(counts.numpy())) < 5


def test_the_chi_square_sees_a_bias_of_two_in_a_hundred() -> None:
    weights = np.where(np.arange(100) < 50, 1.02, 1.0)
    counts = np.random.default_rng(0).multinomial(1_000_000, weights / weights.sum())
    assert chi_square(counts) > 5


def test_the_longest_window_and_those_that_are_too_long() -> None:
    index, _ = filled(5, 2, rows=12, share=1.0)
    assert set(drawn(index, 50, 5)) == {(2, 0), (2, 1)}  # the oldest row
    assert index.num_windows(5) == 2 and index.num_windows(6) == 0
    message = (
        "a window of 6 rows needs as many stored rows, more than the capacity of 5, but 5 rows are stored, "
        "with 10 transitions"
    )
    with pytest.raises(ValueError, match=f"^SequenceIndex.sample: {message}$"):
        index.sample(1, 6)


def test_the_message_says_how_many_rows_there_are_and_are_needed() -> None:
    index = SequenceIndex(10, 2, seed=0)
    with pytest.raises(
        ValueError,
        match="a window of 1 rows needs as many stored rows, but 0 rows are stored, with 0 transitions",
    ):
        index.sample(1, 1)
    for _ in range(3):
        index.append(torch.tensor([False, False]))
    with pytest.raises(
        ValueError,
        match="no window of 2 rows begins with a transition: 3 rows are stored, with 0 transitions",
    ):
        index.sample(1, 2)
    index.append(torch.tensor([True, False]))
    assert index.num_windows(1) == 1
    with pytest.raises(
        ValueError,
        match="no window of 2 rows begins with a transition: 4 rows are stored, with 1 transitions",
    ):
        index.sample(1, 2)


def test_counts_and_places_in_a_large_ring_with_few_transitions() -> None:
    """Several levels of counts, and windows that are picked by their number."""
    capacity, rows = 600_000, 900_000
    valid = np.random.default_rng(1).random(rows) < 1e-3
    index = SequenceIndex(capacity, 1, seed=1)
    for flag in valid[:, None]:
        index.append(flag)
    kept = valid[rows - capacity :]
    assert len(index) == kept.sum()
    for seq_len in (1, 2, 1000, 300_000, 599_999, capacity):
        starts = np.flatnonzero(kept[: capacity - seq_len + 1])
        assert index.num_windows(seq_len) == len(starts)
        if len(starts):
            start, _ = index.sample(3000, seq_len)
            ages = (start.numpy() - rows) % capacity
            assert np.isin(ages, starts).all()
            assert len(np.unique(ages)) > 0.95 * len(starts)  # 3,000 draws from some 600 windows or fewer


def test_draws_follow_the_published_generator() -> None:
    """xoshiro256++ seeded by splitmix64, in Python's integers."""
    mask = 2**64 - 1
    index, _ = filled(8, 1, rows=8, share=1.0, seed=42)
    z, state = 42, []
    for _ in range(4):
        z = (z + 0x9E3779B97F4A7C15) & mask
        word = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        state.append(word ^ (word >> 31))
    assert index.state_dict()["random"] == state
    expected = []
    for _ in range(100):
        total = (state[0] + state[3]) & mask
        number = ((((total << 23) | (total >> 41)) & mask) + state[0]) & mask
        shifted = (state[1] << 17) & mask
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= shifted
        state[3] = ((state[3] << 45) | (state[3] >> 19)) & mask
        expected.append(number * 8 >> 64)
    assert index.sample(100, 1)[0].tolist() == expected


def test_equal_seeds_draw_the_same_and_others_do_not() -> None:
    first, second, third = (filled(50, 4, 120, seed=3)[0] for _ in range(3))
    assert drawn(first, 100, 3) == drawn(second, 100, 3)
    third.sample(1, 3)
    assert drawn(first, 100, 3) != drawn(third, 100, 3)
    assert (
        SequenceIndex(1, 1, seed=-1).state_dict()["random"]
        == SequenceIndex(1, 1, seed=2**64 - 1).state_dict()["random"]
    )


@pytest.mark.parametrize("rows", [0, 30, 50, 120])
def test_a_restored_index_goes_on_as_if_nothing_had_happened(rows: int) -> None:
    index, _ = filled(50, 3, rows)
    if rows:
        index.sample(17, 2)
    data, tensors = encode_state(index.state_dict())
    restored = SequenceIndex(50, 3, seed=99)
    restored.load_state_dict(decode_state(data, tensors))
    for step in range(200):
        valid = torch.rand(3, generator=torch.Generator().manual_seed(step)) < 0.7
        assert index.append(valid) == restored.append(valid)
        if index.num_windows(4):
            assert drawn(index, 5, 4) == drawn(restored, 5, 4)
    assert (len(index), index.rows, index.write_position) == (
        len(restored),
        restored.rows,
        restored.write_position,
    )


def changed(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**state, **changes}


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("no state", lambda state: None),
        ("a list", lambda state: list(state)),
        ("nothing in it", lambda state: {}),
        ("a key missing", lambda state: {name: state[name] for name in list(state)[1:]}),
        ("a key too many", lambda state: changed(state, more=1)),
        ("another capacity", lambda state: changed(state, capacity=11)),
        ("another number of environments", lambda state: changed(state, num_envs=4)),
        ("rows negative", lambda state: changed(state, rows=-1)),
        ("rows above the capacity", lambda state: changed(state, rows=11)),
        ("rows huge", lambda state: changed(state, rows=2**70)),
        ("rows a float", lambda state: changed(state, rows=6.0)),
        ("rows a flag", lambda state: changed(state, rows=True)),
        ("fewer rows than bits", lambda state: changed(state, rows=5, write_position=5)),
        ("write position at the capacity", lambda state: changed(state, write_position=10)),
        ("write position elsewhere", lambda state: changed(state, write_position=3)),
        ("write position a string", lambda state: changed(state, write_position="6")),
        ("random all zeros", lambda state: changed(state, random=[0, 0, 0, 0])),
        ("random too short", lambda state: changed(state, random=[1, 2, 3])),
        ("random negative", lambda state: changed(state, random=[1, 2, 3, -4])),
        ("random too large", lambda state: changed(state, random=[1, 2, 3, 2**64])),
        ("random of floats", lambda state: changed(state, random=[1.0, 2.0, 3.0, 4.0])),
        ("random a number", lambda state: changed(state, random=7)),
        ("valid a list", lambda state: changed(state, valid=[0, 0, 0, 0])),
        ("valid bool", lambda state: changed(state, valid=state["valid"].bool())),
        ("valid of rank 2", lambda state: changed(state, valid=state["valid"][None])),
        ("valid too short", lambda state: changed(state, valid=state["valid"][:-1])),
        ("valid too long", lambda state: changed(state, valid=torch.cat([state["valid"], state["valid"]]))),
        ("valid empty", lambda state: changed(state, valid=state["valid"][:0])),
        ("valid without data", lambda state: changed(state, valid=state["valid"].to("meta"))),
        ("valid sparse", lambda state: changed(state, valid=state["valid"].to_sparse())),
        (
            "bits on rows that are not stored",
            lambda state: changed(state, valid=torch.full_like(state["valid"], 255)),
        ),
        (
            "a bit behind the last row",
            lambda state: changed(
                state, valid=state["valid"] + torch.tensor([0, 0, 0, 128], dtype=torch.uint8)
            ),
        ),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(what: str, damage: Any) -> None:
    index, model = filled(10, 3, rows=6, share=1.0)
    state = index.state_dict()
    with pytest.raises(ValueError, match=r"^SequenceIndex\.load_state_dict: "):
        index.load_state_dict(damage(state))
    after = index.state_dict()
    assert torch.equal(after.pop("valid"), state.pop("valid")) and after == state
    assert set(drawn(index, 100, 2)) <= model.windows(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, 0), ValueError, "SequenceIndex: capacity must be at least 1, got 0"),
        ((1, -3, 0), ValueError, "SequenceIndex: num_envs must be at least 1, got -3"),
        ((2**62, 2**62, 0), ValueError, "SequenceIndex: capacity times num_envs must be at most 2^56"),
        ((2**70, 1, 0), ValueError, "SequenceIndex: capacity and num_envs must be below 2^63"),
        ((1.5, 1, 0), TypeError, "SequenceIndex: capacity must be an int, got float"),
        ((1, True, 0), TypeError, "SequenceIndex: num_envs must be an int, got bool"),
        ((1, 1, None), TypeError, "SequenceIndex: seed must be an int, got NoneType"),
    ],
)
def test_bad_sizes_are_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        SequenceIndex(*arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("valid", "error", "message"),
    [
        ([True, False, True], TypeError, "valid must be a tensor or a numpy array, got list"),
        (None, TypeError, "valid must be a tensor or a numpy array, got NoneType"),
        (torch.ones(2, dtype=torch.bool), ValueError, "valid must have shape [N] = [3], got [2]"),
        (torch.ones(1, 3, dtype=torch.bool), ValueError, "valid must have shape [N] = [3], got [1, 3]"),
        (torch.tensor(True), ValueError, "valid must have shape [N] = [3], got []"),
        (torch.ones(3), TypeError, "valid must be bool, got float32"),
        (torch.ones(3, dtype=torch.uint8), TypeError, "valid must be bool, got uint8"),
        (np.ones(3, dtype=np.int64), TypeError, "valid must be bool, got int64"),
        (np.array(["a", "b", "c"]), TypeError, "valid must be bool, got another dtype"),
        (torch.ones(3, dtype=torch.bool, device="meta"), ValueError, "valid must be on the CPU, got meta"),
        (torch.ones(3, dtype=torch.bool).to_sparse(), TypeError, "valid must be a dense tensor"),
        (b"abc", TypeError, "valid must be bool, got uint8"),
    ],
)
def test_bad_flags_are_refused_and_nothing_is_stored(
    valid: Any, error: type[Exception], message: str
) -> None:
    index = SequenceIndex(5, 3, seed=0)
    with pytest.raises(error) as caught:
        index.append(valid)
    assert str(caught.value).startswith(f"SequenceIndex.append: {message}")
    assert index.rows == 0


def test_tensors_that_have_no_memory_of_their_own_are_refused() -> None:
    """What says it is on the CPU, and has nothing to read there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    class Pretender:
        __dlpack_c_exchange_api__ = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)

    index = SequenceIndex(5, 3, seed=0)
    with FakeTensorMode():
        fake = torch.ones(3, dtype=torch.bool)
    for valid in (fake, Pretender()):
        with pytest.raises(TypeError, match="SequenceIndex.append: valid must be"):
            index.append(valid)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SequenceIndex.append: valid must be"):
        torch.vmap(lambda row: (index.append(row), row)[1])(torch.ones(2, 3, dtype=torch.bool))
    assert index.rows == 0


@pytest.mark.parametrize("layout", ["every other", "reversed array", "expanded", "parameter", "inference"])
def test_flags_of_any_layout(layout: str) -> None:
    flags = torch.tensor([True, False, False])
    with torch.inference_mode(layout == "inference"):
        given: Any = {
            "every other": torch.tensor([True, True, False, True, False, True])[::2],
            "reversed array": np.array([False, False, True])[::-1],
            "expanded": torch.tensor([True]).expand(3),
            "parameter": torch.nn.Parameter(flags, requires_grad=False),
            "inference": flags.clone(),
        }[layout]
    index = SequenceIndex(4, 3, seed=0)
    index.append(given)
    assert {env for _, env in drawn(index, 50, 1)} == ({0, 1, 2} if layout == "expanded" else {0})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, 2), ValueError, "batch_size must be at least 0"),
        ((2.0, 2), TypeError, "batch_size must be an int, got float"),
        ((True, 2), TypeError, "batch_size must be an int, got bool"),
        ((2, 0), ValueError, "seq_len must be at least 1"),
        ((2, -(2**63)), ValueError, "seq_len must be at least 1"),
        ((2, 2**80), ValueError, "seq_len must be at least 1 and below 2^63"),
        ((2, "3"), TypeError, "seq_len must be an int, got str"),
    ],
)
def test_bad_draws_are_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    index, _ = filled(5, 3, 5)
    with pytest.raises(error) as caught:
        index.sample(*arguments)
    assert str(caught.value).startswith(f"SequenceIndex.sample: {message}")


def test_sizes_may_be_numpy_integers() -> None:
    index, _ = filled(5, 3, 5)
    start, env = index.sample(np.int64(4), np.int32(2))  # type: ignore[arg-type]
    assert start.shape == env.shape == (4,) and start.dtype == env.dtype == torch.int64
    assert index.sample(0, 2)[0].shape == (0,)


def test_the_native_class_guards_itself_too() -> None:
    native = load_module().SequenceIndex
    for arguments in ((0, 1, 0), (1, 0, 0), (2**40, 2**40, 0)):
        with pytest.raises(ValueError):
            native(*arguments)
    index = native(4, 2, 0)
    index.append(torch.ones(2, dtype=torch.bool))
    for windows in (
        torch.empty(2, 3),
        torch.empty(3, 2, dtype=torch.int64).T[:, ::2],
        torch.empty(3, dtype=torch.int64),
        None,
    ):
        with pytest.raises((TypeError, ValueError)):
            index.sample(1, windows)
    with pytest.raises(ValueError):
        index.save_bits(torch.empty(9, dtype=torch.uint8))
    for bits in (torch.zeros(4, dtype=torch.uint8)[::2], torch.zeros(1), torch.zeros(0, dtype=torch.uint8)):
        with pytest.raises((TypeError, ValueError)):
            index.load(1, 1, 1, 2, 3, 4, bits)
