"""What drawing, gathering and adding windows of a replay take, beside TorchRL's storage, torch.index_select
and the bandwidth of a copy.

    python bench/ops_special/gather_sequences.py [--rounds 60] [--write]

One thread. The seven fields of MPO's replay, 256 windows, no window twice in a row. All ways in turns, so
that a busy machine slows all of them alike; medians over the rounds. `copy` is what it takes to copy the
windows' bytes at the rate of a copy of 36 MB in the same turns.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastrl.data.sequence_index import SequenceIndex
from fastrl.data.sequence_storage import SequenceStorage
from fastrl.ops import gather_sequences

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

BATCH = 256
LENGTHS = (2, 8, 32)
# transitions in the ring, environments, length of an observation, of an action; one environment is what
# TorchRL stores
RINGS = (
    (100_000, 1, 17, 6),
    (1_000_000, 1, 17, 6),
    (10_000_000, 1, 17, 6),
    (1_000_000, 64, 17, 6),
    (100_000, 1, 376, 17),
    (1_000_000, 1, 376, 17),
    (1_000_000, 64, 376, 17),
)
MOST_FOR_ALL = 5 << 30  # bytes of a ring that is kept three times over
COPIED = 36 << 20
Calls = dict[str, Callable[[], Any]]


def fields_of(observation: int, action: int) -> dict[str, Any]:
    number, flag = ((), torch.float32), ((), torch.bool)
    vectors = {
        "obs": ((observation,), torch.float32),
        "action_exec": ((action,), torch.float32),
        "action_raw": ((action,), torch.float32),
    }
    return vectors | {"behaviour_logp": number, "reward": number, "terminated": flag, "truncated": flag}


def medians(calls: Calls, rounds: int, repeats: int = 1) -> dict[str, float]:
    """Seconds of each call, all of them in turns, each `repeats` times in a row."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(-2, rounds):
        for name, call in calls.items():
            call()  # warms what every call needs, once another has had the caches
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            if round_number >= 0:
                taken[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def copy_call(nbytes: int = COPIED) -> Callable[[], Any]:
    source, target = torch.ones(nbytes // 4), torch.zeros(nbytes // 4)
    return lambda: target.copy_(source)


def make_rings(
    transitions: int, envs: int, fields: dict[str, Any]
) -> tuple[SequenceStorage, dict[str, Tensor]]:
    """The same numbers in a storage, and in a tensor for each field."""
    rows = transitions // envs
    plain = {}
    storage = SequenceStorage(fields, rows, envs)
    for name, (shape, dtype) in fields.items():
        plain[name] = torch.empty((rows, envs, *shape), dtype=dtype)
        numbers = torch.arange(transitions).remainder_(1000).view(rows, envs, *(1 for _ in shape))
        plain[name].copy_(numbers % 2 if dtype == torch.bool else numbers)
        storage[name].copy_(plain[name])
    return storage, plain


def torchrl_storage(plain: dict[str, Tensor], transitions: int) -> Any:
    """TorchRL's storage of the same, or None where it is not installed."""
    try:
        from tensordict import TensorDict
        from torchrl.data import LazyTensorStorage
    except ImportError:
        return None
    storage = LazyTensorStorage(transitions)
    rows = TensorDict({name: field.flatten(0, 1) for name, field in plain.items()}, batch_size=[transitions])
    storage.set(range(transitions), rows)
    return storage


def windows(rows: int, envs: int, length: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Starts, environments and flat indices of windows, others at every turn."""
    drawn = []
    for seed in range(61):
        generator = torch.Generator().manual_seed(seed)
        start, env = (
            torch.randint(0, rows, (BATCH,), generator=generator),
            torch.randint(0, envs, (BATCH,), generator=generator),
        )
        drawn.append((start, env, ((start + torch.arange(length)[:, None]) % rows * envs + env).flatten()))
    return itertools.cycle(drawn)


def gather_calls(storage: SequenceStorage, plain: dict[str, Tensor], theirs: Any, length: int) -> Calls:
    rows, envs = storage.capacity, storage.num_envs
    turn = windows(rows, envs, length)
    fields, flat = list(plain.values()), [field.flatten(0, 1) for field in plain.values()]
    start, env, index = next(turn)
    expected = [torch.index_select(field, 0, index) for field in flat]
    first = storage.gather(start, env, length)
    assert all(
        torch.equal(window.flatten(0, 1), right)
        for window, right in zip(first.values(), expected, strict=True)
    )
    reused = {name: torch.empty_like(window) for name, window in first.items()}
    reused_list, reused_flat = list(reused.values()), [window.flatten(0, 1) for window in reused.values()]

    def ours() -> None:
        start, env, _ = next(turn)
        storage.gather(start, env, length)

    def ours_reused() -> None:
        start, env, _ = next(turn)
        storage.gather(start, env, length, out=reused)

    def by_field() -> None:
        start, env, _ = next(turn)
        gather_sequences(fields, start, env, length)

    def by_field_reused() -> None:
        start, env, _ = next(turn)
        gather_sequences(fields, start, env, length, out=reused_list)

    def index_select() -> None:
        index = next(turn)[2]
        _ = [torch.index_select(field, 0, index) for field in flat]

    def index_select_reused() -> None:
        index = next(turn)[2]
        for field, out in zip(flat, reused_flat, strict=True):
            torch.index_select(field, 0, index, out=out)

    calls: Calls = {
        "storage": ours,
        "storage, out": ours_reused,
        "op on a tensor a field": by_field,
        "op on a tensor a field, out": by_field_reused,
        "index_select": index_select,
        "index_select, out": index_select_reused,
    }
    if theirs is not None:
        calls["torchrl"] = lambda: theirs.get(next(turn)[2])
    return calls


def bench_gathering(rounds: int) -> list[dict[str, Any]]:
    results = []
    copy = copy_call()
    print("gathering 256 windows, µs")
    for transitions, envs, observation, action in RINGS:
        fields = fields_of(observation, action)
        storage, plain = make_rings(transitions, envs, fields)
        small = storage.nbytes < MOST_FOR_ALL / 3
        theirs = torchrl_storage(plain, transitions) if small else None
        for length in LENGTHS:
            calls = gather_calls(storage, plain, theirs, length)
            useful = 2 * length * BATCH * sum(field[0, 0].nbytes for field in plain.values())
            seconds = medians(
                {**calls, "copy of 36 MB": copy}, rounds if useful < 1e6 else max(10, rounds // 3)
            )
            bound = useful / (2 * COPIED) * seconds.pop("copy of 36 MB")
            row = {
                "transitions": transitions,
                "envs": envs,
                "obs": observation,
                "length": length,
                "copy_us": bound * 1e6,
            }
            row |= {"us": {name: value * 1e6 for name, value in seconds.items()}}
            row |= {"share of the copy rate": bound / seconds["storage, out"]}
            row |= {"times storage": {name: value / seconds["storage"] for name, value in seconds.items()}}
            results.append(row)
            numbers = "  ".join(f"{name} {value * 1e6:.0f}" for name, value in seconds.items())
            print(
                f"{transitions:>9}×{envs:<3} obs {observation:<4}len {length:<3} copy {bound * 1e6:.0f}  "
                f"{numbers}",
                flush=True,
            )
        del storage, plain, theirs, calls
    return results


def bench_adding(rounds: int) -> list[dict[str, Any]]:
    """Index and storage together, the storage alone, and copy_ field by field into a tensor each; each row of
    the ring in its turn."""
    results = []
    print("adding a row of all environments, µs")
    for envs, (observation, action) in itertools.product((1, 64), ((17, 6), (376, 17))):
        fields = fields_of(observation, action)
        rows = 200_000 // envs
        storage, plain = make_rings(rows * envs, envs, fields)
        index = SequenceIndex(rows, envs, seed=0)
        values = {name: field[0].clone() for name, field in plain.items()}
        valid = torch.ones(envs, dtype=torch.bool)
        turn = itertools.cycle(range(rows))
        nbytes = sum(value.nbytes for value in values.values())
        source = torch.ones(nbytes // 4)
        targets = [torch.zeros(nbytes // 4) for _ in range(max(1, (64 << 20) // nbytes))]
        target = itertools.cycle(targets)

        def add(
            storage: SequenceStorage = storage,
            index: SequenceIndex = index,
            values: Any = values,
            valid: Tensor = valid,
        ) -> None:
            storage.write(index.write_position, values)
            index.append(valid)

        def write(storage: SequenceStorage = storage, turn: Any = turn, values: Any = values) -> None:
            storage.write(next(turn), values)

        def by_field(plain: Any = plain, turn: Any = turn, values: Any = values) -> None:
            row = next(turn)
            for name, value in values.items():
                plain[name][row].copy_(value)

        calls: Calls = {
            "append and write": add,
            "write": write,
            "append": lambda index=index, valid=valid: index.append(valid),
            "copy_ field by field": by_field,
            "one copy_ of the bytes": lambda target=target, source=source: next(target).copy_(source),
            "copy_ of nothing": lambda nothing=source[:0]: nothing.copy_(nothing),
        }
        seconds = medians(calls, rounds, repeats=100)
        results.append(
            {
                "envs": envs,
                "obs": observation,
                "bytes": nbytes,
                "us": {name: value * 1e6 for name, value in seconds.items()},
            }
        )
        numbers = "  ".join(f"{name} {value * 1e6:.2f}" for name, value in seconds.items())
        print(f"{envs:>3} × {nbytes // envs} bytes  {numbers}", flush=True)
    return results


def bench_drawing(rounds: int) -> list[dict[str, Any]]:
    results = []
    print("drawing 256 windows of 8 rows, µs")
    for rows, envs, share in itertools.product((100_000, 1_000_000, 10_000_000), (1,), (0.99, 0.01)):
        index = SequenceIndex(rows, envs, seed=0)
        state = index.state_dict()
        flags = torch.rand(8 * len(state["valid"]), generator=torch.Generator().manual_seed(0)) < share
        flags[rows * envs :] = False
        bits = (flags.view(-1, 8) * 2 ** torch.arange(8)).sum(1).to(torch.uint8)
        index.load_state_dict(state | {"rows": rows, "write_position": 123, "valid": bits})
        seconds = medians({"sample": lambda index=index: index.sample(BATCH, 8)}, rounds, repeats=20)[
            "sample"
        ]
        results.append({"rows": rows, "envs": envs, "share of transitions": share, "us": seconds * 1e6})
        print(f"{rows:>9} rows, {share:.0%} transitions  {seconds * 1e6:.2f}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "drawing": bench_drawing(options.rounds),
        "adding": bench_adding(options.rounds),
        "gathering": bench_gathering(options.rounds),
    }
    if options.write:
        print(
            "written to", record.write_result("gather-sequences", {"threads": 1, "batch": BATCH, **results})
        )


if __name__ == "__main__":
    main()
