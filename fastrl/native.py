"""The native libraries: where they lie, loading them once, what they were built from."""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
OPS_LIBRARY = FOLDER / "libfastrl_ops.so"
CUDA_LIBRARY = FOLDER / "libfastrl_ops_cuda.so"
DEV_LIBRARY = FOLDER / "libfastrl_dev.so"  # in-place builds only: what tests and benches compare with
OLDEST_TORCH = (2, 11)
REBUILD = "build it with `pip install .` or, in a checkout, `make build`"


class NativeLibraryError(ImportError):
    """A native library of fastrl is missing or does not fit this torch; the message says what to do."""


@functools.cache
def load_ops() -> None:
    """Load the ops into `torch.ops.fastrl`, with their CUDA half where torch has CUDA.

    Further calls cost nothing.

    Raises: NativeLibraryError if torch is too old, or the ops were not built.
    """
    check_torch_version(torch.__version__)
    if not OPS_LIBRARY.exists():
        raise NativeLibraryError(f"fastrl: {OPS_LIBRARY.name} is not in {FOLDER}; {REBUILD}")
    _load(OPS_LIBRARY)
    if torch.version.cuda and CUDA_LIBRARY.exists():
        # the CUDA library leaves torch's CUDA symbols open, so that it can be built beside a CPU torch: show
        # them to it
        for library in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cuda*.so")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        _load(CUDA_LIBRARY)


def check_torch_version(version: str) -> None:
    """Raises NativeLibraryError if torch `version` lacks the stable interface that the ops are built on."""
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if found < OLDEST_TORCH:
        raise NativeLibraryError(
            f"fastrl: needs torch 2.11 or later, but torch {version} is installed; run `pip install "
            "--upgrade 'torch>=2.11'`"
        )


def build_info() -> dict[str, object]:
    """What was built: versions, compilers, CUDA architectures ("" without CUDA), sanitizers, libraries.

    Raises: NativeLibraryError if nothing was built.
    """
    info: dict[str, object] = dict(load_module().build_info())
    info["ops_library"] = OPS_LIBRARY.exists()
    info["cuda_library"] = CUDA_LIBRARY.exists()
    return info


def load_module() -> Any:
    """The module of native state, `fastrl._native`.

    Raises: NativeLibraryError if it was not built.
    """
    try:
        return importlib.import_module("fastrl._native")
    except ImportError as error:
        raise NativeLibraryError(
            f"fastrl: the native module cannot be imported ({error}); {REBUILD}"
        ) from error


def _load(library: Path) -> None:
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise NativeLibraryError(
            f"fastrl: {library.name} cannot be loaded beside torch {torch.__version__} ({error}); {REBUILD}"
        ) from error
