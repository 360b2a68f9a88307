"""Times every op of OP_CASES against its reference, others' functions and simple native loops, in one process
with one thread.

Beside what a call takes, an op with native peers has its kernel timed alone (no allocation, no dispatcher),
in turns with the peers' kernels and a plain copy, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fastrl import native
from fastrl.testing import OP_CASES, OpCase, outputs_of

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# others' functions for an op: PEERS and GPU_PEERS of <op>_peers.py
MODULES = {
    name: importlib.import_module(f"{name}_peers")
    for name in OP_CASES
    if (HERE / f"{name}_peers.py").exists()
}
PEERS = {name: module.PEERS for name, module in MODULES.items()}
GPU_PEERS = {name: module.GPU_PEERS for name, module in MODULES.items()}
NATIVE_KERNELS = (
    "kernel µs",
    "C++ loop over columns, vectorised µs",
    "C++ loop down columns µs",
    "C++ loop row by row, as written µs",
)
Sizes = tuple[int, ...]

REFERENCE = "reference (plain torch, float64)"
ROUND_SECONDS = (
    1e-4  # a round repeats a call until it takes about this long: the clock itself then costs nothing
)
PEER_SECONDS = 0.4  # spent on a peer, if five rounds do not take longer

Entry = tuple[OpCase, Sizes]


def cases(*, gpu: bool) -> list[Entry]:
    return [
        (case, sizes)
        for case in OP_CASES.values()
        for sizes in (*case.bench_sizes, *(case.gpu_bench_sizes if gpu else ()))
    ]


def parameters(entries: list[Entry], peers: Mapping[str, Iterable[str]] | None = None) -> list[Any]:
    """An entry each, or, given names of peers by op, one for each entry and peer."""
    with_peers = [
        (case, sizes, peer)
        for case, sizes in entries
        for peer in (peers.get(case.name, ()) if peers else (None,))
    ]
    return [
        pytest.param(
            *filter(None, (case, sizes, peer)),
            id="-".join(filter(None, (case.name, "x".join(map(str, sizes)), peer))),
        )
        for case, sizes, peer in with_peers
    ]


CPU, GPU = cases(gpu=False), cases(gpu=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs_for(case: OpCase, sizes: Sizes, device: str = "cpu") -> dict[str, Any]:
    inputs = case.inputs(sizes, device=device, **dict.fromkeys(case.optional))
    if "truncated" in inputs:
        inputs["truncated"].zero_()
    return inputs


def native_seconds(case: OpCase, inputs: dict[str, Any], repeats: int) -> list[list[float]]:
    """[kernel][repeat] seconds inside the native code."""
    outputs = [torch.zeros_like(output) for output in outputs_of(case.op(**inputs))]
    clock = torch.zeros(repeats, dtype=torch.float64)
    seconds = getattr(torch.ops.fastrl_dev, f"{case.name}_seconds").default
    tensors = [value for value in inputs.values() if isinstance(value, torch.Tensor)]
    warm_up = torch.zeros(
        2, dtype=torch.float64
    )  # the copy before has emptied the caches, at the cost of whoever comes first
    found = []
    for kernel in range(len(NATIVE_KERNELS)):
        seconds(*tensors, *outputs, warm_up, kernel)
        found.append(seconds(*tensors, *outputs, clock, kernel).tolist())
    return found


def copy_rate(megabytes: int = 36) -> Callable[[], float]:
    """A function that copies once and gives bytes per second, read and written together."""
    source = torch.ones(megabytes << 18)
    target = torch.empty_like(source)

    def once() -> float:
        start = time.perf_counter()
        target.copy_(source)
        return 2 * source.numel() * 4 / (time.perf_counter() - start)

    once()
    return once


def clone_rate(megabytes: int = 36) -> float:
    """Bytes per second, read and written together, of a copy into fresh memory: what a result of that size
    costs before any arithmetic."""
    source = torch.ones(megabytes << 18)
    start = time.perf_counter()
    source.clone()
    return 2 * source.numel() * 4 / (time.perf_counter() - start)


def inside(case: OpCase, sizes: Sizes, inputs: dict[str, Any]) -> dict[str, float]:
    """Medians over turns of: the kernels alone, a copy of 36 MB, and the kernel's useful bytes per second as
    a share of that copy."""
    elements = 1
    for size in sizes:
        elements *= size
    turns, repeats = 15, max(1, min(300, 400_000 // elements))
    copy = copy_rate()
    times: list[list[float]] = [[] for _ in NATIVE_KERNELS]
    rates = []
    for _ in range(turns):
        rates.append(copy())
        for collected, seconds in zip(times, native_seconds(case, inputs, repeats), strict=True):
            collected.append(statistics.median(seconds))
    medians = [statistics.median(collected) for collected in times]
    rate = statistics.median(rates)
    return {
        **{name: median * 1e6 for name, median in zip(NATIVE_KERNELS, medians, strict=True)},
        "copy GB/s": rate / 1e9,
        "copy into fresh memory GB/s": statistics.median(clone_rate() for _ in range(turns)) / 1e9,
        "kernel GB/s": case.bench_bytes(sizes) / medians[0] / 1e9,
        "kernel's share of the copy rate": case.bench_bytes(sizes) / medians[0] / rate,
    }


def two_threads(case: OpCase, inputs: dict[str, Any]) -> dict[str, float]:
    """Medians of the call with one and two threads, in turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(25):
        for threads, collected in times.items():
            torch.set_num_threads(threads)
            case.op(**inputs)
            start = time.perf_counter()
            case.op(**inputs)
            collected.append(time.perf_counter() - start)
    torch.set_num_threads(1)
    return {
        f"call with {threads} thread{'s' * (threads > 1)} µs": statistics.median(collected) * 1e6
        for threads, collected in times.items()
    }


