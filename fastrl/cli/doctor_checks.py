"""The checks behind `fastrl doctor`.

Each returns findings and lets no error through: a broken part is a finding like any other.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastrl import __version__

OK, NOTE, PROBLEM = "ok", "note", "problem"
OLDEST_PYTHON = (3, 11)
REINSTALL = (
    "reinstall fastrl: `pip install --force-reinstall --no-deps .` in its source folder (in a checkout: "
    "`make build`)"
)


@dataclass(frozen=True)
class DoctorFinding:
    """What a check found, and what to do about it.

    The status is "ok", "note" (worth knowing, nothing is broken) or "problem".
    """

    name: str
    status: str
    detail: str
    advice: str = ""


def examine() -> list[DoctorFinding]:
    """All findings, from the ground up."""
    findings: list[DoctorFinding] = []
    for check in (
        _python,
        _torch,
        _cuda,
        _build,
        _ops_cpu,
        _ops_cuda,
        _envpool,
        _gymnasium,
        _threads,
        _wandb,
    ):
        findings += guarded(check)
    return findings


def guarded(check: Callable[[], list[DoctorFinding]]) -> list[DoctorFinding]:
    """The findings of `check`; if it raises, the error as a problem."""
    try:
        return check()
    except Exception as error:  # whatever is broken, the other checks go on
        name = check.__name__.strip("_").replace("_", " ")
        return [
            DoctorFinding(name, PROBLEM, f"{type(error).__name__}: {' '.join(str(error).split())}", REINSTALL)
        ]


def _python() -> list[DoctorFinding]:
    fits = sys.version_info[:2] >= OLDEST_PYTHON
    advice = "" if fits else "use Python 3.11 or later"
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return [
        DoctorFinding("fastrl", OK, __version__),
        DoctorFinding("python", OK if fits else PROBLEM, detail, advice),
    ]


def _torch() -> list[DoctorFinding]:
    try:
        import torch
    except ImportError as error:
        return [
            DoctorFinding("torch", PROBLEM, f"cannot be imported: {error}", "`pip install 'torch>=2.11'`")
        ]
    from fastrl.native import NativeLibraryError, check_torch_version

    try:
        check_torch_version(torch.__version__)
    except NativeLibraryError as error:
        return [DoctorFinding("torch", PROBLEM, str(error), "`pip install --upgrade 'torch>=2.11'`")]
    return [
        DoctorFinding(
            "torch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads unless a run sets them"
        )
    ]


def _cuda() -> list[DoctorFinding]:
    import torch

    if torch.version.cuda is None:
        return [
            DoctorFinding(
                "cuda",
                NOTE,
                "this torch is built for the CPU only",
                "for a GPU, install a CUDA build of torch (pytorch.org)",
            )
        ]
    if not torch.cuda.is_available():
        return [
            DoctorFinding(
                "cuda",
                NOTE,
                f"torch is built for CUDA {torch.version.cuda}, but sees no GPU",
                "see `nvidia-smi`",
            )
        ]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [DoctorFinding("cuda", OK, f"CUDA {torch.version.cuda}: {', '.join(names)}")]


def _build() -> list[DoctorFinding]:
    from fastrl.native import NativeLibraryError, build_info

    try:
        info = build_info()
    except NativeLibraryError as error:
        return [DoctorFinding("native module", PROBLEM, str(error), REINSTALL)]
    cuda = (
        f"CUDA ops by nvcc {info['cuda_compiler']} for {info['cuda_architectures']}"
        if info["cuda_architectures"]
        else "no CUDA ops"
    )
    sanitized = ", with sanitizers (slow; for tests)" if info["sanitized"] else ""
    detail = f"{info['build_type']} by {info['compiler']} against torch {info['torch']}, {cuda}{sanitized}"
    if info["fastrl"] != __version__:
        return [
            DoctorFinding(
                "native module",
                PROBLEM,
                f"built from fastrl {info['fastrl']}, but this is {__version__}: {detail}",
                REINSTALL,
            )
        ]
    return [DoctorFinding("native module", OK, detail)]


def _ops_cpu() -> list[DoctorFinding]:
    return [_try_op("ops on the CPU", "cpu")]


def _ops_cuda() -> list[DoctorFinding]:
    import torch

    from fastrl.native import CUDA_LIBRARY

    name = "ops on the GPU"
    if not torch.cuda.is_available():
        state = "built, not loaded" if CUDA_LIBRARY.exists() else "not built"
        return [DoctorFinding(name, NOTE, f"{state}: torch has no GPU here")]
    if not CUDA_LIBRARY.exists():
        advice = "install the CUDA toolkit (nvcc), then " + REINSTALL
        return [DoctorFinding(name, NOTE, "not built: there was no nvcc; device cpu works", advice)]
    return [_try_op(name, "cuda")]


def _try_op(name: str, device: str) -> DoctorFinding:
    """Load the ops and compare one with its reference: a library that loads may still not fit."""
    import torch

    try:
        from fastrl.ops import gae, gae_reference

        rewards, values = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.5], [0.25], [1.0], [2.0]])
        flags = torch.tensor([[False], [True], [False]]), torch.zeros(3, 1, dtype=torch.bool)
        inputs = [tensor.to(device) for tensor in (rewards, values, *flags)]
        computed = gae(*inputs, gamma=0.9, gae_lambda=0.8)
        expected = gae_reference(*inputs, gamma=0.9, gae_lambda=0.8)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return DoctorFinding(name, PROBLEM, " ".join(str(error).split()), REINSTALL)
    agree = all(
        torch.allclose(a.cpu().double(), b.cpu().double(), atol=1e-5)
        for a, b in zip(computed, expected, strict=True)
    )
    if not agree:
        return DoctorFinding(name, PROBLEM, "loaded, but gae differs from its reference", REINSTALL)
    return DoctorFinding(name, OK, "loaded; gae agrees with its reference")


def _envpool() -> list[DoctorFinding]:
    return [
        _try_import(
            "envpool",
            "it has most environments",
            lambda module: f"{len(module.list_all_envs())} environments",
        )
    ]


def _gymnasium() -> list[DoctorFinding]:
    return [
        _try_import(
            "gymnasium",
            "it is needed for environments",
            lambda module: f"{len(module.registry)} registered environments",
        )
    ]


def _try_import(package: str, why: str, describe: Callable[[Any], str]) -> DoctorFinding:
    try:
        module = importlib.import_module(package)
        return DoctorFinding(package, OK, f"{importlib.metadata.version(package)}, {describe(module)}")
    except Exception as error:  # a package that was built for other libraries fails in many ways
        reason = " ".join(str(error).split())
        return DoctorFinding(
            package, PROBLEM, f"{why}, but cannot be imported: {reason}", f"`pip install --upgrade {package}`"
        )


def _threads() -> list[DoctorFinding]:
    from fastrl.runs.threads import available_cores, choose_threads

    cores, all_cores = available_cores(), os.cpu_count() or 1
    of = f" of the machine's {all_cores}" if cores < all_cores else ""
    choice = choose_threads(16)
    detail = (
        f"{cores} cores{of}; a run with 16 environments and small networks: torch {choice.torch}, "
        f"environments {choice.env}"
    )
    return [DoctorFinding("threads", OK, detail)]


def _wandb() -> list[DoctorFinding]:
    try:
        return [DoctorFinding("wandb", OK, f"{importlib.metadata.version('wandb')} (for --track wandb)")]
    except importlib.metadata.PackageNotFoundError:
        return [DoctorFinding("wandb", NOTE, "not installed; only --track wandb needs it")]
