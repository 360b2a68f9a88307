"""What was built: it loads beside every torch from 2.11 on, says what it is, and complains in one
sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastrl
from fastrl import native

LIBRARIES = [native.OPS_LIBRARY, native.CUDA_LIBRARY]
ROOT = Path(__file__).parents[1]
# Symbols of torch's C interface: present in 2.11 and kept by its promise of stability. The CUDA half is
# resolved when it is loaded.
STABLE = re.compile(r"^(aoti_torch_|torch_)\w+$")
SYSTEM = re.compile(
    r"@(GLIBC|GLIBCXX|CXXABI|GCC|LIBGOMP|OMP)|^(__gmon_start__|_ITM_\w+|__asan_\w+|__ubsan_\w+)$"
)


def undefined_symbols(library: Path) -> list[str]:
    if not library.exists():
        pytest.skip(f"{library.name} was not built")
    if not (nm := shutil.which("nm")):
        pytest.skip("reading symbols needs nm")
    listing = subprocess.run(
        [nm, "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout
    return [line.split()[-1] for line in listing.splitlines()]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_only_stable_symbols_of_torch_are_needed(library: Path) -> None:
    symbols = undefined_symbols(library)
    assert symbols
    unstable = [name for name in symbols if not SYSTEM.search(name) and not STABLE.match(name)]
    assert unstable == [], "a symbol of torch's C++ interface ties the binary to one version of torch"


def test_no_symbol_newer_than_torch_2_11_is_needed() -> None:
    # torch's header says since when a symbol exists; what is undeclared when 2.11 is targeted must not be
    # used
    header = (Path(torch.__file__).parent / "include/torch/csrc/stable/c/shim.h").read_text()
    newer = header.split("TORCH_VERSION_2_12_0", 1)
    if len(newer) == 1:
        pytest.skip(f"torch {torch.__version__} has no symbols newer than 2.11")
    names = set(re.findall(r"\b(torch_\w+)\s*\(", newer[1])) - set(
        re.findall(r"\b(torch_\w+)\s*\(", newer[0])
    )
    assert names
    assert not names & {
        name for library in LIBRARIES if library.exists() for name in undefined_symbols(library)
    }


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_no_path_of_the_build_machine_remains(library: Path) -> None:
    undefined_symbols(library)
    readelf = shutil.which("readelf") or pytest.skip("reading the dynamic section needs readelf")
    listing = subprocess.run([readelf, "-d", library], capture_output=True, text=True, check=True).stdout
    assert "RPATH" not in listing and "RUNPATH" not in listing


def test_build_info_says_what_was_built() -> None:
    info = native.build_info()
    assert info["fastrl"] == fastrl.__version__
    assert re.match(r"\d+\.\d+", str(info["torch"]))
    assert re.match(r"(GNU|Clang|AppleClang|MSVC) \d+", str(info["compiler"]))
    assert info["ops_library"] is True
    assert info["sanitized"] in (True, False)
    assert bool(info["cuda_architectures"]) == bool(info["cuda_compiler"]) == info["cuda_library"]


@pytest.mark.parametrize("version", ["2.11.0", "2.13.0+cpu", "2.14.0a0+git1234", "3.0.1"])
def test_recent_torch_is_accepted(version: str) -> None:
    native.check_torch_version(version)


@pytest.mark.parametrize("version", ["1.13.1", "2.10.2+cu126"])
def test_old_torch_gives_one_sentence(version: str) -> None:
    with pytest.raises(native.NativeLibraryError) as caught:
        native.check_torch_version(version)
    message = str(caught.value)
    assert version in message and "torch>=2.11" in message and "\n" not in message


def test_missing_libraries_give_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "OPS_LIBRARY", tmp_path / "libfastrl_ops.so")
    with pytest.raises(
        native.NativeLibraryError, match=r"^fastrl: libfastrl_ops.so is not in .*pip install"
    ) as caught:
        native.load_ops.__wrapped__()
    assert "\n" not in str(caught.value)


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libfastrl_ops.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "OPS_LIBRARY", broken)
    with pytest.raises(
        native.NativeLibraryError, match=r"^fastrl: libfastrl_ops.so cannot be loaded beside torch"
    ):
        native.load_ops.__wrapped__()


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, fastrl; print([name for name in ('torch', 'numpy', 'gymnasium', 'envpool') if name in "
        "sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_ops_import_torch_alone() -> None:
    heavy = ("gymnasium", "envpool", "matplotlib", "rich")
    program = (
        f"import sys, fastrl.ops, fastrl.testing; print([name for name in {heavy} if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_setup_is_thin() -> None:
    setup = ROOT / "setup.py"
    lines = setup.read_text().splitlines()
    assert len(lines) <= 70, "sources and flags belong in CMakeLists.txt"