@pytest.mark.parametrize(("case", "sizes"), parameters(CPU))
def test_fastrl(benchmark: Any, case: OpCase, sizes: Sizes) -> None:
    inputs = inputs_for(case, sizes)
    extra: dict[str, float] = {}
    if native.DEV_LIBRARY.exists():
        torch.ops.load_library(str(native.DEV_LIBRARY))
        if hasattr(torch.ops.fastrl_dev, f"{case.name}_seconds"):
            extra |= inside(case, sizes, inputs)
    extra |= two_threads(case, inputs)
    benchmark.extra_info.update(op=case.name, device="cpu", sizes=sizes, peer="fastrl", inside=extra)
    benchmark(lambda: case.op(**inputs))


@pytest.mark.parametrize(("case", "sizes"), parameters(CPU))
def test_reference(benchmark: Any, case: OpCase, sizes: Sizes) -> None:
    inputs = inputs_for(case, sizes)
    benchmark.extra_info.update(op=case.name, device="cpu", sizes=sizes, peer=REFERENCE)
    benchmark.pedantic(lambda: case.reference(**inputs), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize(("case", "sizes", "peer"), parameters(CPU, PEERS))
def test_peers(benchmark: Any, request: pytest.FixtureRequest, case: OpCase, sizes: Sizes, peer: str) -> None:
    run_peer(benchmark, request, case, sizes, peer, "cpu")


def run_peer(
    benchmark: Any, request: pytest.FixtureRequest, case: OpCase, sizes: Sizes, peer: str, device: str
) -> None:
    inputs = inputs_for(case, sizes, device)
    try:
        call = PEERS[case.name][peer](inputs)
    except ImportError as error:
        reason = f"{peer}: {error} (pip install 'fastrl[bench-peers]')"
        request.config.skipped_peers = getattr(request.config, "skipped_peers", set()) | {reason}  # type: ignore[attr-defined]
        pytest.skip(reason)
    torch.testing.assert_close(
        call().float(), outputs_of(case.op(**inputs))[0], rtol=1e-3, atol=1e-3
    )  # it computes the same thing
    benchmark.extra_info.update(op=case.name, device=device, sizes=sizes, peer=peer)
    timed = call if device == "cpu" else synchronised(call)
    took = seconds(timed)
    rounds = max(5, min(200, int(PEER_SECONDS / max(took, ROUND_SECONDS))))
    benchmark.pedantic(timed, rounds=rounds, iterations=max(1, int(ROUND_SECONDS / took)), warmup_rounds=2)


def seconds(call: Callable[[], Any]) -> float:
    """What one call takes, roughly."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def synchronised(call: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        call()
        torch.cuda.synchronize()

    return run


def gpu_microseconds(call: Callable[[], Any], repeats: int = 100) -> float:
    """Time of one call on the GPU's own clock, the calls queued one behind the other."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    call()
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats * 1e3


@pytest.fixture
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that this torch can use")
    if not native.CUDA_LIBRARY.exists():
        pytest.skip("the CUDA ops were not built (no nvcc, or FASTRL_CUDA=off)")


@pytest.mark.cuda
@pytest.mark.parametrize(("case", "sizes"), parameters(GPU))
def test_fastrl_on_gpu(benchmark: Any, gpu: None, case: OpCase, sizes: Sizes) -> None:
    inputs = inputs_for(case, sizes, "cuda")
    source = torch.ones(64 << 20, device="cuda")
    target = torch.empty_like(source)
    rate = 2 * source.numel() * 4 / gpu_microseconds(lambda: target.copy_(source)) / 1e3
    took = gpu_microseconds(lambda: case.op(**inputs))
    useful = case.bench_bytes(sizes) / took / 1e3
    extra = {
        "on the GPU's clock µs": took,
        "copy GB/s": rate,
        "GB/s": useful,
        "share of the copy rate": useful / rate,
    }
    benchmark.extra_info.update(op=case.name, device="cuda", sizes=sizes, peer="fastrl", inside=extra)
    benchmark(synchronised(lambda: case.op(**inputs)))


@pytest.mark.cuda
@pytest.mark.parametrize(("case", "sizes"), parameters(GPU))
def test_reference_on_gpu(benchmark: Any, gpu: None, case: OpCase, sizes: Sizes) -> None:
    inputs = inputs_for(case, sizes, "cuda")
    benchmark.extra_info.update(op=case.name, device="cuda", sizes=sizes, peer=REFERENCE)
    benchmark.pedantic(synchronised(lambda: case.reference(**inputs)), rounds=3, warmup_rounds=1)


@pytest.mark.cuda
@pytest.mark.parametrize(("case", "sizes", "peer"), parameters(GPU, GPU_PEERS))
def test_peers_on_gpu(
    benchmark: Any, request: pytest.FixtureRequest, gpu: None, case: OpCase, sizes: Sizes, peer: str
) -> None:
    run_peer(benchmark, request, case, sizes, peer, "cuda")
