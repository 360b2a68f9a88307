"""Shared by all tests. Imports torch alone: the op tests run on machines without Gymnasium or EnvPool."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch


def pytest_configure() -> None:
    """Ctrl-C and SIGHUP work in tests also where they are started in the background or by nohup, which have
    them ignored from birth."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--slow: gigabytes and minutes are welcome."""
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked slow are for `make test-slow`."""
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: make test-slow"))


def why_no_gpu() -> str | None:
    """The reason why ops cannot be tested on a GPU here, or None if they can."""
    from fastrl.native import CUDA_LIBRARY

    if not torch.cuda.is_available():
        return "no GPU that this torch can use"
    if not CUDA_LIBRARY.exists():
        return "the CUDA ops were not built (no nvcc, or FASTRL_CUDA=off)"
    return None


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each test that asks for a device runs on the CPU, and on a GPU where there is one."""
    if request.param == "cuda" and (reason := why_no_gpu()):
        pytest.skip(reason)
    return torch.device(request.param)


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Restores torch's thread count after a test that changes it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
